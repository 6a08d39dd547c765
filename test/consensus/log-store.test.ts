// The log on disk: what it keeps over a crash, and that it notices everything that was lost or altered.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { bootstrapLog, type LogDisk, type LogStore, openLogStore } from '../../node/consensus/log-store.ts';
import type { KeyValueStore } from '../../node/interfaces.ts';
import { openStore } from '../../node/store/index.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { entryChainHash, type RaftEntry, tailRecordSchema } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { genesisHash, noLearners } from './fleet.ts';
import { MemoryStore } from './memory-store.ts';

const base = { index: 1, term: 1, chainHash: genesisHash, configuration: { voters: [1], ...noLearners } };
const open = (store: KeyValueStore): Promise<LogStore> => openLogStore(credulous(store), () => undefined);
const isDamaged = (error: unknown): boolean => error instanceof ParleyError && error.code === 'damaged-log';

/** A disk whose witness says what the tail says: here the database has to notice by itself. */
function credulous(store: KeyValueStore): LogDisk {
  return { store, witness: { read: () => store.get('tail').then(asWitness), write: async () => undefined } };
}

function asWitness(tail: Uint8Array | undefined): Uint8Array | undefined {
  if (tail === undefined) return undefined;
  try {
    const { batch, term, vote, lastHash } = decode(tailRecordSchema, tail, 1_000);
    return encode({ version: 1, batch, term, vote, lastHash });
  } catch {
    return undefined;
  }
}

function entry(index: number, term: number, text = `${term}/${index}`): RaftEntry {
  return { index, term, type: 'normal', data: new TextEncoder().encode(text) };
}

async function filled(store = new MemoryStore()): Promise<MemoryStore> {
  await bootstrapLog(credulous(store), base);
  const log = await open(store);
  await log.write({ hardState: { term: 2, vote: 1, commit: 1 }, entries: [entry(2, 2), entry(3, 2)] });
  await log.write({ hardState: { term: 3, vote: 1, commit: 3 }, entries: [entry(4, 3), entry(5, 3)] });
  return store;
}

test('write() keeps entries, votes and the chain over a crash', async () => {
  const store = await filled();
  store.crash();
  const { log, hardState, chainHash } = await snapshotOf(store);
  assert.deepEqual(hardState, { term: 3, vote: 1, commit: 3 });
  assert.deepEqual(log, ['2/2', '2/3', '3/4', '3/5']);
  let expected = genesisHash;
  for (const each of [entry(2, 2), entry(3, 2), entry(4, 3), entry(5, 3)]) expected = entryChainHash(expected, each);
  assert.equal(chainHash, expected);
});

async function snapshotOf(
  store: KeyValueStore,
): Promise<{ log: string[]; hardState: object; chainHash: string | undefined }> {
  const opened = await open(store);
  const entries = opened.log.range(0, 1_000);
  return {
    log: entries.map(({ index, term }) => `${term}/${index}`),
    hardState: opened.hardState(),
    chainHash: opened.chainHash(opened.log.lastIndex()),
  };
}

test('write() is one synced batch', async () => {
  const store = await filled();
  const before = store.syncedBatches;
  const log = await open(store);
  await log.write({ hardState: { term: 4, vote: 2, commit: 3 }, entries: [entry(4, 4), entry(5, 4), entry(6, 4)] });
  assert.equal(store.syncedBatches, before + 1);
});

test('write() cuts off what new entries replace', async () => {
  const store = await filled();
  const log = await open(store);
  await log.write({ hardState: { term: 5, vote: 0, commit: 3 }, entries: [entry(4, 5)] });
  assert.deepEqual((await snapshotOf(store)).log, ['2/2', '2/3', '5/4']);
  assert.ok(!store.keys().some((key) => key.endsWith('0005')));
});

test('write() may be repeated after it failed', async () => {
  const store = await filled();
  const log = await open(store);
  store.failure = new Error('disk full');
  const work = { hardState: { term: 3, vote: 1, commit: 4 }, entries: [entry(6, 3)] };
  await assert.rejects(log.write(work));
  assert.equal(log.log.lastIndex(), 5);
  store.failure = undefined;
  await log.write(work);
  await log.write({ ...work, entries: [entry(7, 3)] });
  assert.deepEqual((await snapshotOf(store)).log, ['2/2', '2/3', '3/4', '3/5', '3/6', '3/7']);
});

test('compact() moves the start and keeps the chain', async () => {
  const store = await filled();
  const log = await open(store);
  const hashBefore = log.chainHash(5);
  await log.compact({ ...base, index: 3, term: 2, chainHash: log.chainHash(3) ?? '' });
  assert.equal(log.log.firstIndex(), 4);
  const reopened = await open(store);
  assert.equal(reopened.base().index, 3);
  assert.equal(reopened.log.term(3), 2);
  assert.equal(reopened.chainHash(5), hashBefore);
});

test('a received snapshot replaces the log and waits to be restored', async () => {
  const store = await filled();
  const log = await open(store);
  const metadata = { ...base, index: 20, term: 4, chainHash: 'c'.repeat(64) };
  const body = new Uint8Array(600_000).map((_, at) => at % 251);
  await log.write({ hardState: { term: 4, vote: 0, commit: 20 }, entries: [], snapshot: { metadata, body } });
  store.crash();
  const reopened = await open(store);
  assert.deepEqual(reopened.base(), metadata);
  assert.equal(reopened.log.lastIndex(), 20);
  assert.deepEqual(await reopened.pendingBody(), body);
  await reopened.write({ hardState: { term: 4, vote: 0, commit: 20 }, entries: [entry(21, 4)] });
  await reopened.dropPendingBody();
  assert.equal(await (await open(store)).pendingBody(), undefined);
  assert.deepEqual(
    store.keys().filter((key) => key.startsWith('snapshot-body')),
    [],
  );
});

test('compact() leaves the disk alone while a snapshot that failed to be written may be there', async (t) => {
  const store = await filled();
  const log = await open(store);
  const batch = store.batch.bind(store);
  const landing = t.mock.method(store, 'batch', async (...[operations, options]: Parameters<typeof batch>) => {
    await batch(operations, options);
    if (operations.some(({ key }) => key === 'tail')) throw new Error('the disk gave no answer');
  });
  const metadata = { ...base, index: 20, term: 4, chainHash: 'c'.repeat(64) };
  const snapshot = { metadata, body: new Uint8Array(10) };
  const work = { hardState: { term: 4, vote: 0, commit: 20 }, entries: [], snapshot };
  await assert.rejects(log.write(work), /no answer/);
  landing.mock.restore();
  await log.compact({ ...base, index: 3, term: 2, chainHash: log.chainHash(3) ?? '' });
  store.crash();
  assert.deepEqual((await open(store)).base(), metadata);
  await log.write(work);
  await log.write({ ...work, snapshot: { ...snapshot, metadata: { ...metadata, index: 30 } } });
  assert.equal((await open(store)).base().index, 30);
});

test('openLogStore() refuses a log with any record missing', async () => {
  const whole = await filled();
  for (const key of whole.keys()) {
    const store = whole.clone();
    store.tamper(key, () => undefined);
    await assert.rejects(open(store), isDamaged, key);
  }
});

test('openLogStore() refuses a log with any one bit flipped', async () => {
  const whole = await filled();
  for (const key of whole.keys()) {
    const size = (await whole.get(key))?.byteLength ?? 0;
    for (let at = 0; at < size; at += 1) {
      const store = whole.clone();
      store.tamper(key, (value) => value.map((byte, position) => (position === at ? byte ^ (1 << (at % 8)) : byte)));
      await assert.rejects(open(store), isDamaged, `${key} byte ${at}`);
    }
  }
});

test('openLogStore() refuses a log that lost its last batches in part', async () => {
  const early = new MemoryStore();
  await bootstrapLog(credulous(early), base);
  const late = await filled(early.clone());
  const mixed = late.clone();
  const tail = await early.get('tail');
  assert.ok(tail);
  mixed.tamper('tail', () => tail);
  await assert.rejects(open(mixed), isDamaged);
  const extra = late.clone();
  const last = await late.get('entry/0000000000000005');
  assert.ok(last);
  extra.tamper('entry/0000000000000007', () => last);
  await assert.rejects(open(extra), isDamaged);
});

test('openLogStore() refuses an empty store, and bootstrapLog() leaves a log as it is', async () => {
  const store = new MemoryStore();
  await assert.rejects(open(store), (error) => error instanceof ParleyError && error.code === 'not-bootstrapped');
  await bootstrapLog(credulous(store), base);
  await bootstrapLog(credulous(store), base);
  await bootstrapLog(credulous(store), { ...base, index: 9 });
  assert.equal((await open(store)).base().index, base.index);
});

test('the log survives closing and opening of a real database', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'parley-log-'));
  t.after(() => rm(folder, { recursive: true }));
  const first = await openStore(folder);
  await bootstrapLog(credulous(first), base);
  const log = await open(first);
  const entries = Array.from({ length: 2_500 }, (_, offset) => entry(2 + offset, 2));
  await log.write({ hardState: { term: 2, vote: 1, commit: 100 }, entries });
  await first.close();
  const second = await openStore(folder);
  const reopened = await open(second);
  assert.equal(reopened.log.lastIndex(), 2_501);
  assert.equal(reopened.chainHash(2_501), log.chainHash(2_501));
  await second.close();
});
