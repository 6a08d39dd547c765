// What the append thread says and when: nothing leaves before its write is synced, and a vote alone is worth a write.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { AppendThread } from '../../node/consensus/append-thread.ts';
import { appendThread, type Message, makeMessage } from '../../node/consensus/core/message.ts';
import { bootstrapLog, openLogStore } from '../../node/consensus/log-store.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { genesisHash, noLearners } from './fleet.ts';
import { MemoryStore } from './memory-store.ts';
import { MemoryWitness } from './memory-witness.ts';

interface World {
  readonly disk: MemoryStore;
  /** Gives the thread a write that an answer depends on; resolves when that is said, with what is on disk by then. */
  write(fields: Partial<Message>): Promise<{ term: number; vote: number; lastIndex: number }>;
}

async function start(t: TestContext): Promise<World> {
  const disk = new MemoryStore();
  const configuration = { voters: [1, 2, 3], ...noLearners };
  const witness = new MemoryWitness();
  await bootstrapLog({ store: disk, witness }, { index: 1, term: 1, chainHash: genesisHash, configuration });
  let said = (): void => {};
  const thread = new AppendThread({
    store: await openLogStore({ store: disk, witness }, () => undefined),
    clock: createManualClock(),
    restore: async () => {},
    deliver: (responses) => {
      if (responses.length > 0) said();
    },
    onWritten: () => {},
    onFailure: (error) => assert.fail(String(error)),
    onRecovery: () => {},
  });
  t.after(() => thread.stop());
  return {
    disk,
    async write(fields) {
      const { promise, resolve } = Promise.withResolvers<MemoryStore>();
      // At this very moment the machine may crash.
      said = () => {
        disk.crash();
        resolve(disk.clone());
      };
      const responses = [makeMessage('vote-response', 2, { from: 1, term: 2 })];
      thread.push(makeMessage('storage-append', appendThread, { from: 1, commit: 1, ...fields, responses }));
      const opened = await openLogStore({ store: await promise, witness }, () => undefined);
      const { term, vote } = opened.hardState();
      return { term, vote, lastIndex: opened.log.lastIndex() };
    },
  };
}

test('a vote is on disk before it leaves', async (t) => {
  const { write } = await start(t);
  assert.deepEqual(await write({ term: 2, vote: 3 }), { term: 2, vote: 3, lastIndex: 1 });
});

test('a vote in a term that is known is on disk before it leaves', async (t) => {
  const { write } = await start(t);
  await write({ term: 2, vote: 0 });
  assert.deepEqual(await write({ term: 2, vote: 2 }), { term: 2, vote: 2, lastIndex: 1 });
});

test('a higher term without a vote is on disk before anybody hears of it', async (t) => {
  const { write } = await start(t);
  assert.deepEqual(await write({ term: 5, vote: 0 }), { term: 5, vote: 0, lastIndex: 1 });
});

test('entries are on disk before they are acknowledged', async (t) => {
  const { write } = await start(t);
  const entries = [{ index: 2, term: 2, type: 'normal' as const, data: new Uint8Array([1]) }];
  assert.deepEqual(await write({ term: 2, vote: 2, entries }), { term: 2, vote: 2, lastIndex: 2 });
});

test('a commit index alone costs no write', async (t) => {
  const { write, disk } = await start(t);
  await write({ term: 2, vote: 2, entries: [{ index: 2, term: 2, type: 'normal', data: new Uint8Array([1]) }] });
  const before = disk.syncedBatches;
  await write({ term: 2, vote: 2, commit: 2 });
  assert.equal(disk.syncedBatches, before);
});
