// Owns the fixtures of the swarm's tests: a folder of real store paths made by Nix, a signed manifest of them, and peers
// of several sites in one process.

import { execFile } from 'node:child_process';
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type ClosureNix, type Closures, createClosures } from '../../node/closure/index.ts';
import { writeNar } from '../../node/closure/nar-writer.ts';
import { systemClock } from '../../node/host/index.ts';
import type { Logger, Mesh } from '../../node/interfaces.ts';
import { hashOf } from '../../protocols/codec.ts';
import { fingerprintOf, type Manifest, type ManifestPath } from '../../protocols/manifest.ts';
import { toNarHash } from '../../protocols/nix32.ts';
import { createMemoryNetwork, type MemoryNetwork } from '../helpers/memory-mesh.ts';

const run = promisify(execFile);

/** Nix without substituters, build users or anything from the machine. */
export const nixEnvironment = {
  ...process.env,
  NIX_CONFIG: 'build-users-group =\nsubstituters =\nflake-registry =\nsandbox-paths = /bin/sh=/bin/busybox',
};

export interface BuilderKey {
  readonly name: string;
  /** As in trusted-public-keys. */
  readonly publicKey: string;
  readonly privateKey: KeyObject;
}

export function makeKey(name: string): BuilderKey {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const { x } = publicKey.export({ format: 'jwk' });
  return { name, privateKey, publicKey: `${name}:${Buffer.from(x ?? '', 'base64url').toString('base64')}` };
}

export function signPath(path: Omit<ManifestPath, 'signature'>, key: BuilderKey): ManifestPath {
  const signature = sign(null, Buffer.from(fingerprintOf(path)), key.privateKey);
  return { ...path, signature: `${key.name}:${signature.toString('base64')}` };
}

/** A store folder with real paths, a root that refers to all of them, and their signed manifest. */
export interface StoreFixture {
  readonly folder: string;
  readonly storeFolder: string;
  readonly key: BuilderKey;
  readonly manifest: Manifest;
  readonly manifestHash: string;
  readonly totalBytes: number;
}

export async function makeStore(sizes: readonly number[]): Promise<StoreFixture> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-closure-'));
  const storeFolder = join(folder, 'store');
  const sources = join(folder, 'sources');
  await mkdir(sources);
  const names = sizes.map((_size, index) => join(sources, `path-${index}`));
  for (const [index, name] of names.entries()) await writeFile(name, randomBytes(sizes[index] ?? 0));
  const { stdout } = await run('nix-store', ['--store', storeFolder, '--add', ...names], { env: nixEnvironment });
  const key = makeKey('builder-1');
  const leaves = stdout.trim().split('\n').sort();
  const contents = leaves.map((path) => `\${builtins.storePath "${path}"}`).join('\n');
  const expression = `builtins.toFile "root" ''${contents}''`;
  const evaluate = ['--store', storeFolder, '--read-write-mode', '--eval', '--json', '-E', expression];
  const root: string = JSON.parse((await run('nix-instantiate', evaluate, { env: nixEnvironment })).stdout);
  const paths: ManifestPath[] = [];
  for (const storePath of [...leaves, root].sort()) {
    const nar = await readNar(join(storeFolder, storePath));
    const references = storePath === root ? leaves : [];
    paths.push(signPath({ storePath, narHash: hashBytes(nar), narSize: nar.byteLength, references }, key));
  }
  return { folder, storeFolder, key, ...manifestOf(root, paths, key) };
}

export function manifestOf(root: string, paths: readonly ManifestPath[], key: BuilderKey) {
  const manifest: Manifest = { version: 1, root, key: key.name, paths: [...paths] };
  const totalBytes = paths.reduce((sum, path) => sum + path.narSize, 0);
  return { manifest, manifestHash: hashOf(manifest), totalBytes };
}

export async function readNar(physicalPath: string): Promise<Buffer> {
  const frames: Uint8Array[] = [];
  const { signal } = new AbortController();
  for await (const frame of writeNar({ physicalPath, offset: 0, frameBytes: 65_536, signal })) frames.push(frame);
  return Buffer.concat(frames);
}

export function hashBytes(bytes: Uint8Array): string {
  return toNarHash(createHash('sha256').update(bytes).digest());
}

export interface LogLine {
  readonly message: string;
  readonly fields: { readonly sender?: string };
}

export function createTestLogger(lines: LogLine[] = []): Logger {
  const log = (fields: object, message: string): void => void lines.push({ message, fields: { ...fields } });
  return { debug: log, info: log, warn: log, error: log, child: () => createTestLogger(lines) };
}

/** Nix for a peer: holds the given paths of the fixture's store folder; `realise` runs the real program. */
export function createTestNix(init: {
  readonly sourceFolder: string;
  readonly storeFolder: string;
  readonly holds: Set<string>;
}): ClosureNix {
  return {
    physicalPath: (storePath) => join(init.sourceFolder, storePath),
    missingPaths: async (storePaths) => storePaths.filter((path) => !init.holds.has(path)),
    async realise(storePath, { substituter, trustedPublicKeys, root, signal }) {
      const options = {
        substituters: substituter,
        'trusted-public-keys': trustedPublicKeys.join(' '),
        'narinfo-cache-negative-ttl': '0',
        'narinfo-cache-positive-ttl': '0',
      };
      const flags = Object.entries(options).flatMap(([name, value]) => ['--option', name, value]);
      const command = ['--store', init.storeFolder, '--realise', storePath, '--add-root', root, ...flags];
      const env = { ...nixEnvironment, XDG_CACHE_HOME: join(init.storeFolder, 'cache') };
      await run('nix-store', command, { env, signal });
    },
  };
}

export interface TestPeer {
  readonly name: string;
  readonly site: string;
  readonly folder: string;
  readonly closures: Closures;
  /** Paths that its store is said to hold. */
  readonly holds: Set<string>;
  readonly log: LogLine[];
  /** The neighbours that this peer believes alive; changed by tests. */
  readonly live: Set<string>;
}

/** What differs between the peers of a test. */
export interface PeerSettings {
  readonly holdsAll?: boolean;
  readonly spoolBytesMax?: number;
  readonly spoolFolder?: string;
  readonly builderKeys?: readonly string[];
  readonly sources?: readonly string[];
  readonly live?: readonly string[];
  readonly nix?: Partial<ClosureNix>;
}

export interface Fleet {
  readonly peers: ReadonlyMap<string, TestPeer>;
  at(site: string): TestPeer[];
  get(name: string): TestPeer;
  mesh(name: string): Mesh;
  stop(): Promise<void>;
}

/** Names of peers, `<site>-<number>`, with their sites. */
export function namesOf(sites: Readonly<Record<string, number>>): { readonly name: string; readonly site: string }[] {
  return Object.entries(sites).flatMap(([site, count]) =>
    Array.from({ length: count }, (_, index) => ({ site, name: `${site}-${index + 1}` })),
  );
}

let fleets = 0;

/**
 * Starts a peer on each of these started meshes. By default `home-1` holds everything and is the only source, everybody
 * knows all neighbours, and each peer knows the store's manifest and those in `extra`.
 */
export async function startPeers(
  store: StoreFixture,
  meshes: ReadonlyMap<string, { readonly site: string; readonly mesh: Mesh }>,
  settings: (name: string) => PeerSettings = () => ({}),
  extra: readonly Manifest[] = [],
): Promise<Fleet> {
  fleets += 1;
  const manifests = new Map([store.manifest, ...extra].map((manifest) => [hashOf(manifest), manifest]));
  const siteOf = new Map([...meshes.values()].map(({ mesh, site }) => [mesh.self, site]));
  const idOf = (name: string): string => required(meshes.get(name)).mesh.self;
  const peers = new Map<string, TestPeer>();
  for (const [name, { mesh }] of meshes) {
    const own = { holdsAll: name === 'home-1', ...settings(name) };
    const folder = join(store.folder, 'fleets', String(fleets), name);
    peers.set(name, makePeer({ name, store, mesh, siteOf, idOf, manifests, folder, own }));
  }
  for (const peer of peers.values()) await peer.closures.start();
  return {
    peers,
    get: (name) => required(peers.get(name)),
    mesh: (name) => required(meshes.get(name)).mesh,
    at: (site) => [...peers.values()].filter((peer) => peer.site === site),
    async stop() {
      for (const peer of peers.values()) await peer.closures.stop();
      for (const { mesh } of meshes.values()) await mesh.stop();
    },
  };
}

/** Starts peers on an in-memory network, where a peer's id is its name. */
export async function startFleet(
  store: StoreFixture,
  sites: Readonly<Record<string, number>>,
  settings: (name: string) => PeerSettings = () => ({}),
  extra: readonly Manifest[] = [],
): Promise<Fleet & { readonly network: MemoryNetwork }> {
  const network = createMemoryNetwork();
  const meshes = new Map(namesOf(sites).map(({ name, site }) => [name, { site, mesh: network.join(name) }]));
  for (const { mesh } of meshes.values()) await mesh.start();
  return { network, ...(await startPeers(store, meshes, settings, extra)) };
}

interface PeerInit {
  readonly name: string;
  readonly store: StoreFixture;
  readonly mesh: Mesh;
  readonly siteOf: ReadonlyMap<string, string>;
  readonly idOf: (name: string) => string;
  readonly manifests: ReadonlyMap<string, Manifest>;
  readonly folder: string;
  readonly own: PeerSettings;
}

function makePeer({ name, store, mesh, siteOf, idOf, manifests, folder, own }: PeerInit): TestPeer {
  const site = required(siteOf.get(mesh.self));
  const neighbours = [...siteOf.keys()].filter((other) => other !== mesh.self && siteOf.get(other) === site);
  const holds = new Set(own.holdsAll === true ? store.manifest.paths.map((path) => path.storePath) : []);
  const log: LogLine[] = [];
  const live = new Set(own.live?.map(idOf) ?? neighbours);
  const sources = (own.sources ?? ['home-1']).map(idOf).map((peer) => ({ peer, site: required(siteOf.get(peer)) }));
  const closures = createClosures({
    spoolFolder: own.spoolFolder ?? join(folder, 'spool'),
    spoolBytesMax: own.spoolBytesMax ?? 1024 ** 3,
    site,
  })({
    mesh,
    clock: systemClock,
    logger: createTestLogger(log),
    nix: {
      ...createTestNix({ sourceFolder: store.storeFolder, storeFolder: join(folder, 'store'), holds }),
      ...own.nix,
    },
    manifest: async (hash) => manifests.get(hash),
    builderKeys: () => own.builderKeys ?? [store.key.publicKey],
    sites: { siteOf: (peer) => siteOf.get(peer), livePeersAtSite: () => [...live] },
    sources: () => sources,
  });
  return { name, site, folder, closures, holds, log, live };
}

export function required<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a value that the test needs is missing');
  return value;
}

export async function removeStore(store: StoreFixture): Promise<void> {
  await run('chmod', ['-R', 'u+w', store.folder]);
  await rm(store.folder, { recursive: true, force: true });
}
