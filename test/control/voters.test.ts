// The commands about voters and members, at the controls of a fleet in one process: what they propose, what they refuse,
// what they wait for.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ViewFacts } from '../../node/control/views-core.ts';
import { votersView } from '../../node/control/voters-view-core.ts';
import { check } from '../../protocols/codec.ts';
import type { Command } from '../../protocols/control.ts';
import { inviteViewSchema, statusViewSchema, votersViewSchema } from '../../protocols/views.ts';
import { inviteHash, joining } from '../helpers/invites.ts';
import { peerId, sampleBeat } from './helpers.ts';
import { endOf, errorOf, type Rig, startRig, viewOf } from './rig.ts';

const factsOf = (name: string, voterKey: string) => ({
  ...{ peer: peerId(name), addresses: [], system: 'x86_64-linux' },
  voterKey: peerId(voterKey),
});

/** Voters hub, v2 and v3 in force; web1 and web2 take part. */
async function threeVoters(t: Parameters<typeof startRig>[0]): Promise<Rig> {
  const rig = await startRig(t, { times: 20 });
  rig.fleet.vote('hub', 'v2', 'v3');
  return rig;
}

/** A peer with that key joins under the name. */
function enrol(rig: Rig, name: string, key: string): void {
  const { fleet, timeMs } = rig.fleet.state();
  const invite = { name, site: 'home', roles: ['member' as const], expiresAtMs: timeMs + 1_000_000 };
  rig.fleet.apply({ kind: 'invite-opened', actor: 'root@hub', body: { ...invite, keyHash: inviteHash(key) } });
  const facts = { peer: peerId(key), addresses: [], system: 'x86_64-linux' };
  rig.fleet.apply({ kind: 'member-joined', actor: 'controller', body: joining(fleet, key, facts) });
}

const shown = async (rig: Rig) => check(votersViewSchema, viewOf(await rig.ask('web2', { name: 'voters' }), 'voters'));

/** Takes a peer away and waits until the controller has noticed. */
async function takeAway(rig: Rig, name: string): Promise<void> {
  const { presence } = rig.controls.get('hub') ?? assert.fail('no control');
  const gone = Promise.withResolvers<void>();
  presence.onChange(() => !presence.of(peerId(name)).online && gone.resolve());
  rig.fleet.kill(name);
  await gone.promise;
}

test('voters shows who votes and what loss the fleet survives', async (t) => {
  const rig = await threeVoters(t);
  const view = await shown(rig);
  assert.deepEqual(
    view.voters.map(({ name, standing, raftId }) => [name, standing, raftId]),
    [
      ['hub', 'votes', 1],
      ['v2', 'votes', 2],
      ['v3', 'votes', 3],
    ],
  );
  assert.deepEqual([view.majority, view.spare, view.change, view.warnings], [2, 1, null, []]);
  assert.equal(view.current, true);
});

test('status and voters say which voter is held up, and what to do about it', async (t) => {
  const rig = await threeVoters(t);
  const { presence } = rig.controls.get('hub') ?? assert.fail('no control');
  const heard = async (isTroubled: boolean): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = (): void => {
      if ((presence.of(peerId('v3')).beat?.trouble !== undefined) === isTroubled) resolve();
    };
    const unsubscribe = presence.onChange(look);
    look();
    await promise.finally(unsubscribe);
  };
  const status = async () => check(statusViewSchema, viewOf(await rig.ask('web1', { name: 'status' }), 'status'));
  const message = "cannot write to the store '/state/consensus': no space is left";
  rig.fleet.failures.set('v3', { code: 'disk-full', message, hint: 'Free some space.', retryable: true });
  rig.fleet.lead('hub');
  await heard(true);
  const view = await status();
  assert.deepEqual(view.warnings, [`v3 is held up: ${message}. Free some space.`]);
  assert.equal(view.peers.find(({ name }) => name === 'v3')?.trouble, `${message}. Free some space.`);
  assert.deepEqual((await shown(rig)).warnings, view.warnings);
  rig.fleet.failures.clear();
  rig.fleet.lead('hub');
  await heard(false);
  assert.deepEqual((await status()).warnings, []);
});

test('voters add follows until the member votes', async (t) => {
  const rig = await threeVoters(t);
  const adding = rig.ask('v2', { name: 'voters-add', host: 'web1' });
  await rig.fleet.until('it is to vote', ({ members }) => members[peerId('web1')]?.roles.includes('voter') === true);
  const { change } = await shown(rig);
  assert.deepEqual(change, { text: 'web1 is to vote', waitsFor: 'web1 to make its voting key' });
  rig.fleet.apply({ kind: 'member-updated', actor: 'root@web1', body: factsOf('web1', 'web1 votes') });
  rig.fleet.vote('hub', 'v2', 'v3', 'web1');
  assert.equal(endOf(await adding).text, 'hub, v2, v3, web1 vote now');
});

test('voters add says what it waits for when the member is away, and is applied once', async (t) => {
  const rig = await threeVoters(t);
  await takeAway(rig, 'web1');
  const command: Command = { name: 'voters-add', host: 'web1' };
  const end = endOf(await rig.ask('hub', command, { id: 'add-web1' }));
  assert.equal(end.outcome, 'succeeded');
  assert.match(end.waitsFor ?? '', /^web1, which (is away|was not seen yet)$/);
  const again = endOf(await rig.ask('v2', command, { id: 'add-web1', follow: false }));
  assert.match(again.text, /web1 is to vote; that waits for web1/);
  assert.equal(rig.fleet.entriesOf('voter-added').length, 1);
});

test('voters replace proposes one change for both', async (t) => {
  const rig = await threeVoters(t);
  const replacing = rig.ask('hub', { name: 'voters-replace', host: 'v3', by: 'web1' });
  await rig.fleet.until('it is proposed', ({ members }) => members[peerId('web1')]?.replaces === peerId('v3'));
  assert.equal((await shown(rig)).change?.text, 'web1 is to vote in place of v3');
  rig.fleet.apply({ kind: 'member-updated', actor: 'root@web1', body: factsOf('web1', 'web1 votes') });
  rig.fleet.vote('hub', 'v2', 'web1');
  assert.equal(endOf(await replacing).text, 'hub, v2, web1 vote now');
});

test('voters remove warns of what is left', async (t) => {
  const rig = await threeVoters(t);
  const removing = rig.ask('hub', { name: 'voters-remove', host: 'v3' });
  await rig.fleet.until('it is to vote no more', ({ members }) => !members[peerId('v3')]?.roles.includes('voter'));
  assert.equal((await shown(rig)).voters.at(-1)?.standing, 'leaving');
  rig.fleet.vote('hub', 'v2');
  const { text } = endOf(await removing);
  assert.equal(text, 'hub, v2 vote now; with two voters the loss of either stops the fleet: add a third');
  const status = check(statusViewSchema, viewOf(await rig.ask('hub', { name: 'status' }), 'status'));
  assert.deepEqual(status.warnings, ['with two voters the loss of either stops the fleet: add a third']);
});

test('peers remove ends when nothing counts on the peer any more', async (t) => {
  const rig = await threeVoters(t);
  assert.equal(
    endOf(await rig.ask('hub', { name: 'peers-remove', host: 'web2' })).text,
    'web2 was removed; hub, v2, v3 vote now',
  );
  const removing = rig.ask('hub', { name: 'peers-remove', host: 'v3' });
  await rig.fleet.until('it leaves', ({ members }) => members[peerId('v3')]?.leaving === true);
  rig.fleet.vote('hub', 'v2');
  assert.match(endOf(await removing).text, /^v3 was removed; hub, v2 vote now; with two voters/);
  assert.deepEqual(
    Object.values(rig.fleet.state().members)
      .map(({ name }) => name)
      .sort(),
    ['hub', 'v2', 'web1'],
  );
});

test('commands about voters take a known id for the same peers alone, and do nothing else under it', async (t) => {
  const rig = await threeVoters(t);
  const give = (command: Command, id: string) => rig.ask('v2', command, { id, follow: false });
  const taken = async (command: Command, id: string) => errorOf(await give(command, id)).code === 'id-taken';
  endOf(await give({ name: 'voters-add', host: 'web1' }, 'an-addition'));
  assert.ok(await taken({ name: 'voters-add', host: 'web2' }, 'an-addition'));
  assert.ok(await taken({ name: 'voters-replace', host: 'v3', by: 'web1' }, 'an-addition'));
  assert.match(endOf(await give({ name: 'voters-add', host: 'web1' }, 'an-addition')).text, /^web1 is to vote/);
  endOf(await give({ name: 'peers-remove', host: 'web1' }, 'a-removal'));
  assert.ok(await taken({ name: 'peers-remove', host: 'v3' }, 'a-removal'));
  assert.equal(errorOf(await give({ name: 'peers-remove', host: 'gone9' }, 'a-removal')).code, 'unknown-host');
  const { members } = rig.fleet.state();
  assert.deepEqual(members[peerId('v3')]?.roles, ['member', 'voter']);
  assert.deepEqual(members[peerId('web2')]?.roles, ['member']);
  assert.equal(rig.fleet.entriesOf('voter-added').length + rig.fleet.entriesOf('member-removed').length, 2);
  // The peers that a command named are still known when they are gone.
  assert.match(endOf(await give({ name: 'peers-remove', host: 'web1' }, 'a-removal')).text, /^web1 was removed;/);
  assert.match(endOf(await give({ name: 'voters-add', host: 'web1' }, 'an-addition')).text, /vote now$/);
});

test('peers remove, asked again, tells a peer that has its name or is back from the one that was removed', async (t) => {
  const rig = await threeVoters(t);
  const remove = () => rig.ask('hub', { name: 'peers-remove', host: 'web2' }, { id: 'a-removal' });
  endOf(await remove());
  enrol(rig, 'web2', 'web2 made anew');
  assert.match(endOf(await remove()).text, /^web2 was removed;/);
  rig.fleet.apply({ kind: 'member-removed', actor: 'root@hub', body: { peer: peerId('web2 made anew') } });
  enrol(rig, 'web2', 'web2');
  const { code, message } = errorOf(await remove());
  assert.deepEqual([code, message], ['joined-again', "'web2' is a member: it has joined again since it was removed"]);
});

test('commands about voters refuse what cannot be, with what to do instead', async (t) => {
  const rig = await threeVoters(t);
  const refused = async (command: Command, peer = 'hub') => errorOf(await rig.ask(peer, command));
  assert.match((await refused({ name: 'voters-add', host: 'wbe1' })).hint ?? '', /Did you mean web1/);
  assert.match((await refused({ name: 'voters-add', host: 'v2' })).message, /'v2' is a voter already/);
  assert.match((await refused({ name: 'voters-remove', host: 'web1' })).message, /'web1' is no voter/);
  assert.equal((await refused({ name: 'peers-remove', host: 'gone9' })).code, 'unknown-host');
  assert.equal((await refused({ name: 'peers-remove', host: 'web2' }, 'web1')).code, 'not-a-voter');
  assert.match((await refused({ name: 'voters-add', host: 'web2' }, 'web1')).message, /may not voters add/);
  assert.equal(rig.fleet.entriesOf('member-removed').length, 0);
});

test('voters remove refuses to leave the voters without a majority that is there', async (t) => {
  const rig = await threeVoters(t);
  await takeAway(rig, 'v3');
  const { code, message, hint } = errorOf(await rig.ask('hub', { name: 'voters-remove', host: 'v2' }));
  assert.equal(code, 'no-majority-left');
  assert.equal(message, "without 'v2' nothing could be decided: 1 of 2 voters would be there, v3 away");
  assert.equal(hint, "Start v3 first, or remove it before 'v2'.");
  assert.equal(errorOf(await rig.ask('hub', { name: 'peers-remove', host: 'v2' })).code, 'no-majority-left');
  const removing = rig.ask('hub', { name: 'voters-remove', host: 'v3' });
  await rig.fleet.until('the absent one goes', ({ members }) => !members[peerId('v3')]?.roles.includes('voter'));
  rig.fleet.vote('hub', 'v2');
  endOf(await removing);
});

test('voters remove counts the removals that are still to come', async (t) => {
  const rig = await threeVoters(t);
  rig.fleet.apply({ kind: 'voter-added', actor: 'root@hub', body: { peer: peerId('web1'), replaces: null } });
  rig.fleet.apply({ kind: 'member-updated', actor: 'root@web1', body: factsOf('web1', 'web1 votes') });
  rig.fleet.vote('hub', 'v2', 'v3', 'web1');
  await takeAway(rig, 'web1');
  const first = await rig.ask('hub', { name: 'voters-remove', host: 'v2' }, { follow: false });
  assert.equal(endOf(first).outcome, 'succeeded');
  const { code, message } = errorOf(await rig.ask('hub', { name: 'voters-remove', host: 'v3' }));
  assert.equal(code, 'no-majority-left');
  assert.equal(message, "without 'v3' nothing could be decided: 1 of 2 voters would be there, web1 away");
});

test('invite warns when it makes two voters of one', async (t) => {
  const rig = await startRig(t, { times: 20 });
  for (const name of ['v2', 'v3'])
    rig.fleet.apply({ kind: 'voter-removed', actor: 'root@hub', body: { peer: peerId(name) } });
  const invite = { name: 'invite', site: 'home', expiresInMs: 60_000 } as const;
  const view = async (peer: string, roles: ('member' | 'voter')[]) =>
    check(inviteViewSchema, viewOf(await rig.ask('hub', { ...invite, peer, roles }), 'invite'));
  assert.deepEqual((await view('n1', ['member'])).warnings, []);
  assert.match((await view('n2', ['member', 'voter'])).warnings?.[0] ?? '', /with two voters/);
  assert.deepEqual((await view('n3', ['member', 'voter'])).warnings, []);
});

test('votersView() says how much whoever comes or stays still lacks', async (t) => {
  const rig = await threeVoters(t);
  const lacking = new Map([[peerId('v2'), 3]]);
  const facts: ViewFacts = {
    ...{ controller: peerId('hub'), current: true, waits: () => undefined, progress: () => undefined },
    presence: (peer) => ({
      ...{ online: true, lastSeenMs: null },
      beat: { ...sampleBeat, ledgerIndex: 50, keeps: { index: 50, lacking: lacking.get(peer) ?? 0 } },
    }),
  };
  const waitsFor = () => votersView(rig.fleet.state(), facts).change?.waitsFor;
  rig.fleet.apply({ kind: 'voter-removed', actor: 'root@hub', body: { peer: peerId('v3') } });
  assert.equal(waitsFor(), 'v2 to fetch what the ledger names: 3 files are missing there');
  lacking.clear();
  assert.equal(waitsFor(), null);
  rig.fleet.vote('hub', 'v2');
  rig.fleet.apply({ kind: 'voter-added', actor: 'root@hub', body: { peer: peerId('web1'), replaces: null } });
  rig.fleet.apply({ kind: 'member-updated', actor: 'root@web1', body: factsOf('web1', 'web1 votes') });
  lacking.set(peerId('web1'), 2);
  assert.equal(waitsFor(), 'web1 to fetch what the ledger names: 2 files are missing there');
});

test('votersView() says that a change waits for a majority, and counts the loss that is left', async (t) => {
  const rig = await threeVoters(t);
  rig.fleet.apply({ kind: 'voter-added', actor: 'root@hub', body: { peer: peerId('web1'), replaces: null } });
  const there = new Set(['hub', 'web1'].map(peerId));
  const facts: ViewFacts = {
    ...{ controller: null, current: false, waits: () => undefined, progress: () => undefined },
    presence: (peer) => ({ online: there.has(peer), lastSeenMs: null, beat: null }),
  };
  const view = votersView(rig.fleet.state(), facts);
  assert.equal(view.change?.waitsFor, 'a majority of the voters: 1 of 3 are there');
  assert.deepEqual(view.warnings, ['2 of 3 voters are away: nothing can be decided until 2 are there']);
  there.add(peerId('v2'));
  assert.match(votersView(rig.fleet.state(), facts).warnings[0] ?? '', /1 of 3 voters is away: the loss of one more/);
  assert.equal(votersView(rig.fleet.state(), facts).change?.waitsFor, 'a controller');
});

test('voters remove, followed, ends with the news that somebody gave the vote back', async (t) => {
  const rig = await threeVoters(t);
  const following = rig.ask('hub', { name: 'voters-remove', host: 'v3' }, { id: 'a-removal' });
  const isTaken = () => rig.fleet.state().members[peerId('v3')]?.roles.includes('voter') === false;
  await rig.fleet.until('the vote is taken', isTaken);
  endOf(await rig.ask('hub', { name: 'voters-add', host: 'v3' }));
  const { code, message } = errorOf(await following);
  assert.deepEqual([code, message], ['given-back', "'v3' is to vote: it was given its vote back since that was taken"]);
});
