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
import { toNarHash } from '../../node/closure/nix32-core.ts';
import { systemClock } from '../../node/host/index.ts';
import type { Logger, Mesh } from '../../node/interfaces.ts';
import { hashOf } from '../../protocols/codec.ts';
import { fingerprintOf, type Manifest, type ManifestPath } from '../../protocols/manifest.ts';

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

/** A store folder with real paths that refer to nothing, and their manifest; the root is the first path. */
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
  const paths: ManifestPath[] = [];
  for (const storePath of stdout.trim().split('\n').sort()) {
    const nar = await readNar(join(storeFolder, storePath));
    const plain = { storePath, narHash: hashBytes(nar), narSize: nar.byteLength, references: [] };
    paths.push(signPath(plain, key));
  }
  return { folder, storeFolder, key, ...manifestOf(paths, key) };
}

export function manifestOf(paths: readonly ManifestPath[], key: BuilderKey) {
  const root = paths[0]?.storePath ?? '';
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
  readonly fields: Record<string, unknown>;
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
  readonly holds: Set<string>;
  readonly log: LogLine[];
  /** What this peer believes about its neighbours; changed by tests. */
  readonly live: Set<string>;
}

export interface PeerInit {
  readonly name: string;
  readonly site: string;
  readonly store: StoreFixture;
  readonly mesh: Mesh;
  readonly siteOf: ReadonlyMap<string, string>;
  readonly sources: readonly string[];
  readonly manifests: ReadonlyMap<string, Manifest>;
  readonly builderKeys?: readonly string[];
  readonly holdsAll?: boolean;
  readonly spoolBytesMax?: number;
  readonly spoolFolder?: string;
  /** Names of the other peers at the site. */
  readonly live: readonly string[];
}

export function makePeer(init: PeerInit): TestPeer {
  const folder = join(init.store.folder, 'peers', init.name);
  const holds = new Set(init.holdsAll === true ? init.store.manifest.paths.map((path) => path.storePath) : []);
  const log: LogLine[] = [];
  const live = new Set(init.live);
  const closures = createClosures({
    spoolFolder: init.spoolFolder ?? join(folder, 'spool'),
    spoolBytesMax: init.spoolBytesMax ?? 1024 ** 3,
    site: init.site,
  })({
    mesh: init.mesh,
    clock: systemClock,
    logger: createTestLogger(log),
    nix: createTestNix({ sourceFolder: init.store.storeFolder, storeFolder: join(folder, 'store'), holds }),
    manifest: async (hash) => init.manifests.get(hash),
    builderKeys: () => init.builderKeys ?? [init.store.key.publicKey],
    sites: { siteOf: (peer) => init.siteOf.get(peer), livePeersAtSite: () => [...live] },
    sources: () => init.sources.map((peer) => ({ peer, site: init.siteOf.get(peer) ?? 'unknown' })),
  });
  return { name: init.name, site: init.site, folder, closures, holds, log, live };
}

export async function removeStore(store: StoreFixture): Promise<void> {
  await run('chmod', ['-R', 'u+w', store.folder]);
  await rm(store.folder, { recursive: true, force: true });
}
