// Which blobs stay: what the ledger names, what came lately, and of what others bring no more than the limits.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BlobKeeper, createBlobKeeper, namedBlobs } from '../../node/ledger/blob-keeper.ts';
import type { ParleyError } from '../../protocols/errors.ts';
import { unnamedBlobBytesMax, unnamedBlobBytesPerPeerMax } from '../../protocols/limits.ts';
import { createLedgerFleet } from '../helpers/ledger-peers.ts';
import { commit, createLedgerScript, deployToPlan, hash, order, report, stage } from '../helpers/ledger-script.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { logger } from '../mesh/fixtures.ts';

const body = (size: number, fill = 1): Uint8Array => new Uint8Array(size).fill(fill);

test('namedBlobs() names what drafts, commits, plans, orders and ran closures need', () => {
  const script = createLedgerScript();
  script.join('web1');
  commit(script, 'one');
  const { task, plan } = deployToPlan(script, ['web1']);
  script.accept('approval-given', { task, plan, verdict: 'approve' });
  order(script, task, 'web1');
  report(script, 'web1', 'succeeded');
  stage(script, 'two');
  const named = namedBlobs(script.state());
  const manifest = script.state().orders.web1?.manifest ?? '';
  for (const each of [hash('pack one'), hash('pack two'), plan, manifest, hash(`evaluation ${task}`)]) {
    assert.ok(named.has(each));
  }
  assert.ok([...named].every((each) => /^[0-9a-f]{64}$/.test(each)));
});

test('createBlobKeeper() removes what nothing names after a day, and nothing else', async (t) => {
  const fleet = await createLedgerFleet(t);
  const { blobs } = await fleet.add('n1', 'consensus');
  const script = createLedgerScript();
  const clock = createManualClock();
  const kept = await blobs.put(body(1));
  const old = await blobs.put(body(2));
  const tree = 'a'.repeat(40);
  script.accept('draft-staged', { base: null, previous: null, tree, pack: kept, files: [], fileCount: 1 });
  const { sweep, stop } = createBlobKeeper({ blobs, clock, logger, state: script.state });
  t.after(stop);
  const hourMs = 3_600_000;
  await sweep();
  clock.advance(20 * hourMs);
  const young = await blobs.put(body(3));
  await sweep();
  assert.deepEqual(await blobs.list(), [kept, old, young].sort());
  await blobs.put(body(3));
  clock.advance(5 * hourMs);
  await sweep();
  assert.deepEqual(await blobs.list(), [kept, young].sort());
  script.accept('draft-discarded', {});
  await sweep();
  clock.advance(18 * hourMs);
  await blobs.put(body(3));
  clock.advance(6 * hourMs);
  await sweep();
  assert.deepEqual(await blobs.list(), [young], 'what is put again counts as new');
});

/** A blob store that holds sizes alone, and a keeper of it. */
function keeperOfSizes(state = createLedgerScript().state) {
  const clock = createManualClock();
  const sizes = new Map<string, { readonly bytes: number; readonly storedAtMs: number }>();
  const blobs = {
    ...{ put: async () => '', get: async () => undefined, onPut: () => () => {} },
    has: async (name: string) => sizes.has(name),
    facts: async (name: string) => sizes.get(name),
    delete: async (name: string) => void sizes.delete(name),
    list: async () => [...sizes.keys()],
  };
  const start = () => createBlobKeeper({ blobs, clock, logger, state });
  /** What a peer's blob is answered. */
  async function bring(keeper: BlobKeeper, sender: string, name: string, bytes: number): Promise<string> {
    const store = async () => sizes.set(hash(name), { bytes, storedAtMs: clock.nowMs() });
    const blob = { sender, hash: hash(name), bytes };
    return keeper.take(blob, store).then(
      () => 'stored',
      ({ code }: ParleyError) => code,
    );
  }
  const has = (name: string) => sizes.has(hash(name));
  return { clock, sizes, start, bring, has };
}

test('createBlobKeeper() keeps so much of each peer and of all, and lets the oldest go for more after an hour', async () => {
  const { clock, sizes, start, bring, has } = keeperOfSizes();
  const keeper = start();
  const fill = unnamedBlobBytesPerPeerMax / 8;
  for (let count = 0; count < 8; count += 1) assert.equal(await bring(keeper, 'a', `a${count}`, fill), 'stored');
  assert.equal(await bring(keeper, 'a', 'a8', fill), 'busy');
  assert.equal(await bring(keeper, 'a', 'a7', fill), 'stored', 'what is here is no more');
  for (let count = 0; count < 16; count += 1) {
    assert.equal(await bring(keeper, `b${count % 2}`, `b${count}`, fill), 'stored', 'others have room of their own');
  }
  clock.advance(3_600_000);
  for (let count = 0; count < 8; count += 1) assert.equal(await bring(keeper, 'c', `c${count}`, fill), 'stored');
  assert.equal(await bring(keeper, 'd', 'd0', fill), 'stored');
  assert.equal(sizes.size, unnamedBlobBytesMax / fill, 'no more than that in all');
  assert.ok(!has('a0') && has('a1'));
  assert.equal(await bring(keeper, 'a', 'a8', fill), 'stored');
  assert.ok(!has('a1') && has('a2') && has('a8'));
  keeper.stop();
});

test('createBlobKeeper() counts small blobs as what they take, and what is named not at all', async () => {
  const script = createLedgerScript();
  const { start, bring } = keeperOfSizes(script.state);
  const keeper = start();
  const pack = hash('pack one');
  stage(script, 'one');
  assert.ok(namedBlobs(script.state()).has(pack));
  for (let count = 0; count < 7; count += 1) await bring(keeper, 'a', `a${count}`, unnamedBlobBytesPerPeerMax / 8);
  const small: string[] = [];
  const smallMax = unnamedBlobBytesPerPeerMax / 8 / (1024 * 1024);
  for (let count = 0; count < smallMax; count += 1) small.push(await bring(keeper, 'a', `s${count}`, 1024 * 1024));
  assert.deepEqual(new Set(small), new Set(['stored']));
  assert.equal(await bring(keeper, 'a', 'one more', 0), 'busy');
  assert.equal(await bring(keeper, 'a', 'pack one', 1_000), 'stored');
  keeper.stop();
});

test('createBlobKeeper() counts the time before a restart, and leaves an hour to what that clock got wrong', async () => {
  const { clock, sizes, start, bring, has } = keeperOfSizes();
  const [first, hourMs] = [start(), 3_600_000];
  await bring(first, 'a', 'old', 1_000);
  first.stop();
  clock.advance(10 * hourMs);
  sizes.set(hash('of 1970'), { bytes: 10, storedAtMs: 0 });
  const second = start();
  await second.sweep();
  clock.advance(hourMs);
  await second.sweep();
  assert.ok(has('old') && !has('of 1970'));
  clock.advance(13 * hourMs);
  await second.sweep();
  assert.ok(!has('old'));
  second.stop();
});
