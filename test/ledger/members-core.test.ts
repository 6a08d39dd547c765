// The rules about the foundation, invites, members, command ids and entries that nobody can read.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readGenesis } from '../../node/ledger/genesis-core.ts';
import { encode, sha256Hex } from '../../protocols/codec.ts';
import { commandIdKeptMs } from '../../protocols/limits.ts';
import { createLedgerScript, hash, peerIdOf } from '../helpers/ledger-script.ts';

const facts = (name: string) => ({ peer: peerIdOf(name), addresses: [], system: 'x86_64-linux' });

function invited(expiresInMs = 60_000) {
  const script = createLedgerScript();
  const expiresAtMs = script.state().timeMs + expiresInMs;
  const invite = { secretHash: hash('secret'), name: 'web1', site: 'shop', roles: ['member' as const], expiresAtMs };
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
  script.accept('member-joined', { ...facts('web1'), secretHash: hash('secret') });
  const member = script.state().members[peerIdOf('web1')];
  assert.equal(member?.name, 'web1');
  assert.equal(member?.site, 'shop');
  assert.deepEqual(member?.roles, ['member']);
  assert.equal(member?.raftId, 0);
});

test('applyEntry() lets the same peer join again and refuses the used invite to another', () => {
  const { script } = invited();
  const secretHash = hash('secret');
  script.accept('member-joined', { ...facts('web1'), secretHash });
  script.accept('member-joined', { ...facts('web1'), addresses: ['/ip4/10.0.0.1/tcp/1'], secretHash });
  assert.deepEqual(script.state().members[peerIdOf('web1')]?.addresses, ['/ip4/10.0.0.1/tcp/1']);
  script.refuse('invite-used', 'member-joined', { ...facts('evil'), secretHash });
});

test('applyEntry() refuses unknown and expired invites', () => {
  const { script } = invited(5_000);
  script.refuse('invite-unknown', 'member-joined', { ...facts('web1'), secretHash: hash('guess') });
  script.refuse(
    'invite-expired',
    'member-joined',
    { ...facts('web1'), secretHash: hash('secret') },
    { afterMs: 10_000 },
  );
});

test('applyEntry() refuses an invite for a name that is taken, and the second of two invites for one name', () => {
  const { script, invite } = invited();
  script.accept('invite-opened', { ...invite, secretHash: hash('second') });
  script.accept('member-joined', { ...facts('web1'), secretHash: hash('secret') });
  script.refuse('name-taken', 'member-joined', { ...facts('web1b'), secretHash: hash('second') });
  script.refuse('name-taken', 'invite-opened', { ...invite, secretHash: hash('third') });
  script.refuse('invite-exists', 'invite-opened', { ...invite, name: 'web2' });
});

test('applyEntry() refuses a member that wants to be another one as well', () => {
  const { script, invite } = invited();
  script.accept('member-joined', { ...facts('web1'), secretHash: hash('secret') });
  script.accept('invite-opened', { ...invite, name: 'web2', secretHash: hash('other') });
  script.refuse('already-member', 'member-joined', { ...facts('web1'), secretHash: hash('other') });
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
  const invite = { secretHash: hash('x'), name: 'n8', site: 'home', expiresAtMs };
  script.refuse('too-many-voters', 'invite-opened', { ...invite, roles: ['voter'] });
  for (let number = 0; number < 256; number += 1) {
    script.accept('invite-opened', {
      ...invite,
      roles: ['member'],
      secretHash: hash(`invite ${number}`),
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
  const body = { secretHash: hash('s'), name: 'web1', site: 'home', roles: ['member' as const], expiresAtMs: 2e12 };
  const first = script.apply('invite-opened', body, { commandId: 'command-1' });
  const again = script.apply('invite-opened', { ...body, secretHash: hash('t') }, { commandId: 'command-1' });
  assert.deepEqual(again, first);
  assert.equal(Object.keys(script.state().invites).length, 1);
  const refused = script.apply('invite-opened', body, { commandId: 'command-2' });
  assert.equal(refused.error?.code, 'invite-exists');
  assert.deepEqual(script.apply('draft-discarded', {}, { commandId: 'command-2' }), refused);
  script.apply('draft-discarded', {}, { commandId: 'command-3', afterMs: commandIdKeptMs + 60_000 });
  for (let number = 0; number < 64; number += 1)
    script.apply('draft-discarded', {}, { commandId: `command-4-${number}` });
  const ids = Object.keys(script.state().commands);
  assert.ok(!ids.includes('command-1') && !ids.includes('command-2') && ids.includes('command-3'));
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
