// Tests the swarm over the real mesh: libp2p on loopback, two sites of three peers.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { newPeer, startTogether } from '../mesh/fixtures.ts';
import { type Fleet, makeStore, namesOf, removeStore, type StoreFixture, startPeers } from './fleet.ts';

const mebibyte = 1024 * 1024;

async function startReal(context: TestContext, store: StoreFixture, sites: Record<string, number>): Promise<Fleet> {
  const peers = namesOf(sites).map(({ name, site }) => ({ name, site, ...newPeer(context) }));
  await startTogether(peers);
  const fleet = await startPeers(store, new Map(peers.map(({ name, site, mesh }) => [name, { site, mesh }])));
  context.after(() => fleet.stop());
  return fleet;
}

test('fetch() crosses the uplink once over libp2p, and once more at most what a dead peer had', async (context) => {
  const sizes = [5 * mebibyte, mebibyte, ...Array.from({ length: 40 }, (_, index) => 100 + index * 500)];
  const store = await makeStore(sizes);
  context.after(() => removeStore(store));
  const { signal } = new AbortController();
  const fleet = await startReal(context, store, { home: 2, shop: 3 });
  const startMs = performance.now();
  const askers = [...fleet.at('shop'), fleet.get('home-2')];
  await Promise.all(askers.map((peer) => peer.closures.fetch(store.manifestHash, { signal })));
  const seconds = (performance.now() - startMs) / 1000;
  context.diagnostic(`${(store.totalBytes / mebibyte).toFixed(1)} MiB to four peers in ${seconds.toFixed(2)} s`);
  const figures = fleet.at('shop').map((peer) => peer.closures.uplink(store.manifestHash));
  assert.equal(
    figures.reduce((sum, { receivedAcrossBytes }) => sum + receivedAcrossBytes, 0),
    store.totalBytes,
  );
  assert.equal(fleet.get('home-2').closures.uplink(store.manifestHash).receivedAcrossBytes, 0);
});

test('fetch() finishes over libp2p when a peer of the site stops midway', async (context) => {
  const store = await makeStore([12 * mebibyte, 3 * mebibyte, 3 * mebibyte, 3 * mebibyte]);
  context.after(() => removeStore(store));
  const { signal } = new AbortController();
  const fleet = await startReal(context, store, { home: 1, shop: 3 });
  const shop = fleet.at('shop');
  const midway = Promise.withResolvers<void>();
  const onProgress = ({ bytesDone }: { bytesDone: number }): void => {
    if (bytesDone > store.totalBytes / 3) midway.resolve();
  };
  const fetching = shop.map((peer) => peer.closures.fetch(store.manifestHash, { signal, onProgress }));
  const outcomes = Promise.allSettled(fetching);
  await Promise.race([midway.promise, outcomes]);
  await fleet.mesh('shop-2').stop();
  await Promise.all([fetching[0], fetching[2]]);
  await fleet.get('shop-2').closures.stop();
  assert.equal((await outcomes)[1]?.status, 'rejected');
  const across = shop.map((peer) => peer.closures.uplink(store.manifestHash).receivedAcrossBytes);
  const waste = across.reduce((sum, bytes) => sum + bytes, 0) - store.totalBytes;
  context.diagnostic(`${waste} bytes crossed twice`);
  assert.ok(waste <= 9 * mebibyte, `${waste} bytes crossed twice`);
});
