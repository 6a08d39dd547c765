// One peer's replica: proposing, applying, snapshots, restarts and what others may ask of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '../../protocols/codec.ts';
import { entryChainHash } from '../../protocols/consensus-record.ts';
import { decodeEntry, encodeEntry } from '../../protocols/ledger-entries.ts';
import { inviteHash, joining } from '../helpers/invites.ts';
import { checkpointMade, createLedgerFleet, diskFull, type LedgerPeer, patient } from '../helpers/ledger-peers.ts';
import { createLedgerScript, hash, peerIdOf } from '../helpers/ledger-script.ts';
import { createManualClock } from '../helpers/manual-clock.ts';

const invite = (name: string) => ({
  keyHash: inviteHash(name),
  name,
  site: 'home',
  roles: ['member' as const],
  expiresAtMs: 4e12,
});

test('propose() resolves with what the entry came to and rejects with the refusal of the core', async (t) => {
  const fleet = await createLedgerFleet(t);
  const { ledger } = await fleet.add('n1', 'consensus');
  const options = { signal: patient() };
  const opened = { kind: 'invite-opened', actor: 'root@n1', commandId: 'command-1', body: invite('web1') } as const;
  const { index, result, state } = await ledger.propose(opened, options);
  assert.equal(index, 2);
  assert.equal(result.index, 2);
  assert.equal(state.invites[inviteHash('web1')]?.name, 'web1');
  await assert.rejects(ledger.propose({ ...opened, commandId: 'command-2' }, options), { code: 'invite-exists' });
  assert.equal((await ledger.propose(opened, options)).result.index, 2);
});

test('propose() gives entries times that never go back', async (t) => {
  const fleet = await createLedgerFleet(t);
  let nowMs = 1_800_000_000_000;
  const clock = { ...createManualClock(), nowMs: () => nowMs };
  const { ledger } = await fleet.add('n1', 'consensus', { clock });
  await fleet.fill(1);
  nowMs -= 60_000;
  await fleet.fill(1);
  assert.equal(ledger.state().timeMs, 1_800_000_000_000);
  const times = fleet.consensus.entries.map(({ data }) => decodeEntry(data)?.timeMs);
  assert.deepEqual(times, [1_800_000_000_000, 1_800_000_000_000]);
});

test('propose() refuses entries that are too large or do not fit their schema, before they reach the log', async (t) => {
  const fleet = await createLedgerFleet(t);
  const { ledger } = await fleet.add('n1', 'consensus');
  const hosts = Array.from({ length: 1_900 }, (_, number) => `a-host-with-a-rather-long-name-of-its-own-${number}`);
  const body = { revision: 'a'.repeat(40), selector: '@all', hosts, keepGoing: false };
  const options = { signal: patient() };
  await assert.rejects(ledger.propose({ kind: 'deploy-requested', actor: 'root@n1', body }, options), {
    code: 'too-large',
  });
  const malformed = { kind: 'invite-opened', actor: 'root@n1', body: { ...invite('web1'), name: '../etc' } } as const;
  await assert.rejects(ledger.propose(malformed, options), { code: 'malformed' });
  assert.equal(fleet.consensus.entries.length, 0);
});

test('propose() rejects on a peer that is no voter', async (t) => {
  const fleet = await createLedgerFleet(t);
  await fleet.add('n1', 'consensus');
  const { ledger } = await fleet.add('web1', 'voters');
  const draft = { kind: 'draft-discarded', actor: 'root@web1', body: {} } as const;
  await assert.rejects(ledger.propose(draft, { signal: patient() }), { code: 'not-controller', retryable: true });
});

test('createLedger() keeps its state over restarts and replays what came after its snapshot', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await fleet.fill(5);
  const hashBefore = n1.ledger.stateHash();
  await n1.stop();
  await n1.start();
  assert.equal(n1.ledger.appliedIndex(), 6);
  assert.equal(n1.ledger.stateHash(), hashBefore);
});

test('createLedger() takes the older snapshot when the newest is damaged', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await fleet.fill(3);
  const older = await fleet.checkpoint();
  await fleet.fill(3);
  await n1.ledger.snapshot();
  assert.equal(n1.ledger.durableIndex(), older);
  const expected = n1.ledger.stateHash();
  await n1.stop();
  await damageNewest(n1);
  await n1.ledger.start();
  assert.equal(n1.ledger.appliedIndex(), older);
  assert.ok(n1.complaints.some((line) => line.includes('damaged')));
  await fleet.consensus.attach(n1.ledger);
  assert.equal(n1.ledger.stateHash(), expected);
  await n1.ledger.snapshot();
  assert.equal(n1.ledger.durableIndex(), older, 'the damaged one made room, the sound one stayed');
});

async function damageNewest({ store }: LedgerPeer): Promise<void> {
  const [pair] = await store.range({ gte: 'snapshot/', lt: 'snapshot0', reverse: true, limit: 1 });
  assert.ok(pair);
  const value = Uint8Array.from(pair[1]);
  value[value.length >> 1] = (value[value.length >> 1] ?? 0) ^ 1;
  await store.batch([{ type: 'put', key: pair[0], value }], { sync: true });
}

test('createLedger() lets consensus compact only what a certified checkpoint and a snapshot after it settle', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  fleet.consensus.certifies = false;
  await fleet.fill(1_100);
  fleet.consensus.certifies = true;
  await n1.ledger.snapshot();
  await fleet.fill(10);
  await n1.ledger.snapshot();
  assert.equal(fleet.consensus.firstIndex(), 2, 'snapshots alone settle nothing');
  const index = await fleet.checkpoint();
  fleet.consensus.certifies = false;
  await fleet.fill(1_100);
  await n1.ledger.snapshot();
  assert.ok(fleet.consensus.firstIndex() > 2);
  assert.ok(fleet.consensus.firstIndex() <= index + 1, 'nothing after the checkpoint goes');
  assert.ok(fleet.consensus.firstIndex() <= n1.ledger.appliedIndex() - 999, 'a tail stays for slow voters');
});

test('createLedger() keeps its state at a checkpoint as it was there, also in the middle of a batch', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await fleet.fill(3);
  const index = await fleet.propose('checkpoint-begun', {});
  const expected = n1.ledger.stateHash();
  await fleet.fill(30);
  const n2 = await fleet.add('n2', 'consensus');
  assert.equal(n2.ledger.state().index, index + 30);
  for (const { ledger } of [n1, n2]) assert.equal((await checkpointMade(ledger)).body.stateHash, expected);
});

test('apply() refuses an entry that does not chain, and keeps what came before it', async (t) => {
  const fleet = await createLedgerFleet(t);
  const { ledger } = await fleet.add('n1', 'consensus');
  await fleet.fill(2);
  const before = ledger.stateHash();
  const entry = { index: 4, term: 1, type: 'normal' as const, data: new Uint8Array(0) };
  const forged = { ...entry, chainHash: entryChainHash(hash('elsewhere'), entry) };
  await assert.rejects(ledger.apply([forged]), { code: 'chain-mismatch' });
  const gap = { ...entry, index: 5 };
  const chainHash = entryChainHash(ledger.state().chainHash, gap);
  await assert.rejects(ledger.apply([{ ...gap, chainHash }]), { code: 'chain-mismatch' });
  assert.equal(ledger.stateHash(), before);
});

test('apply() stops a voter at a level that it does not know, while a member goes on', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1');
  const index = n1.ledger.appliedIndex();
  const raised = { version: 1, kind: 'level-raised', timeMs: 1, actor: 'controller', body: { level: 2 } } as const;
  const entry = { index: index + 1, term: 1, type: 'normal' as const, data: encodeEntry(raised) };
  const chained = { ...entry, chainHash: entryChainHash(n1.ledger.state().chainHash, entry) };
  await assert.rejects(n1.ledger.apply([chained]), { code: 'level-unsupported' });
  assert.equal(n1.ledger.appliedIndex(), index);
  await web1.ledger.waitFor((state) => state.index === index, patient());
  await web1.ledger.apply([chained]);
  assert.equal(web1.ledger.state().level, 2);
  const unknown = { version: 1, kind: 'moon-landed', timeMs: 1, actor: 'controller', body: {} };
  const next = { index: index + 2, term: 1, type: 'normal' as const, data: encode(unknown) };
  await web1.ledger.apply([{ ...next, chainHash: entryChainHash(chained.chainHash, next) }]);
  assert.equal(web1.ledger.appliedIndex(), index + 2);
});

test('restore() replaces the state by a later snapshot of the same fleet only', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await fleet.fill(4);
  const snapshot = await n1.ledger.snapshot();
  const late = await createLedgerFleet(t);
  const n2 = await late.add('n2', 'consensus');
  let told = 0;
  n2.ledger.onApplied(() => {
    told += 1;
  });
  await n2.ledger.restore(snapshot);
  await n2.ledger.restore(snapshot);
  assert.equal(n2.ledger.stateHash(), n1.ledger.stateHash());
  assert.ok(told >= 1);
  const stranger = createLedgerScript({ founder: 'x1' });
  for (let number = 0; number < 9; number += 1) stranger.apply('draft-discarded', {});
  const { index, term, chainHash } = stranger.state();
  const foreign = { index, term, chainHash, data: encode(stranger.state()) };
  await assert.rejects(n2.ledger.restore(foreign), { code: 'wrong-fleet' });
  await assert.rejects(n2.ledger.restore({ ...snapshot, index: 77 }), { code: 'malformed' });
  await assert.rejects(n2.ledger.restore({ ...snapshot, data: snapshot.data.slice(0, 99) }), { code: 'malformed' });
  assert.equal(n2.ledger.stateHash(), n1.ledger.stateHash());
});

test("createLedger() refuses another fleet's genesis and a start without any", async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await n1.stop();
  const foreign = createLedgerScript({ founder: 'x1' }).genesis.bytes;
  await assert.rejects(fleet.add('n1-again', 'consensus', { genesis: new Uint8Array([1]) }), { code: 'malformed' });
  const { createLedger } = await import('../../node/ledger/index.ts');
  const { blobs, store } = n1;
  const mesh = fleet.network.join(peerIdOf('other'));
  const parts = { blobs, mesh, clock: createManualClock(), logger: silent, verifySignature: () => false };
  const other = createLedger({ self: peerIdOf('n1'), source: 'consensus', genesis: foreign })({ store, ...parts });
  await assert.rejects(other.start(), { code: 'wrong-fleet' });
  const empty = { ...store, get: async () => undefined };
  const none = createLedger({ self: peerIdOf('n1'), source: 'consensus' })({ store: empty, ...parts });
  await assert.rejects(none.start(), { code: 'no-ledger' });
  assert.throws(() => none.state(), { code: 'not-started' });
  assert.equal(none.meshMembers().isMember(peerIdOf('n1')), false);
});

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => silent };

test('waitFor() resolves with the present or a later state and rejects when its signal says so', async (t) => {
  const fleet = await createLedgerFleet(t);
  const { ledger } = await fleet.add('n1', 'consensus');
  assert.equal((await ledger.waitFor((state) => state.index === 1, patient())).index, 1);
  const later = ledger.waitFor((state) => state.index >= 3, patient());
  await fleet.fill(3);
  assert.equal((await later).index, 3);
  const controller = new AbortController();
  const never = ledger.waitFor(() => false, controller.signal);
  controller.abort(new Error('enough'));
  await assert.rejects(never, /enough/);
});

test('onApplied() tells every new state in order, and a listener that throws hurts nobody', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const seen: number[] = [];
  n1.ledger.onApplied(() => {
    throw new Error('mine');
  });
  const unsubscribe = n1.ledger.onApplied((state) => seen.push(state.index));
  await fleet.fill(3);
  unsubscribe();
  await fleet.fill(1);
  assert.deepEqual(seen, [2, 3, 4]);
  assert.ok(n1.complaints.some((line) => line.includes('mine')));
});

test('snapshot() rejects on a full disk, and applying goes on until there is room again', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  n1.store.onBatch = diskFull;
  await fleet.fill(300);
  await assert.rejects(n1.ledger.snapshot(), { code: 'disk-full' });
  assert.equal(n1.ledger.durableIndex(), 0);
  await fleet.propose('checkpoint-begun', {});
  await n1.ledger.snapshot().catch(() => undefined);
  assert.equal(n1.ledger.checkpointDue(), undefined, 'it has no hash to tell, and does not try again at once');
  assert.ok(n1.complaints.some((line) => line.includes('could not store a snapshot')));
  n1.store.onBatch = () => undefined;
  await n1.ledger.snapshot();
  await n1.stop();
  await n1.start();
  assert.equal(n1.ledger.appliedIndex(), 302);
});

test('meshMembers() and raftMembers() follow the members, and contacts stand in until the peer is one', async (t) => {
  const fleet = await createLedgerFleet(t);
  const contact = { peer: peerIdOf('n5'), addresses: ['/ip4/10.0.0.5/tcp/1'], raftId: 5 };
  const n1 = await fleet.add('n1', 'consensus', { contacts: [contact] });
  assert.equal(n1.ledger.meshMembers().isMember(contact.peer), false, 'n1 is a member itself');
  let changes = 0;
  n1.ledger.meshMembers().onChange(() => {
    changes += 1;
  });
  assert.equal(n1.ledger.meshMembers().joinsOpen(), false);
  await fleet.propose('invite-opened', invite('web1'));
  assert.equal(n1.ledger.meshMembers().joinsOpen(), true);
  const facts = { peer: peerIdOf('web1'), addresses: [], system: 'a-b' };
  await fleet.propose('member-joined', joining(n1.ledger.state().fleet, 'web1', facts));
  assert.equal(n1.ledger.meshMembers().joinsOpen(), false);
  assert.equal(changes, 2);
  assert.equal(n1.ledger.meshMembers().isMember(peerIdOf('web1')), true);
  assert.deepEqual(
    n1.ledger
      .meshMembers()
      .wanted()
      .map(({ peer }) => peer),
    [peerIdOf('web1')],
  );
  assert.equal(n1.ledger.raftMembers().peerOf(1), peerIdOf('n1'));
  assert.equal(n1.ledger.raftMembers().raftIdOf(peerIdOf('web1')), undefined);
  assert.equal(n1.ledger.meshMembers().wasRemoved(peerIdOf('web1')), false);
  await fleet.propose('member-removed', { peer: peerIdOf('web1') });
  assert.equal(n1.ledger.meshMembers().isMember(peerIdOf('web1')), false);
  assert.equal(n1.ledger.meshMembers().wasRemoved(peerIdOf('web1')), true);
  const late = await fleet.add('n9', 'consensus', { contacts: [contact] });
  assert.equal(late.ledger.meshMembers().isMember(contact.peer), true, 'n9 is not named by its ledger yet');
  assert.equal(late.ledger.raftMembers().peerOf(5), contact.peer);
});

test('raftMembers() names a peer that lost its vote for as long as it is a learner', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  await fleet.enrol('n2', ['voter']);
  await fleet.change([1, 2]);
  await fleet.propose('voter-removed', { peer: peerIdOf('n2') });
  await fleet.change([1], [2]);
  assert.equal(n1.ledger.raftMembers().peerOf(2), peerIdOf('n2'));
  await fleet.change([1]);
  assert.equal(n1.ledger.raftMembers().peerOf(2), undefined);
});

test('meshMembers() of a founder whose ledger is back at its beginning names those who voted last', async (t) => {
  const fleet = await createLedgerFleet(t);
  const contact = { peer: peerIdOf('n5'), addresses: ['/ip4/10.0.0.5/tcp/1'], raftId: 5 };
  const n1 = await fleet.add('n1', 'voters', { contacts: [contact], contactsIndex: 9 });
  assert.deepEqual(n1.ledger.meshMembers().wanted(), [contact]);
});
