// Tests the swarm as a whole: sites of peers over the in-memory mesh, real store paths, real spools.

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { takeoverOrder } from '../../node/closure/assignment-core.ts';
import type { FetchProgress } from '../../node/closure/index.ts';
import {
  type ClosureAnswer,
  closureAnswerSchema,
  closureMessageBytesMax,
  closureProtocol,
  closureRequestSchema,
} from '../../protocols/closure-exchange.ts';
import { decode, encode, hashOf } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { MemoryMessage } from '../helpers/memory-mesh.ts';
import { seededRandom } from '../mesh/fixtures.ts';
import {
  makeKey,
  makeStore,
  manifestOf,
  readNar,
  removeStore,
  required,
  type StoreFixture,
  signPath,
  startFleet,
  type TestPeer,
} from './fleet.ts';

type MemoryFleet = Awaited<ReturnType<typeof startFleet>>;

const kibibyte = 1024;
/** What a death may waste: the paths in flight to the dead peer, up to their unread frames. */
const creditBytes = 2 * 1024 * kibibyte;
let store: StoreFixture;

before(async () => {
  const sizes = [6_000 * kibibyte, 1_000 * kibibyte, ...Array.from({ length: 30 }, (_, index) => 1 + index * 900)];
  store = await makeStore(sizes);
});
after(() => removeStore(store));

async function fetchAt(peers: readonly TestPeer[], signal = new AbortController().signal): Promise<void> {
  await Promise.all(peers.map((peer) => peer.closures.fetch(store.manifestHash, { signal })));
}

function receivedAcross(peers: readonly TestPeer[]): number {
  return peers.reduce((sum, peer) => sum + peer.closures.uplink(store.manifestHash).receivedAcrossBytes, 0);
}

function dataOf({ bytes }: MemoryMessage): Extract<ClosureAnswer, { kind: 'data' }> | undefined {
  const answer = tryDecode(() => decode(closureAnswerSchema, bytes, closureMessageBytesMax));
  return answer?.kind === 'data' ? answer : undefined;
}

function tryDecode<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}

/** The largest path, and the shop's peers in order of takeover for it. */
function largest() {
  const path = required(store.manifest.paths.toSorted((left, right) => right.narSize - left.narSize)[0]);
  const order = takeoverOrder(path.narHash, ['shop-1', 'shop-2', 'shop-3']);
  return { path, leader: required(order[0]), second: required(order[1]) };
}

/** Runs `fault` once the peer has received this many NAR bytes from another site. */
function afterBytes(fleet: MemoryFleet, to: string, from: string, bytesMin: number, fault: () => void): void {
  let bytes = 0;
  fleet.network.onMessage = (message) => {
    if (message.to === to && message.from === from && bytes < bytesMin) {
      bytes += dataOf(message)?.bytes.byteLength ?? 0;
      if (bytes >= bytesMin) fault();
    }
    return message.bytes;
  };
}

/** Changes one bit of every NAR frame that the peer sends. */
function corruptFrom(fleet: MemoryFleet, peer: string): void {
  fleet.network.onMessage = (message) => {
    const data = message.from === peer ? dataOf(message) : undefined;
    if (data === undefined) return message.bytes;
    return encode({ ...data, bytes: data.bytes.with(0, (data.bytes[0] ?? 0) ^ 1) });
  };
}

test('fetch() brings every byte across the uplink of a site once when all its peers fetch at once', async (context) => {
  const fleet = await startFleet(store, { home: 3, shop: 3 });
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
  const bySite = fleet.at('shop').map((peer) => peer.closures.counters().bySite);
  const inside = bySite.reduce((sum, sites) => sum + (sites.shop?.bytesIn ?? 0), 0);
  assert.equal(inside, 2 * store.totalBytes, 'two of three peers got each byte inside the site');
});

test('fetch() one peer after another crosses once in all', async (context) => {
  const fleet = await startFleet(store, { home: 1, shop: 3 });
  context.after(() => fleet.stop());
  for (const peer of fleet.at('shop')) await fetchAt([peer]);
  assert.equal(receivedAcross(fleet.at('shop')), store.totalBytes);
});

test('fetch() finishes with little waste when the peer in charge is killed midway', async (context) => {
  const fleet = await startFleet(store, { home: 1, shop: 3 });
  context.after(() => fleet.stop());
  const { leader, path } = largest();
  afterBytes(fleet, leader, 'home-1', path.narSize / 2, () => fleet.network.kill(leader));
  const others = fleet.at('shop').filter((peer) => peer.name !== leader);
  const victim = fetchAt([fleet.get(leader)]).catch(() => 'killed');
  await fetchAt(others);
  await fleet.get(leader).closures.stop();
  assert.equal(await victim, 'killed');
  const waste = receivedAcross(fleet.at('shop')) - store.totalBytes;
  context.diagnostic(`${waste} bytes crossed twice`);
  assert.ok(waste <= creditBytes, `${waste} bytes crossed twice`);
});

test('fetch() ends and crosses little twice when views of who is alive differ', async (context) => {
  const views: Record<string, string[]> = {
    'shop-1': ['shop-2'],
    'shop-2': ['shop-3'],
    'shop-3': ['shop-1'],
    'shop-4': ['shop-1', 'shop-2', 'shop-3'],
  };
  const fleet = await startFleet(store, { home: 1, shop: 4 }, (name) => {
    const live = views[name];
    return live === undefined ? {} : { live };
  });
  context.after(() => fleet.stop());
  await fetchAt(fleet.at('shop'));
  const ratio = receivedAcross(fleet.at('shop')) / store.totalBytes;
  context.diagnostic(`uplink ratio ${ratio}`);
  assert.ok(ratio <= 3);
});

test('fetch() passes the charge on when the peer in charge knows no source', async (context) => {
  const fleet = await startFleet(store, { home: 1, shop: 2 }, (name) => (name === 'shop-1' ? { sources: [] } : {}));
  context.after(() => fleet.stop());
  const hurry = AbortSignal.timeout(20_000);
  await fetchAt(fleet.at('shop'), hurry);
  assert.equal(receivedAcross(fleet.at('shop')), store.totalBytes);
  assert.equal(fleet.get('shop-1').closures.uplink(store.manifestHash).receivedAcrossBytes, 0);
});

test('fetch() takes over what a neighbour has of a path before it crosses for the rest', async (context) => {
  const { path } = largest();
  const [leader, other] = takeoverOrder(path.narHash, ['shop-1', 'shop-2']);
  const spoolFolder = `${store.folder}/adopted`;
  const half = Math.floor(path.narSize / 2);
  await mkdir(spoolFolder);
  const nar = await readNar(`${store.storeFolder}${path.storePath}`);
  await writeFile(`${spoolFolder}/${path.narHash.slice('sha256:'.length)}.nar.part`, nar.subarray(0, half));
  const fleet = await startFleet(store, { home: 1, shop: 2 }, (name) => (name === other ? { spoolFolder } : {}));
  context.after(() => fleet.stop());
  await fetchAt([fleet.get(required(leader))]);
  assert.equal(receivedAcross(fleet.at('shop')), store.totalBytes - half);
});

test('fetch() goes on from another site when the builder dies midway', async (context) => {
  const fleet = await startFleet(store, { home: 1, rack: 1, shop: 2 }, (name) => ({
    holdsAll: name === 'home-1' || name === 'rack-1',
    sources: ['home-1', 'rack-1'],
  }));
  context.after(() => fleet.stop());
  const { path } = largest();
  const leader = required(takeoverOrder(path.narHash, ['shop-1', 'shop-2'])[0]);
  afterBytes(fleet, leader, 'home-1', path.narSize / 2, () => fleet.network.kill('home-1'));
  await fetchAt(fleet.at('shop'));
  const waste = receivedAcross(fleet.at('shop')) - store.totalBytes;
  assert.ok(waste <= creditBytes, `${waste} bytes crossed twice`);
  const { sentAcrossBytes } = fleet.get('rack-1').closures.uplink(store.manifestHash);
  assert.ok((sentAcrossBytes.shop ?? 0) > path.narSize / 3);
});

test('fetch() brings equal contents of two paths across once', async (context) => {
  const twins = await makeStore([0, 0, 0]);
  context.after(() => removeStore(twins));
  const fleet = await startFleet(twins, { home: 1, shop: 2 });
  context.after(() => fleet.stop());
  const { signal } = new AbortController();
  await Promise.all(fleet.at('shop').map((peer) => peer.closures.fetch(twins.manifestHash, { signal })));
  const sizes = new Map(twins.manifest.paths.map(({ narHash, narSize }) => [narHash, narSize]));
  assert.equal(sizes.size, 2);
  const across = fleet.at('shop').map((peer) => peer.closures.uplink(twins.manifestHash).receivedAcrossBytes);
  const unique = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  assert.equal(
    across.reduce((sum, bytes) => sum + bytes, 0),
    unique,
  );
});

test('fetch() starts a path over when what an earlier run left is damaged', async (context) => {
  const spoolFolder = `${store.folder}/damaged`;
  const { path } = largest();
  await mkdir(spoolFolder);
  await writeFile(`${spoolFolder}/${path.narHash.slice('sha256:'.length)}.nar.part`, Buffer.alloc(path.narSize / 2));
  const fleet = await startFleet(store, { home: 1, shop: 1 }, (name) => (name === 'shop-1' ? { spoolFolder } : {}));
  context.after(() => fleet.stop());
  await fetchAt(fleet.at('shop'));
  const waste = receivedAcross(fleet.at('shop')) - store.totalBytes;
  assert.equal(waste, Math.ceil(path.narSize / 2));
});

test('fetch() refuses wrong content, names its sender and takes the next source', async (context) => {
  const fleet = await startFleet(store, { home: 1, rogue: 1, shop: 1 }, (name) => ({
    holdsAll: name !== 'shop-1',
    sources: ['rogue-1', 'home-1'],
  }));
  context.after(() => fleet.stop());
  corruptFrom(fleet, 'rogue-1');
  const shop = fleet.get('shop-1');
  await fetchAt([shop]);
  const refused = shop.log.filter(({ message }) => message === 'a path with wrong content is refused');
  assert.ok(refused.length > 0);
  assert.ok(refused.every(({ fields }) => fields.sender === 'rogue-1'));
  assert.equal(receivedAcross([shop]), 2 * store.totalBytes, 'each path is asked of the rogue once');
});

test('fetch() fails with the sender named when only wrong content is to be had', async (context) => {
  const fleet = await startFleet(store, { home: 1, shop: 1 });
  context.after(() => fleet.stop());
  corruptFrom(fleet, 'home-1');
  await assert.rejects(fetchAt(fleet.at('shop')), (error) => {
    assert.ok(error instanceof ParleyError);
    assert.equal(error.code, 'content-mismatch');
    assert.match(error.message, /'\/nix\/store\/.*' from home-1 is refused/);
    return true;
  });
  await fleet.get('shop-1').closures.release(store.manifestHash);
  assert.equal(fleet.get('shop-1').closures.counters().spoolBytes, 0);
});

test('a neighbour that gathers wrong content for another one is not blamed for it', async (context) => {
  const fleet = await startFleet(store, { home: 1, rogue: 1, shop: 2 }, (name) => ({
    holdsAll: name === 'home-1' || name === 'rogue-1',
    sources: ['rogue-1', 'home-1'],
  }));
  context.after(() => fleet.stop());
  corruptFrom(fleet, 'rogue-1');
  await fetchAt(fleet.at('shop'));
  const senders = fleet
    .at('shop')
    .flatMap(({ log }) => log.filter(({ message }) => message === 'a path with wrong content is refused'))
    .map(({ fields }) => fields.sender);
  assert.deepEqual([...new Set(senders)], ['rogue-1']);
});

test('a sender whose store changed says so instead of ending its answer', async (context) => {
  const smallest = required(store.manifest.paths.toSorted((left, right) => left.narSize - right.narSize)[0]);
  const fleet = await startFleet(store, { home: 1, shop: 1 }, (name) =>
    name === 'home-1' ? { nix: { physicalPath: () => `${store.storeFolder}${smallest.storePath}` } } : {},
  );
  context.after(() => fleet.stop());
  await assert.rejects(fetchAt(fleet.at('shop')), /home-1/);
  assert.ok(fleet.get('home-1').log.some(({ fields }) => /store-damaged|has the hash/.test(JSON.stringify(fields))));
});

test('fetch() refuses a path that no builder in force signed before a byte of it crosses', async (context) => {
  const stranger = makeKey('stranger');
  const [first, ...rest] = store.manifest.paths;
  const forged = manifestOf(store.manifest.root, [signPath(required(first), stranger), ...rest], store.key);
  const swappedPath = { ...required(first), narHash: required(rest[0]).narHash };
  const swapped = manifestOf(store.manifest.root, [swappedPath, ...rest], store.key);
  const fleet = await startFleet(store, { home: 1, shop: 1 }, () => ({}), [forged.manifest, swapped.manifest]);
  context.after(() => fleet.stop());
  const { signal } = new AbortController();
  for (const { manifestHash } of [forged, swapped]) {
    const fetching = fleet.get('shop-1').closures.fetch(manifestHash, { signal });
    await assert.rejects(fetching, (error) => error instanceof ParleyError && error.code === 'signature-untrusted');
    assert.equal(fleet.get('shop-1').closures.uplink(manifestHash).receivedAcrossBytes, 0);
  }
});

test('fetch() of a manifest that nobody has is a clear error', async (context) => {
  const fleet = await startFleet(store, { home: 1, shop: 1 });
  context.after(() => fleet.stop());
  const { signal } = new AbortController();
  const fetching = fleet.get('shop-1').closures.fetch(hashOf('nothing'), { signal });
  await assert.rejects(fetching, (error) => error instanceof ParleyError && error.code === 'manifest-unknown');
});

test('fetch() goes on where it stopped after a restart', async (context) => {
  const spoolFolder = `${store.folder}/restarted`;
  const first = await startFleet(store, { home: 1, shop: 1 }, (name) => (name === 'shop-1' ? { spoolFolder } : {}));
  const stopping = new AbortController();
  afterBytes(first, 'shop-1', 'home-1', store.totalBytes / 2, () => stopping.abort(new Error('stop')));
  await assert.rejects(fetchAt(first.at('shop'), stopping.signal), /stop/);
  await first.stop();
  const before = receivedAcross(first.at('shop'));
  const second = await startFleet(store, { home: 1, shop: 1 }, (name) => (name === 'shop-1' ? { spoolFolder } : {}));
  context.after(() => second.stop());
  await fetchAt(second.at('shop'));
  assert.equal(before + receivedAcross(second.at('shop')), store.totalBytes);
});

test('fetch() reports progress up to all paths and bytes', async (context) => {
  const fleet = await startFleet(store, { home: 1, shop: 1 });
  context.after(() => fleet.stop());
  const seen: FetchProgress[] = [];
  const { signal } = new AbortController();
  const onProgress = (progress: FetchProgress): void => void seen.push(progress);
  await fleet.get('shop-1').closures.fetch(store.manifestHash, { signal, onProgress });
  const total = { pathsTotal: store.manifest.paths.length, bytesTotal: store.totalBytes };
  assert.deepEqual(seen[0], { pathsDone: 0, bytesDone: 0, from: undefined, ...total });
  const all = { pathsDone: total.pathsTotal, bytesDone: total.bytesTotal, from: 'home-1', ...total };
  assert.deepEqual(seen.at(-1), all);
  assert.ok(seen.every(({ bytesDone }, index) => bytesDone >= (seen[index - 1]?.bytesDone ?? 0)));
});

test('fetch() keeps at most four paths in flight from one source', async (context) => {
  const fleet = await startFleet(store, { home: 1, shop: 1 });
  context.after(() => fleet.stop());
  let open = 0;
  let most = 0;
  fleet.network.onMessage = ({ protocol, from, bytes }) => {
    if (protocol === closureProtocol && from === 'shop-1') {
      const request = tryDecode(() => decode(closureRequestSchema, bytes, closureMessageBytesMax));
      if (request?.kind === 'fetch') open += 1;
      most = Math.max(most, open);
    } else if (tryDecode(() => decode(closureAnswerSchema, bytes, closureMessageBytesMax))?.kind === 'trailer') {
      open -= 1;
    }
    return bytes;
  };
  await fetchAt(fleet.at('shop'));
  assert.equal(most, 4);
});

test('fetch() survives a source that answers with noise', async (context) => {
  const fleet = await startFleet(store, { home: 1, rogue: 1, shop: 1 }, (name) => ({
    holdsAll: name !== 'shop-1',
    sources: ['rogue-1', 'home-1'],
  }));
  context.after(() => fleet.stop());
  const random = seededRandom('noise');
  context.diagnostic(random.seedText);
  fleet.network.onMessage = ({ from, bytes }) => {
    if (from !== 'rogue-1') return bytes;
    if (random.below(3) === 0) return random.bytes(random.below(300));
    return bytes.with(random.below(Math.min(40, bytes.byteLength)), random.below(256));
  };
  await fetchAt(fleet.at('shop'));
});

test('fetch() refuses with disk-full when the spool may not hold the closure, and finishes when it may', async (context) => {
  const spoolFolder = `${store.folder}/small`;
  const small = await startFleet(store, { home: 1, shop: 1 }, (name) =>
    name === 'shop-1' ? { spoolFolder, spoolBytesMax: store.totalBytes - 1 } : {},
  );
  await assert.rejects(
    fetchAt(small.at('shop')),
    (error) => error instanceof ParleyError && error.code === 'disk-full',
  );
  await small.stop();
  const roomy = await startFleet(store, { home: 1, shop: 1 }, (name) => (name === 'shop-1' ? { spoolFolder } : {}));
  context.after(() => roomy.stop());
  await fetchAt(roomy.at('shop'));
  await roomy.get('shop-1').closures.release(store.manifestHash);
  assert.equal(roomy.get('shop-1').closures.counters().spoolBytes, 0);
});
