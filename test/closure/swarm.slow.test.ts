// Tests what takes seconds by its nature: uplinks so slow that a frame takes longer than a death is given.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { closureAnswerSchema, closureMessageBytesMax } from '../../protocols/closure-exchange.ts';
import { decode } from '../../protocols/codec.ts';
import { makeStore, removeStore, startFleet } from './fleet.ts';

const frameBytes = 256 * 1024;
const frameMs = 800;

test('fetch() does not take a slow uplink for a dead one', async (context) => {
  const store = await makeStore(Array.from({ length: 4 }, () => 3 * frameBytes - 1_000));
  context.after(() => removeStore(store));
  const fleet = await startFleet(store, { home: 1, shop: 2 });
  context.after(() => fleet.stop());
  let line = Promise.resolve();
  fleet.network.onMessage = async ({ from, bytes }) => {
    if (from !== 'home-1' || decode(closureAnswerSchema, bytes, closureMessageBytesMax).kind !== 'data') return bytes;
    line = line.then(() => delay(frameMs));
    await line;
    return bytes;
  };
  const { signal } = new AbortController();
  await Promise.all(fleet.at('shop').map((peer) => peer.closures.fetch(store.manifestHash, { signal })));
  const across = fleet.at('shop').map((peer) => peer.closures.uplink(store.manifestHash).receivedAcrossBytes);
  assert.equal(
    across.reduce((sum, bytes) => sum + bytes, 0),
    store.totalBytes,
  );
});
