// What a replica stores and when: nothing again that is stored already, and checkpoints by how much has come since.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createReplica } from '../../node/ledger/replica.ts';
import { createSnapshotStore } from '../../node/ledger/snapshots.ts';
import { MemoryStore } from '../consensus/memory-store.ts';
import { createLedgerScript } from '../helpers/ledger-script.ts';
import { logger } from '../mesh/fixtures.ts';

const calls = {
  onEntry: () => {},
  onRestoring: async () => {},
  onRestored: () => {},
  onApplied: () => {},
  onSaved: () => {},
};

/** A replica as it starts from what a store holds. */
async function start(store: MemoryStore) {
  const snapshots = createSnapshotStore({ store, logger, generations: [], isCheckpoint: () => false });
  const stored = await snapshots.load();
  const first = stored?.state ?? createLedgerScript().genesis.state;
  const rules = { stopsAtLevel: true, generations: [] };
  return createReplica({ first, storedBytes: stored?.bytes, snapshots, logger, ...rules, ...calls });
}

test('close() stores the state once, however often the peer starts and stops', async () => {
  const store = new MemoryStore();
  for (const batches of [1, 1, 1]) {
    await (await start(store)).close();
    assert.equal(store.syncedBatches, batches);
  }
  const script = createLedgerScript();
  script.join('web1');
  const replica = await start(store);
  replica.apply(script.entries);
  await replica.close();
  assert.equal(store.syncedBatches, 2, 'there is more to store now');
  assert.equal((await start(store)).state().index, script.state().index);
});

test('checkpointDue() counts what has come since against the stored snapshot, after a restart too', async () => {
  const store = new MemoryStore();
  const script = createLedgerScript();
  for (let count = 0; count < 130; count += 1) script.join(`web${count}`);
  const replica = await start(store);
  replica.apply(script.entries);
  assert.equal(replica.checkpointDue()?.kind, 'checkpoint-begun');
  await replica.close();
  const restarted = await start(store);
  assert.equal(restarted.checkpointDue(), undefined);
  const before = script.entries.length;
  for (let count = 130; count < 260; count += 1) script.join(`web${count}`);
  restarted.apply(script.entries.slice(before));
  assert.equal(restarted.checkpointDue()?.kind, 'checkpoint-begun');
});

test('checkpointDue() asks for a checkpoint where the newest one is not on this disk, until one is', async () => {
  const script = createLedgerScript();
  const [whole, restored] = [await start(new MemoryStore()), await start(new MemoryStore())];
  let applied = 0;
  const goOn = async (): Promise<void> => {
    for (const replica of [whole, restored].filter(({ state }) => state().index === applied + 1)) {
      replica.apply(script.entries.slice(applied));
      await replica.save();
    }
    applied = script.entries.length;
  };
  const checkpoint = async (): Promise<void> => {
    script.accept('checkpoint-begun', {}, { actor: 'controller' });
    await goOn();
    const draft = whole.checkpointDue();
    assert.ok(draft?.kind === 'checkpoint-made');
    script.accept('checkpoint-made', draft.body, { actor: 'controller' });
    await goOn();
  };
  script.join('web1');
  whole.apply(script.entries);
  applied = script.entries.length;
  await checkpoint();
  await restored.restore(await whole.save());
  assert.equal(whole.checkpointDue(), undefined);
  assert.equal(restored.checkpointDue()?.kind, 'checkpoint-begun');
  await checkpoint();
  assert.equal(restored.checkpointDue(), undefined);
});
