// Who becomes a member: whoever proves to have a token, whichever member carries the proof, and nobody else.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readAnswer } from '../../node/control/controller-answers.ts';
import { encode } from '../../protocols/codec.ts';
import { type CommandEvent, controlProtocol } from '../../protocols/control.ts';
import type { EntryBody } from '../../protocols/ledger-entries.ts';
import { inviteHash, joining } from '../helpers/invites.ts';
import { peerId } from './helpers.ts';
import { type Rig, startRig } from './rig.ts';

const system = 'x86_64-linux';
const addresses = ['/ip4/10.0.0.9/tcp/4400'];
const builderKey = `web9-1:${'A'.repeat(43)}=`;
const factsOf = (name: string, voterKey = peerId(`${name} votes`)) => ({
  ...{ peer: peerId(name), addresses, system, builderKey, voterKey },
});

function openInvite(rig: Rig, secret: string): void {
  const body = {
    ...{ keyHash: inviteHash(secret), name: 'web9', site: 'home', expiresAtMs: 4e12 },
    roles: ['member' as const, 'voter' as const, 'builder' as const],
  };
  rig.fleet.apply({ kind: 'invite-opened', actor: 'root@hub', body });
}

let asks = 0;

/** What the controller answers a member that forwards the entry by itself. */
async function forward(rig: Rig, sender: string, body: EntryBody<'member-joined'>): Promise<CommandEvent> {
  asks += 1;
  const signal = AbortSignal.timeout(10_000);
  const stream = await rig.fleet.componentsOf(sender).mesh.open(peerId('hub'), controlProtocol, { signal });
  const entry = { kind: 'member-joined', body };
  await stream.send(encode({ kind: 'entry', version: 1, id: `forwarded-${asks}`, actor: `root@${sender}`, entry }));
  const answer = await readAnswer(stream, signal);
  assert.ok(answer.kind === 'event');
  return answer.event;
}

async function refused(code: string, rig: Rig, body: EntryBody<'member-joined'>): Promise<void> {
  const before = rig.fleet.entries.length;
  const event = await forward(rig, 'web1', body);
  assert.equal(event.kind === 'error' ? event.error.code : event.kind, code);
  assert.equal(rig.fleet.entries.length, before, 'what is refused does not reach the ledger');
}

test('the controller takes no join from a member that does not hold the token', async (t) => {
  const rig = await startRig(t);
  openInvite(rig, 'the secret');
  const { fleet } = rig.fleet.state();
  const genuine = joining(fleet, 'the secret', factsOf('web9'));
  await refused('join-unproven', rig, { ...genuine, peer: peerId('evil') });
  await refused('join-unproven', rig, { ...genuine, builderKey: `evil-1:${'A'.repeat(43)}=` });
  await refused('invite-unknown', rig, joining(fleet, 'a guess', factsOf('evil')));
  assert.equal((await forward(rig, 'web1', genuine)).kind, 'end');
  assert.equal(rig.fleet.state().members[peerId('web9')]?.builderKey, builderKey);
  await refused('invite-used', rig, joining(fleet, 'the secret', factsOf('web10')));
});

test('a member cannot give a voter another key with the invite that the voter has used', async (t) => {
  const rig = await startRig(t);
  const { members } = rig.fleet.state();
  const before = rig.fleet.entries.length;
  const joined = rig.fleet.entriesOf('member-joined').find(({ body }) => body.peer === peerId('v2'));
  assert.ok(joined !== undefined);
  await refused('join-unproven', rig, { ...joined.body, voterKey: peerId('a key of web1') });
  assert.equal((await forward(rig, 'web1', joined.body)).kind, 'end');
  assert.equal(rig.fleet.entries.length, before, 'what changes nothing does not reach the ledger');
  assert.deepEqual(rig.fleet.state().members, members);
});

test('admit() grants the same again to who joined, and no vote to a key that the ledger does not know', async (t) => {
  const rig = await startRig(t);
  openInvite(rig, 'the secret');
  const { fleet } = rig.fleet.state();
  const admit = (facts: ReturnType<typeof factsOf>) =>
    rig.controls.get('web1')?.admit({ ...joining(fleet, 'the secret', facts), ...facts });
  const grant = await admit(factsOf('web9'));
  assert.ok(grant !== undefined && grant.raftId > 0);
  assert.deepEqual(await admit(factsOf('web9')), grant);
  assert.deepEqual(await admit(factsOf('web9', peerId('another key'))), { ...grant, raftId: 0 });
  await assert.rejects(async () => admit(factsOf('web10')), { code: 'invite-used' });
});
