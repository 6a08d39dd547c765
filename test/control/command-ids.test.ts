// What a command's id stands for: nobody takes that of another, makes the ledger forget it, or fills the ledger.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createAllowance } from '../../node/control/allowance.ts';
import { readAnswer } from '../../node/control/controller-answers.ts';
import { checkCommandId, stepId } from '../../node/control/step-ids-core.ts';
import { encode } from '../../protocols/codec.ts';
import { type CommandEvent, type ControlAsk, controlProtocol } from '../../protocols/control.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { peerId } from './helpers.ts';
import { commitFirst, deployAll, endOf, errorOf, type Rig, startRig } from './rig.ts';

/** What the controller answers to a request that web1 made up. */
async function forged(rig: Rig, ask: ControlAsk): Promise<CommandEvent> {
  const signal = AbortSignal.timeout(10_000);
  const stream = await rig.fleet.componentsOf('web1').mesh.open(peerId('hub'), controlProtocol, { signal });
  await stream.send(encode(ask));
  const answer = await readAnswer(stream, signal);
  stream.abort(new Error('enough is known'));
  assert.ok(answer.kind === 'event');
  return answer.event;
}

function update(id: string, port: number): ControlAsk {
  const body = { peer: peerId('web1'), addresses: [`/ip4/127.0.0.1/tcp/${port}`], system: 'x86_64-linux' };
  return { kind: 'entry', version: 1, id, actor: 'root@web1', entry: { kind: 'member-updated', body } };
}

test('createControl() carries out a command whose id a member has used before', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  await rig.ask('v3', deployAll, { speakAs: 'dan', follow: false });
  await rig.fleet.until('it waits', ({ tasks }) => tasks.t2?.stage === 'approval');
  assert.equal((await forged(rig, update('the-approval', 77))).kind, 'end');
  await rig.ask('v2', { name: 'approve', task: 't2', plan: null }, { speakAs: 'ann', id: 'the-approval' });
  assert.equal(rig.fleet.entriesOf('approval-given').length, 1);
  assert.equal(rig.fleet.state().commands['the-approval']?.kind, 'approval-given');
});

test('createControl() refuses another command under a known id, and what it is about otherwise', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  const id = 'the-same-id';
  await rig.ask('v3', deployAll, { speakAs: 'dan', id, follow: false });
  const others = [
    await rig.ask('v3', deployAll, { id }),
    await rig.ask('v3', { name: 'update', inputs: [] }, { speakAs: 'dan', id }),
    await rig.ask('v3', { name: 'abort', task: 't2' }, { speakAs: 'dan', id }),
    await rig.ask('hub', { name: 'peers-remove', host: 'web1' }, { id }),
    await rig.ask('v3', { ...deployAll, keepGoing: !deployAll.keepGoing }, { speakAs: 'dan', id }),
  ];
  assert.deepEqual(
    others.map((events) => errorOf(events).code),
    Array(5).fill('id-taken'),
  );
  await rig.fleet.until('it waits', ({ tasks }) => tasks.t2?.stage === 'approval');
  await rig.ask('hub', { name: 'abort', task: 't2' }, { id: 'an-abort' });
  assert.equal(errorOf(await rig.ask('hub', { name: 'abort', task: 't1' }, { id: 'an-abort' })).code, 'id-taken');
  endOf(await rig.ask('v2', { name: 'abort', task: 't2' }, { id: 'an-abort' }));
});

test('createControl() keeps the ids of steps apart from those of commands, and says none before its use', async (t) => {
  const rig = await startRig(t);
  await rig.ask('hub', { name: 'commit', message: 'first' }, { id: 'the-commit', workFolder: '/work' });
  const [staged, intended] = [rig.fleet.entriesOf('draft-staged')[0], rig.fleet.entriesOf('commit-intended')[0]];
  assert.match(staged?.commandId ?? '', /^step:draft:[0-9a-f]{64}$/);
  assert.equal(intended?.commandId, 'the-commit');
  const stolen = await rig.ask('hub', { name: 'discard' }, { id: stepId('commit', 'the-deploy') });
  assert.equal(errorOf(stolen).code, 'id-reserved');
  assert.doesNotThrow(() => checkCommandId('a:fine:id'));
});

test('createControl() takes no more entries of a member on its own word than it may fill the ledger with', async (t) => {
  const rig = await startRig(t);
  await commitFirst(rig);
  const before = rig.fleet.entriesOf('member-updated').length;
  await forged(rig, update('flood-0000', 1));
  await forged(rig, update('flood-again', 1));
  assert.equal(rig.fleet.entriesOf('member-updated').length, before + 1, 'what changes nothing is no entry');
  const codes: string[] = [];
  for (let port = 2; port < 40; port += 1) {
    const event = await forged(rig, update(`flood-${1_000 + port}`, port));
    codes.push(event.kind === 'error' ? event.error.code : event.kind);
  }
  const taken = codes.filter((code) => code === 'end').length;
  // Nine by the count; a slow machine may get one or two back meanwhile.
  assert.ok(taken >= 9 && taken < 14 && codes.every((code) => code === 'end' || code === 'busy'), codes.join(' '));
  assert.equal(rig.fleet.entriesOf('member-updated').length, before + 1 + taken);
  assert.ok(!Object.keys(rig.fleet.state().commands).some((id) => id.startsWith('flood-')));
  const asked = { version: 1, command: { name: 'rollback', host: 'web1' }, actor: 'root@web1', follow: false } as const;
  const refusals = new Set<string>();
  for (let count = 0; count < 12; count += 1) {
    const event = await forged(rig, { kind: 'command', request: { ...asked, id: `rollback-${count}` } });
    if (event.kind === 'error') refusals.add(event.error.code);
  }
  assert.ok(refusals.has('busy'), 'what a member asks for counts as what it says');
  assert.equal(endOf(await rig.ask('web1', { name: 'status' })).outcome, 'succeeded');
});

test('createAllowance() gives each member its own, and gives it back with time', () => {
  const clock = createManualClock();
  const allowance = createAllowance(clock);
  const busy = { code: 'busy', retryable: true };
  for (let count = 0; count < 10; count += 1) allowance.take('a');
  assert.throws(() => allowance.take('a'), busy);
  allowance.take('b');
  clock.advance(10_000);
  allowance.take('a');
  assert.throws(() => allowance.take('a'), busy);
  clock.advance(1_000_000);
  for (let count = 0; count < 10; count += 1) allowance.take('a');
  assert.throws(() => allowance.take('a'), busy);
});
