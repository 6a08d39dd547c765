// The witness beside the database: a crash between the two is repaired, and a database that lacks or changes what was
// acknowledged is noticed, whatever LevelDB says about it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bootstrapLog, type LogDisk, type LogStore, openLogStore } from '../../node/consensus/log-store.ts';
import type { RaftEntry, SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { seededRandom } from '../helpers/random.ts';
import { FaultyDisk } from './faulty-disk.ts';
import { Fleet, genesisHash, noLearners, until } from './fleet.ts';
import { MemoryStore } from './memory-store.ts';
import { MemoryWitness } from './memory-witness.ts';

const base = { index: 1, term: 1, chainHash: genesisHash, configuration: { voters: [1], ...noLearners } };
const open = (disk: LogDisk): Promise<LogStore> => openLogStore(disk, () => undefined);
const isDamaged = (error: unknown): boolean => error instanceof ParleyError && error.code === 'damaged-log';

function entry(index: number, term: number, text = ''): RaftEntry {
  return { index, term, type: 'normal', data: new TextEncoder().encode(text) };
}

const firstWrite = { hardState: { term: 2, vote: 1, commit: 1 }, entries: [entry(2, 2), entry(3, 2)] };

async function filled(): Promise<FaultyDisk> {
  const faulty = new FaultyDisk();
  await bootstrapLog(faulty.disk(), base);
  const log = await open(faulty.disk());
  await log.write(firstWrite);
  await log.write({ hardState: { term: 2, vote: 1, commit: 3 }, entries: [entry(4, 2)] });
  return faulty;
}

test('write() leaves a witness of each batch before it resolves', async () => {
  const { store, witness } = await filled();
  const log = await open({ store, witness });
  const before = witness.writes;
  await log.write({ hardState: { term: 3, vote: 2, commit: 3 }, entries: [] });
  assert.equal(witness.writes, before + 1);
});

test('write() does not resolve before the witness is synced', async () => {
  const faulty = await filled();
  const log = await open(faulty.disk());
  faulty.dieAt({ afterSteps: 1, late: false });
  await assert.rejects(log.write({ hardState: { term: 2, vote: 1, commit: 3 }, entries: [entry(5, 2)] }));
  assert.equal(log.log.lastIndex(), 4);
});

test('openLogStore() brings the witness up to a batch that was written alone', async () => {
  const faulty = await filled();
  const log = await open(faulty.disk());
  faulty.dieAt({ afterSteps: 1, late: false });
  await assert.rejects(log.write({ hardState: { term: 3, vote: 2, commit: 4 }, entries: [entry(5, 3)] }));
  const left = faulty.left();
  assert.equal((await open(left.disk())).log.lastIndex(), 5);
  assert.equal(left.witness.writes, 1);
  await open(left.disk());
  assert.equal(left.witness.writes, 1);
});

test('openLogStore() takes a log whose batch never came to the disk', async () => {
  const faulty = await filled();
  const log = await open(faulty.disk());
  faulty.dieAt({ afterSteps: 0, late: false });
  await assert.rejects(log.write({ hardState: { term: 3, vote: 2, commit: 4 }, entries: [entry(5, 3)] }));
  assert.equal((await open(faulty.left().disk())).log.lastIndex(), 4);
});

test('openLogStore() refuses a database that lacks what was acknowledged last', async () => {
  const early = await filled();
  const late = early.left();
  const log = await open(late.disk());
  await log.write({ hardState: { term: 2, vote: 1, commit: 4 }, entries: [entry(5, 2)] });
  await assert.rejects(open({ store: early.store, witness: late.witness }), isDamaged);
});

test('openLogStore() refuses a database that forgot a vote, or a term, or holds another batch of that number', async () => {
  const early = await filled();
  const writes = [
    { hardState: { term: 3, vote: 2, commit: 4 }, entries: [] },
    { hardState: { term: 3, vote: 3, commit: 4 }, entries: [] },
    { hardState: { term: 4, vote: 2, commit: 4 }, entries: [] },
    { hardState: { term: 3, vote: 2, commit: 4 }, entries: [entry(5, 2)] },
  ];
  const disks: FaultyDisk[] = [];
  for (const write of writes) {
    const disk = early.left();
    await (await open(disk.disk())).write(write);
    disks.push(disk);
  }
  for (const { witness } of disks) await assert.rejects(open({ store: early.store, witness }), isDamaged);
  for (const [position, { store }] of disks.entries()) {
    for (const { witness } of disks.filter((_, other) => other !== position)) {
      await assert.rejects(open({ store: store.clone(), witness: witness.clone() }), isDamaged);
    }
  }
});

test('openLogStore() refuses later batches that take back a term or a vote', async () => {
  const early = await filled();
  const voted = early.left();
  await (await open(voted.disk())).write({ hardState: { term: 3, vote: 2, commit: 4 }, entries: [] });
  for (const hardState of [
    { term: 3, vote: 3, commit: 4 },
    { term: 2, vote: 1, commit: 4 },
  ]) {
    const other = early.left();
    const log = await open(other.disk());
    await log.write({ hardState, entries: [entry(5, 2)] });
    await log.write({ hardState, entries: [entry(6, 2)] });
    await assert.rejects(open({ store: other.store, witness: voted.witness }), isDamaged);
  }
});

test('openLogStore() refuses a log without a witness, and an empty database beside one', async () => {
  const { store, witness } = await filled();
  await assert.rejects(open({ store, witness: new MemoryWitness() }), isDamaged);
  const garbled = new MemoryWitness();
  garbled.record = new Uint8Array([1, 2, 3]);
  await assert.rejects(open({ store, witness: garbled }), isDamaged);
  const empty = { store: new MemoryStore(), witness };
  await bootstrapLog(empty, base);
  await assert.rejects(open(empty), isDamaged);
});

test('bootstrapLog() that was cut off at any step is completed at the next start', async () => {
  for (const afterSteps of [0, 1]) {
    for (const late of [false, true]) {
      const faulty = new FaultyDisk();
      faulty.dieAt({ afterSteps, late });
      await assert.rejects(bootstrapLog(faulty.disk(), base));
      const left = faulty.left();
      await bootstrapLog(left.disk(), base);
      await (await open(left.disk())).write(firstWrite);
      assert.equal((await open(left.left().disk())).log.lastIndex(), 3);
    }
  }
});

test('write() that is repeated after its witness failed damages nothing', async () => {
  for (const late of [false, true]) {
    const { store, witness } = await filled();
    const log = await open({ store, witness });
    witness.failure = { error: new Error('disk full'), late };
    const hardState = { term: 2, vote: 1, commit: 4 };
    await assert.rejects(log.write({ hardState, entries: [entry(5, 2), entry(6, 2)] }));
    await log.compact({ ...base, index: 3, term: 2, chainHash: log.chainHash(3) ?? '' });
    // By now another leader has replaced what was being written, and the repeated batch meets a power cut of its own.
    const again = { hardState: { term: 3, vote: 0, commit: 4 }, entries: [entry(5, 3)] };
    await assert.rejects(log.write(again));
    const crashed = new FaultyDisk(store.clone(), witness.clone());
    assert.equal((await open(crashed.disk())).log.lastIndex(), 5);
    witness.failure = undefined;
    await log.write(again);
    assert.deepEqual((await open({ store, witness })).log.term(5), 3);
  }
});

test('start() says what to do about a damaged log, to one voter and to one of several', async () => {
  for (const [voters, hint] of [
    [1, /only voter.*`parley recover --show`.*recovery key.*backup.*must also begin a new generation/],
    [3, /rejoins.*new raft id/],
  ] as const) {
    const fleet = new Fleet({ voters });
    await fleet.start();
    const leader = await fleet.leader();
    await fleet.propose(leader, 'word');
    await until(() => fleet.voters.every(({ machine }) => machine.words.length === 1));
    await fleet.unplug(1);
    fleet.voter(1).witness.record = undefined;
    const hasHint = (error: unknown): boolean => isDamaged(error) && hint.test((error as ParleyError).hint ?? '');
    await assert.rejects(fleet.restart(1), hasHint);
    await fleet.stop();
  }
});

/** What a restart must find: where the log begins, its entries' terms, term and vote. */
function knownOf(store: LogStore): object {
  const { term, vote } = store.hardState();
  const { index } = store.base();
  const entries = store.log.range(index + 1, store.log.lastIndex() + 1).map((each) => `${each.index}@${each.term}`);
  return { index, entries, term, vote };
}

/** One change of the kinds that consensus makes to such a log. */
function chooseChange(given: LogStore, below: (limit: number) => number): (store: LogStore) => Promise<void> {
  const before = given.hardState();
  const { index } = given.base();
  const last = given.log.lastIndex();
  const term = before.term + below(2);
  const vote = term === before.term && before.vote !== 0 ? before.vote : below(3);
  const hardState = { term, vote, commit: index };
  const kind = below(6);
  if (kind === 0) return (store) => store.write({ hardState, entries: [] });
  if (kind === 1 && last > index) {
    const at = index + 1 + below(last - index);
    const metadata = { ...base, index: at, term: given.log.term(at) ?? 0, chainHash: given.chainHash(at) ?? '' };
    return (store) => store.compact(metadata);
  }
  if (kind === 2) {
    const metadata: SnapshotMetadata = { ...base, index: last + 1 + below(5), term, chainHash: 'c'.repeat(64) };
    const body = new Uint8Array(10);
    return async (store) => {
      await store.write({ hardState, entries: [], snapshot: { metadata, body } });
      await store.dropPendingBody();
    };
  }
  const first = index + 1 + below(last - index + 1);
  const entries = Array.from({ length: 1 + below(3) }, (_, offset) => entry(first + offset, term, `${below(100)}`));
  return (store) => store.write({ hardState, entries });
}

/** Changes a log until its disk dies; gives what was acknowledged last and what the unfinished change would have made of it. */
async function changeUntilDeath(store: LogStore, twin: LogStore, below: (limit: number) => number): Promise<object[]> {
  for (;;) {
    const change = chooseChange(twin, below);
    const before = knownOf(twin);
    await change(twin);
    try {
      await change(store);
    } catch (error) {
      assert.match(String(error), /power is cut/);
      return [before, knownOf(twin)];
    }
  }
}

test('a voter that crashes at random writes finds what it acknowledged, or sees that it is gone', async () => {
  const given = process.env.PARLEY_SEED;
  const seeds = given === undefined ? Array.from({ length: 60 }, (_, position) => position + 1) : [Number(given)];
  let refused = 0;
  for (const seed of seeds) {
    const random = seededRandom(seed);
    const below = (limit: number): number => Math.floor(random() * limit);
    let faulty = new FaultyDisk();
    await bootstrapLog(faulty.disk(), base);
    for (let life = 1; life <= 6; life += 1) {
      const earlier = faulty.left();
      const store = await open(faulty.disk());
      const twin = await open(faulty.left().disk());
      const witnessed = faulty.witness.writes;
      faulty.dieAt({ afterSteps: below(12), late: below(2) === 1 });
      const possible = await changeUntilDeath(store, twin, below);
      if (faulty.witness.writes > witnessed) {
        const lost = { store: earlier.store, witness: faulty.witness };
        await assert.rejects(open(lost), isDamaged, `seed ${seed}, life ${life}`);
        refused += 1;
      }
      faulty = faulty.left();
      const found = JSON.stringify(knownOf(await open(faulty.disk())));
      const texts = possible.map((each) => JSON.stringify(each));
      assert.ok(texts.includes(found), `seed ${seed}, life ${life}: found ${found}, not ${texts.join(' or ')}`);
    }
  }
  assert.ok(given !== undefined || refused > seeds.length, `${refused} lost databases were noticed`);
});
