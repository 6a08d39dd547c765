// Tests the swarm as a whole: sites of peers over the in-memory mesh, real store paths, real spools.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createMemoryNetwork, type MemoryNetwork } from '../helpers/memory-mesh.ts';
import { makePeer, makeStore, type PeerInit, removeStore, type StoreFixture, type TestPeer } from './fleet.ts';

const kibibyte = 1024;
let store: StoreFixture;

before(async () => {
  const sizes = [3_000 * kibibyte, 1_000 * kibibyte, ...Array.from({ length: 40 }, (_, index) => 1 + index * 900)];
  store = await makeStore(sizes);
});
after(() => removeStore(store));

interface Fleet {
  readonly network: MemoryNetwork;
  readonly peers: ReadonlyMap<string, TestPeer>;
  at(site: string): TestPeer[];
  get(name: string): TestPeer;
  stop(): Promise<void>;
}

let fleets = 0;

/** Peers named `<site>-<number>`; `home-1` is the builder and holds everything. */
async function startFleet(sites: Readonly<Record<string, number>>, change: Partial<PeerInit> = {}): Promise<Fleet> {
  fleets += 1;
  const network = createMemoryNetwork();
  const names = Object.entries(sites).flatMap(([site, count]) =>
    Array.from({ length: count }, (_, index) => ({ site, name: `${site}-${index + 1}` })),
  );
  const siteOf = new Map(names.map(({ name, site }) => [name, site]));
  const peers = new Map<string, TestPeer>();
  const meshes = names.map(({ name, site }) => {
    const mesh = network.join(name);
    const live = names.filter((other) => other.site === site && other.name !== name).map((other) => other.name);
    const manifests = new Map([[store.manifestHash, store.manifest]]);
    const folder = `${store.folder}/fleet-${fleets}/${name}`;
    const init = { name, site, store, mesh, siteOf, sources: ['home-1'], manifests, live, spoolFolder: folder };
    peers.set(name, makePeer({ ...init, holdsAll: name === 'home-1', ...change }));
    return mesh;
  });
  for (const mesh of meshes) await mesh.start();
  for (const peer of peers.values()) await peer.closures.start();
  const get = (name: string): TestPeer => {
    const peer = peers.get(name);
    assert.ok(peer);
    return peer;
  };
  return {
    network,
    peers,
    get,
    at: (site) => [...peers.values()].filter((peer) => peer.site === site),
    async stop() {
      for (const peer of peers.values()) await peer.closures.stop();
      for (const mesh of meshes) await mesh.stop();
    },
  };
}

async function fetchAt(peers: readonly TestPeer[]): Promise<void> {
  const { signal } = new AbortController();
  await Promise.all(peers.map((peer) => peer.closures.fetch(store.manifestHash, { signal })));
}

function receivedAcross(peers: readonly TestPeer[]): number {
  return peers.reduce((sum, peer) => sum + peer.closures.uplink(store.manifestHash).receivedAcrossBytes, 0);
}

test('fetch() brings every byte across the uplink of a site once when all its peers fetch at once', async (context) => {
  const fleet = await startFleet({ home: 3, shop: 3 });
  context.after(() => fleet.stop());
  await fetchAt([...fleet.at('shop'), fleet.get('home-2'), fleet.get('home-3')]);
  assert.equal(receivedAcross(fleet.at('shop')), store.totalBytes);
  assert.equal(receivedAcross(fleet.at('home')), 0);
  const sent = fleet.get('home-1').closures.uplink(store.manifestHash).sentAcrossBytes;
  assert.deepEqual(sent, { shop: store.totalBytes });
  const unique = fleet.at('shop').map((peer) => peer.closures.uplink(store.manifestHash));
  assert.equal(new Set(unique.flatMap(({ ordinals }) => ordinals)).size, store.manifest.paths.length);
  assert.ok(
    unique.every(({ uniqueBytes }) => uniqueBytes > 0),
    'every peer of the site brought a part',
  );
});
