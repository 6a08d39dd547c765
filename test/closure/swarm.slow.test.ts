// Tests what takes seconds by its nature: uplinks so slow that a frame takes longer than a
// death is given, and peers that fall silent.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { takeoverOrder } from '../../node/closure/assignment-core.ts';
import { closureAnswerSchema, closureMessageBytesMax } from '../../protocols/closure-exchange.ts';
import { decode } from '../../protocols/codec.ts';
import { makeStore, removeStore, required, startFleet } from './fleet.ts';

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

test('fetch() goes on with the next peer when the one in charge falls silent', async (context) => {
  const store = await makeStore([24 * frameBytes, ...Array.from({ length: 20 }, (_, index) => 1 + index * 900)]);
  context.after(() => removeStore(store));
  const fleet = await startFleet(store, { home: 1, shop: 3 });
  context.after(() => fleet.stop());
  const path = required(store.manifest.paths.toSorted((left, right) => right.narSize - left.narSize)[0]);
  const leader = required(takeoverOrder(path.narHash, ['shop-1', 'shop-2', 'shop-3'])[0]);
  let bytesToLeader = 0;
  fleet.network.onMessage = ({ from, to, bytes }) => {
    if (from === 'home-1' && to === leader) bytesToLeader += bytes.byteLength;
    if (bytesToLeader > path.narSize / 2) fleet.network.mute(leader);
    return bytes;
  };
  const { signal } = new AbortController();
  const others = fleet.at('shop').filter((peer) => peer.name !== leader);
  await Promise.all(others.map((peer) => peer.closures.fetch(store.manifestHash, { signal })));
  const across = fleet.at('shop').map((peer) => peer.closures.uplink(store.manifestHash).receivedAcrossBytes);
  const waste = across.reduce((sum, bytes) => sum + bytes, 0) - store.totalBytes;
  context.diagnostic(`${waste} bytes crossed twice`);
  assert.ok(waste <= path.narSize + 8 * frameBytes);
});
