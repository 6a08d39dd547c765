// Owns what the mesh tests share: real clocks and chance, a list of members that tests can change, and small meshes on
// loopback that end with their test.

import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import type { TestContext } from 'node:test';
import type { Clock, Logger, Mesh } from '../../node/interfaces.ts';
import { createMesh, type Identity, identityFromSeed, type MeshMembers } from '../../node/mesh/index.ts';

export const clock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, call) {
    const timer = setTimeout(call, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
  every(periodMs, call) {
    const timer = setInterval(call, periodMs);
    timer.unref();
    return () => clearInterval(timer);
  },
};

const quiet = () => {};
export const logger: Logger = { debug: quiet, info: quiet, warn: quiet, error: quiet, child: () => logger };

/** Logs to standard error where PARLEY_TEST_LOG is set. */
export function testLogger(name: string): Logger {
  if (process.env.PARLEY_TEST_LOG === undefined) return logger;
  const write = (level: string) => (fields: object, message: string) =>
    process.stderr.write(`${Math.round(performance.now())} ${name} ${level} ${message} ${JSON.stringify(fields)}\n`);
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: () => logger,
  };
}

/** A list of members that a test changes. */
export class TestMembers implements MeshMembers {
  readonly #members = new Map<string, string[]>();
  readonly #changes = new EventEmitter().setMaxListeners(0);
  readonly #removed = new Set<string>();
  #joinsOpen = false;
  /** Gets the strangers that come in to be asked; nobody may while it is undefined. */
  onStranger: ((peer: string) => void) | undefined;

  isMember(peer: string): boolean {
    return this.#members.has(peer);
  }
  wasRemoved(peer: string): boolean {
    return this.#removed.has(peer);
  }
  joinsOpen(): boolean {
    return this.#joinsOpen;
  }
  asksStrangers(): boolean {
    return this.onStranger !== undefined;
  }
  meet(stranger: string): void {
    this.onStranger?.(stranger);
  }
  wanted(): { peer: string; addresses: string[] }[] {
    return [...this.#members].map(([peer, addresses]) => ({ peer, addresses }));
  }
  onChange(listener: () => void): () => void {
    this.#changes.on('change', listener);
    return () => this.#changes.off('change', listener);
  }
  set(peer: string, addresses: string[] = []): void {
    this.#members.set(peer, addresses);
    this.#removed.delete(peer);
    this.#changes.emit('change');
  }
  remove(peer: string): void {
    this.#members.delete(peer);
    this.#removed.add(peer);
    this.#changes.emit('change');
  }
  openJoins(open: boolean): void {
    this.#joinsOpen = open;
    this.#changes.emit('change');
  }
}

export interface TestPeer {
  readonly identity: Identity;
  readonly members: TestMembers;
  readonly mesh: Mesh;
}

let peerNumber = 0;

export function newPeer(
  t: TestContext,
  options: {
    listen?: string[];
    members?: TestMembers;
    identity?: Identity;
    discovery?: 'mdns' | 'none';
    clock?: Clock;
  } = {},
): TestPeer {
  const identity = options.identity ?? identityFromSeed(randomBytes(32));
  const members = options.members ?? new TestMembers();
  const listen = options.listen ?? ['/ip4/127.0.0.1/tcp/0'];
  peerNumber += 1;
  const mesh = createMesh({ privateKey: identity.privateKey, listen, discovery: options.discovery ?? 'none' })({
    clock: options.clock ?? clock,
    logger: testLogger(`p${peerNumber}`),
    random: randomBytes,
    members,
  });
  t.after(() => mesh.stop());
  return { identity, members, mesh };
}

/** Starts peers that know each other. */
export async function startTogether(peers: readonly TestPeer[]): Promise<void> {
  for (const { members } of peers) for (const { identity } of peers) members.set(identity.peer);
  await Promise.all(peers.map(({ mesh }) => mesh.start()));
  for (const { members } of peers) for (const { mesh } of peers) members.set(mesh.self, mesh.addresses());
  await Promise.all(peers.map((peer) => allConnected(peer, peers)));
}

async function allConnected(peer: TestPeer, peers: readonly TestPeer[]): Promise<void> {
  for (const other of peers) if (other !== peer) await connection(peer.mesh, other.mesh.self, true);
}

/** Resolves when the mesh is (or is no longer) connected to the peer. */
export async function connection(mesh: Mesh, peer: string, connected: boolean): Promise<void> {
  const changes = new EventEmitter();
  const unsubscribe = mesh.onPeerChange(() => changes.emit('change'));
  try {
    while (mesh.connectedPeers().some((found) => found.peer === peer) !== connected) await once(changes, 'change');
  } finally {
    unsubscribe();
  }
}

export const within = (timeoutMs = 5_000) => ({ signal: AbortSignal.timeout(timeoutMs) });

/** Seeded chance for fuzzing. The seed comes from PARLEY_SEED or the clock and belongs into every failure's message. */
export function seededRandom(name: string) {
  const seed = process.env.PARLEY_SEED ?? String(Date.now());
  let state = createHash('sha256').update(`${seed} ${name}`).digest();
  let offset = 0;
  const word = (): number => {
    if (offset + 4 > state.byteLength) {
      state = createHash('sha256').update(state).digest();
      offset = 0;
    }
    offset += 4;
    return state.readUInt32BE(offset - 4);
  };
  return {
    seedText: `PARLEY_SEED=${seed}`,
    /** A whole number from 0 up to (not including) the limit. */
    below: (limit: number) => (limit === 0 ? 0 : word() % limit),
    bytes: (count: number) => {
      const bytes = new Uint8Array(count);
      for (let index = 0; index < count; index += 4) {
        const value = word();
        for (let byte = 0; byte < 4 && index + byte < count; byte++) bytes[index + byte] = value >>> (8 * byte);
      }
      return bytes;
    },
  };
}

/** A clock that stands still until a test moves it. */
export function manualClock(): Clock & { advance(byMs: number): void } {
  let nowMs = 0;
  const timers = new Set<{ dueAtMs: number; call: () => void }>();
  const after = (delayMs: number, call: () => void) => {
    const timer = { dueAtMs: nowMs + delayMs, call };
    timers.add(timer);
    return () => timers.delete(timer);
  };
  return {
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    after,
    every: () => () => {},
    advance(byMs) {
      const endMs = nowMs + byMs;
      for (;;) {
        const [next] = [...timers].sort((one, two) => one.dueAtMs - two.dueAtMs);
        if (next === undefined || next.dueAtMs > endMs) break;
        timers.delete(next);
        nowMs = Math.max(nowMs, next.dueAtMs);
        next.call();
      }
      nowMs = endMs;
    },
  };
}
