// The rules about the foundation, invites, members, command ids and entries that nobody can read.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readGenesis } from '../../node/ledger/genesis-core.ts';
import { applyNext, beginBatch } from '../../node/ledger/ledger-core.ts';
import { check, encode, sha256Hex } from '../../protocols/codec.ts';
import { encodeEntry } from '../../protocols/ledger-entries.ts';
import { earlierResult } from '../../protocols/ledger-rules.ts';
import { type CommandResult, commandResultSchema, commandsKeptMax } from '../../protocols/ledger-state.ts';
import { commandIdKeptMs } from '../../protocols/limits.ts';
import { applyEntry } from '../helpers/apply-entry.ts';
import { inviteHash, joining } from '../helpers/invites.ts';
import { createLedgerScript, hash, peerIdOf } from '../helpers/ledger-script.ts';

const facts = (name: string) => ({ peer: peerIdOf(name), addresses: [], system: 'x86_64-linux' });

function invited(expiresInMs = 60_000) {
  const script = createLedgerScript();
  const expiresAtMs = script.state().timeMs + expiresInMs;
  const invite = { keyHash: inviteHash('secret'), name: 'web1', site: 'shop', roles: ['member' as const], expiresAtMs };
  script.accept('invite-opened', invite);
  return { script, invite };
}

test('readGenesis() derives the fleet, its one voter and the chain from the bytes of entry 1', () => {
  const { genesis } = createLedgerScript();
  const read = readGenesis(genesis.bytes);
  assert.equal(read.fleet, sha256Hex(genesis.bytes));
  assert.deepEqual(read.state, genesis.state);
  assert.deepEqual(read.state.voters, [1]);
  assert.equal(read.state.index, 1);
  assert.equal(read.state.chainHash, read.chainHash);
});

test('readGenesis() refuses bytes that found no fleet', () => {
  const entry = { version: 1, kind: 'draft-discarded', timeMs: 1, actor: 'root@n1', body: {} };
  assert.throws(() => readGenesis(encode(entry)), { code: 'malformed' });
  assert.throws(() => readGenesis(new Uint8Array([1, 2, 3])), { code: 'malformed' });
});

test('applyEntry() lets a peer join with an open invite and gives it what the invite fixes', () => {
  const { script } = invited();
  script.accept('member-joined', joining(script.state().fleet, 'secret', facts('web1')));
  const member = script.state().members[peerIdOf('web1')];
  assert.equal(member?.name, 'web1');
  assert.equal(member?.site, 'shop');
  assert.deepEqual(member?.roles, ['member']);
  assert.equal(member?.raftId, 0);
});

test('applyEntry() changes nothing when the same peer joins again and refuses the used invite to another', () => {
  const { script } = invited();
  const { fleet } = script.state();
  script.accept('member-joined', joining(fleet, 'secret', facts('web1')));
  const { members } = script.state();
  script.accept('member-joined', joining(fleet, 'secret', { ...facts('web1'), addresses: ['/ip4/10.0.0.1/tcp/1'] }));
  assert.equal(script.state().members, members);
  script.refuse('invite-used', 'member-joined', joining(fleet, 'secret', facts('evil')));
});

test('applyEntry() refuses a join that the invite has not signed, word for word and for this fleet', () => {
  const { script } = invited();
  const { fleet } = script.state();
  const proven = { ...facts('web1'), voterKey: peerIdOf('its key'), builderKey: `web1-1:${'A'.repeat(43)}=` };
  const body = joining(fleet, 'secret', proven);
  const guess = { ...joining(fleet, 'guess', proven).proof, key: body.proof.key };
  for (const forged of [
    { ...body, peer: peerIdOf('evil') },
    { ...body, addresses: ['/ip4/10.6.6.6/tcp/1'] },
    { ...body, system: 'aarch64-linux' },
    { ...body, voterKey: peerIdOf('evil') },
    { ...body, builderKey: `evil-1:${'A'.repeat(43)}=` },
    { ...facts('web1'), proof: body.proof },
    { ...body, proof: guess },
    joining(hash('another fleet'), 'secret', proven),
  ]) {
    script.refuse('join-unproven', 'member-joined', forged);
  }
  script.accept('member-joined', body);
});

test('applyEntry() leaves the voting key of a member as it is whoever joins with its used invite', () => {
  const script = createLedgerScript();
  script.join('n2', ['voter']);
  const { fleet, members, nextRaftId } = script.state();
  const other = { ...facts('n2'), voterKey: peerIdOf('another key') };
  script.accept('member-joined', joining(fleet, 'secret of n2', other));
  assert.deepEqual([script.state().members, script.state().nextRaftId], [members, nextRaftId]);
  script.refuse('join-unproven', 'member-joined', {
    ...other,
    proof: joining(fleet, 'secret of n2', facts('n2')).proof,
  });
});

test('applyEntry() refuses unknown and expired invites', () => {
  const { script } = invited(5_000);
  script.refuse('invite-unknown', 'member-joined', joining(script.state().fleet, 'guess', facts('web1')));
  script.refuse('invite-expired', 'member-joined', joining(script.state().fleet, 'secret', facts('web1')), {
    afterMs: 10_000,
  });
});

test('applyEntry() refuses an invite for a name that is taken, and the second of two invites for one name', () => {
  const { script, invite } = invited();
  script.accept('invite-opened', { ...invite, keyHash: inviteHash('second') });
  script.accept('member-joined', joining(script.state().fleet, 'secret', facts('web1')));
  script.refuse('name-taken', 'member-joined', joining(script.state().fleet, 'second', facts('web1b')));
  script.refuse('name-taken', 'invite-opened', { ...invite, keyHash: inviteHash('third') });
  script.refuse('invite-exists', 'invite-opened', { ...invite, name: 'web2' });
});

test('applyEntry() refuses a member that wants to be another one as well', () => {
  const { script, invite } = invited();
  script.accept('member-joined', joining(script.state().fleet, 'secret', facts('web1')));
  script.accept('invite-opened', { ...invite, name: 'web2', keyHash: inviteHash('other') });
  script.refuse('already-member', 'member-joined', joining(script.state().fleet, 'other', facts('web1')));
});

test('applyEntry() allots each voter a number of its own and takes configurations from consensus', () => {
  const script = createLedgerScript();
  script.join('n2', ['voter']);
  script.join('web1');
  script.join('n3', ['voter', 'builder']);
  const { members } = script.state();
  assert.deepEqual(
    ['n1', 'n2', 'web1', 'n3'].map((name) => members[peerIdOf(name)]?.raftId),
    [1, 2, 0, 3],
  );
  assert.deepEqual(script.state().voters, [1]);
  script.configure({ voters: [1, 2], learners: [3] });
  assert.deepEqual(script.state().voters, [1, 2]);
  assert.deepEqual(script.state().learners, [3]);
  script.configure({ voters: [1, 2, 3], votersOutgoing: [1, 2], autoLeave: true });
  assert.deepEqual(script.state().joint, { votersOutgoing: [1, 2], learnersNext: [], autoLeave: true });
});

test('applyEntry() holds the limits of voters and open invites', () => {
  const script = createLedgerScript();
  for (let number = 2; number <= 7; number += 1) script.join(`n${number}`, ['voter']);
  const expiresAtMs = script.state().timeMs + 1e9;
  const invite = { keyHash: inviteHash('x'), name: 'n8', site: 'home', expiresAtMs };
  script.refuse('too-many-voters', 'invite-opened', { ...invite, roles: ['voter'] });
  for (let number = 0; number < 256; number += 1) {
    script.accept('invite-opened', {
      ...invite,
      roles: ['member'],
      keyHash: inviteHash(`invite ${number}`),
      name: `w${number}`,
    });
  }
  script.refuse('too-many-invites', 'invite-opened', { ...invite, roles: ['member'] });
});

test('applyEntry() keeps a builder key only with the role builder', () => {
  const script = createLedgerScript();
  script.join('web1');
  const builderKey = `web1-1:${'A'.repeat(43)}=`;
  script.accept('member-updated', { ...facts('web1'), builderKey });
  script.accept('member-updated', { ...facts('n1'), builderKey });
  assert.equal(script.state().members[peerIdOf('web1')]?.builderKey, undefined);
  assert.equal(script.state().members[peerIdOf('n1')]?.builderKey, builderKey);
  script.refuse('member-unknown', 'member-updated', facts('nobody'));
});

test('applyEntry() applies a command id once and forgets it after seven days of ledger time', () => {
  const script = createLedgerScript();
  const body = { keyHash: inviteHash('s'), name: 'web1', site: 'home', roles: ['member' as const], expiresAtMs: 2e12 };
  const first = script.apply('invite-opened', body, { commandId: 'command-1' });
  const again = script.apply('invite-opened', { ...body, keyHash: inviteHash('t') }, { commandId: 'command-1' });
  assert.deepEqual(again, first);
  assert.equal(Object.keys(script.state().invites).length, 1);
  const refused = script.apply('invite-opened', body, { commandId: 'command-2' });
  assert.equal(refused.error?.code, 'invite-exists');
  assert.deepEqual(script.apply('invite-opened', body, { commandId: 'command-2' }), refused);
  script.apply('draft-discarded', {}, { commandId: 'command-3', afterMs: commandIdKeptMs + 60_000 });
  for (let number = 0; number < 64; number += 1)
    script.apply('draft-discarded', {}, { commandId: `command-4-${number}` });
  const ids = Object.keys(script.state().commands);
  assert.ok(!ids.includes('command-1') && !ids.includes('command-2') && ids.includes('command-3'));
});

test('applyEntry() knows a command id for all of seven days', () => {
  const script = createLedgerScript();
  const first = script.apply('draft-discarded', {}, { commandId: 'command-1' });
  for (let day = 1; day < 7; day += 1) script.apply('draft-discarded', {}, { afterMs: 24 * 60 * 60 * 1000 });
  script.apply('draft-discarded', {}, { afterMs: 23 * 60 * 60 * 1000 });
  for (let number = 0; number < 64; number += 1)
    script.apply('draft-discarded', {}, { commandId: `command-2-${number}` });
  assert.deepEqual(script.apply('draft-discarded', {}, { commandId: 'command-1' }), first);
});

test('applyEntry() takes a known command id for the same command of the same actor alone', () => {
  const script = createLedgerScript();
  script.join('web1');
  script.join('n2', ['voter']);
  const opened = {
    keyHash: inviteHash('s'),
    name: 'web2',
    site: 'home',
    roles: ['member' as const],
    expiresAtMs: 2e12,
  };
  const taken = (result: { readonly error: { readonly code: string } | null }) => result.error?.code === 'id-taken';
  script.apply('member-updated', facts('web1'), { actor: 'root@web1', commandId: 'command-1' });
  assert.ok(taken(script.apply('invite-opened', opened, { commandId: 'command-1' })), 'another kind');
  script.apply('draft-discarded', {}, { actor: 'root@web1', commandId: 'command-2' });
  assert.ok(taken(script.apply('draft-discarded', {}, { commandId: 'command-2' })), 'a root of no voter');
  script.apply('draft-discarded', {}, { actor: 'alice', commandId: 'command-3' });
  assert.ok(taken(script.apply('draft-discarded', {}, { actor: 'bob', commandId: 'command-3' })), 'another person');
  const first = script.apply('invite-opened', opened, { commandId: 'command-4' });
  const again = script.apply('invite-opened', opened, { actor: 'root@n2', commandId: 'command-4' });
  assert.deepEqual(again, first, 'the roots of voters are one person');
  assert.equal(script.state().commands['command-1']?.kind, 'member-updated');
  // What takes a vote away is asked for again by roots of which one votes no more.
  const body = { peer: facts('n2').peer };
  const removal = script.apply('voter-removed', body, { actor: 'root@n2', commandId: 'command-5' });
  assert.equal(removal.error, null);
  for (const actor of ['root@n2', 'root@n1'])
    assert.deepEqual(script.apply('voter-removed', body, { actor, commandId: 'command-5' }), removal, actor);
  beginBatch();
  let batched = script.genesis.state;
  for (const entry of script.entries) batched = applyNext(batched, entry, { levelMax: 1, generations: [] }).state;
  assert.deepEqual(batched.commands, script.state().commands, 'in one batch, too');
});

test('applyEntry() takes a known command id for what the command says alone, and not for what was looked up for it', () => {
  const script = createLedgerScript();
  script.join('web1');
  script.join('web2');
  const taken = (result: CommandResult) => result.error?.code === 'id-taken';
  const commandId = 'command-1';
  const first = script.apply('voter-added', { peer: peerIdOf('web1'), replaces: null }, { commandId });
  assert.match(first.about ?? '', /^[0-9a-f]{16}$/);
  assert.deepEqual(script.apply('voter-added', { peer: peerIdOf('web1'), replaces: null }, { commandId }), first);
  assert.ok(taken(script.apply('voter-added', { peer: peerIdOf('web2'), replaces: null }, { commandId })));
  assert.ok(taken(script.apply('voter-added', { peer: peerIdOf('web1'), replaces: peerIdOf('n1') }, { commandId })));
  assert.deepEqual(script.state().members[peerIdOf('web2')]?.roles, ['member']);
  const deploy = { revision: 'a'.repeat(40), selector: '@all', hosts: ['web1'], keepGoing: false };
  const given = script.apply('deploy-requested', deploy, { commandId: 'command-2' });
  const later = { ...deploy, revision: 'b'.repeat(40), hosts: ['web1', 'web2'] };
  assert.deepEqual(
    script.apply('deploy-requested', later, { commandId: 'command-2' }),
    given,
    'another head and hosts',
  );
  assert.ok(taken(script.apply('deploy-requested', { ...deploy, selector: 'web1' }, { commandId: 'command-2' })));
  assert.ok(taken(script.apply('deploy-requested', { ...deploy, keepGoing: true }, { commandId: 'command-2' })));
  const approval = { task: 't1', plan: hash('a plan'), verdict: 'reject' as const, reason: 'no' };
  const said = script.apply('approval-given', approval, { commandId: 'command-3' });
  const again = { ...approval, plan: hash('the next plan') };
  assert.deepEqual(script.apply('approval-given', again, { commandId: 'command-3' }), said, 'another plan of the task');
  assert.ok(taken(script.apply('approval-given', { ...approval, verdict: 'approve' }, { commandId: 'command-3' })));
  assert.ok(taken(script.apply('approval-given', { ...approval, reason: 'late' }, { commandId: 'command-3' })));
  beginBatch();
  let batched = script.genesis.state;
  for (const entry of script.entries) batched = applyNext(batched, entry, { levelMax: 1, generations: [] }).state;
  assert.deepEqual(batched.commands, script.state().commands, 'in one batch, too');
});

test('earlierResult() compares giver and kind where an earlier release has kept no more', () => {
  const state = createLedgerScript().state();
  const kept = { ...{ index: 5, atMs: 0, task: null, error: null }, actor: 'alice', kind: 'voter-removed' };
  const known = { ...state, commands: { 'command-1': check(commandResultSchema, kept) } };
  const given = { commandId: 'command-1', actor: 'alice', kind: 'voter-removed', body: { peer: peerIdOf('n1') } };
  assert.deepEqual(earlierResult(known, given), kept);
  assert.throws(() => earlierResult(known, { ...given, kind: 'member-removed' }), { code: 'id-taken' });
});

test('applyEntry() forgets the commands of whoever gives most first', () => {
  const first = createLedgerScript().state();
  const given = (actor: string, index: number): CommandResult => {
    return { ...{ index, atMs: first.timeMs, task: null, error: null }, ...{ actor, kind: 'draft-discarded' } };
  };
  const many = Array.from(
    { length: commandsKeptMax },
    (_, at) => [`of-web1-${at}`, given('root@web1', at + 2)] as const,
  );
  const index = 64 * 100 - 1;
  const full = { ...first, index, commands: { 'of-alice': given('alice', 1), ...Object.fromEntries(many) } };
  const discarded = { version: 1, kind: 'draft-discarded', timeMs: first.timeMs, actor: 'bob', body: {} } as const;
  const data = encodeEntry({ ...discarded, commandId: 'of-somebody' });
  const { state } = applyEntry(full, { index: index + 1, term: 1, type: 'normal', data, chainHash: hash('next') });
  assert.equal(Object.keys(state.commands).length, commandsKeptMax);
  assert.ok('of-alice' in state.commands && 'of-somebody' in state.commands);
  assert.ok(!('of-web1-0' in state.commands) && !('of-web1-1' in state.commands));
});

test('applyEntry() skips unknown kinds, empty entries and what nobody can read', () => {
  const script = createLedgerScript();
  const { index, members } = script.state();
  const unknown = { version: 1, kind: 'moon-landed', timeMs: 5, actor: 'root@n1', body: { x: 1 } };
  for (const data of [new Uint8Array(0), encode(unknown), new Uint8Array([0xff]), encode({ ...unknown, version: 9 })]) {
    const applied = script.applyData(data);
    assert.equal(applied.result, undefined);
  }
  assert.equal(script.state().index, index + 4);
  assert.equal(script.state().members, members);
});

test('applyEntry() never lets ledger time go back', () => {
  const script = createLedgerScript();
  script.apply('draft-discarded', {}, { afterMs: 50_000 });
  const { timeMs } = script.state();
  script.apply('draft-discarded', {}, { afterMs: -40_000 });
  assert.equal(script.state().timeMs, timeMs);
});

test('applyEntry() refuses a second foundation', () => {
  const script = createLedgerScript();
  const before = script.state().members;
  const applied = script.applyData(createLedgerScript({ founder: 'evil' }).genesis.bytes);
  assert.equal(applied.result?.error?.code, 'already-founded');
  assert.equal(script.state().members, before);
});
