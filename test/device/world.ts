// A device's world for tests: a disk and a machine that outlive crashes, a clock that runs as fast as it is asked, real
// journals, and a way to crash before or after anything that leaves a trace.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { createDevice, type Device, type SwitchResult } from '../../node/device/index.ts';
import { createJournal, type Journal } from '../../node/journal/index.ts';
import { identityFromSeed, verifySignature } from '../../node/mesh/index.ts';
import { decode, encode, hashOf } from '../../protocols/codec.ts';
import { type SlotRecord, slotRecordBytesMax, slotRecordSchema } from '../../protocols/device-record.ts';
import type { OrderEnd, Report } from '../../protocols/journal.ts';
import type { LedgerState, Member, Order } from '../../protocols/ledger-state.ts';
import type { Plan } from '../../protocols/plan.ts';
import { createMemoryNetwork } from '../helpers/memory-mesh.ts';
import { createFastClock, machineOf, memoryStore } from './doubles.ts';
import { silentLogger } from './toplevels.ts';

export const system = (name: string) => `/nix/store/${hashOf(name).replaceAll(/[eu]/g, 'x').slice(0, 32)}-${name}`;
export const identityOf = (number: number) => identityFromSeed(new Uint8Array(32).fill(number));
export const host = 'web1';
/** Hundreds of journals are written here: in memory, where there is such a folder. */
const fastFolder = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
export const self = identityOf(1).peer;

/** What happens when a system's program runs with `test`; by default it becomes the running one and says 0. */
export type Behaviour = (world: World) => SwitchResult | Promise<SwitchResult>;

export interface World {
  readonly network: ReturnType<typeof createMemoryNetwork>;
  readonly behaviours: Map<string, Behaviour>;
  readonly failedUnits: Map<string, string[]>;
  readonly simulated: Set<string>;
  readonly calls: string[];
  /** The slot's record as it is on disk. */
  slot(): SlotRecord | undefined;
  /** Names of the systems that are rooted, sorted. */
  roots(): string[];
  readonly plans: Map<string, Uint8Array>;
  running: string | null;
  profile: string | null;
  booted: string | null;
  boot: number;
  freeBytes: number;
  missingBytes: number;
  /** Replaced by tests that want a fetch to wait or fail. */
  onFetch: (signal: AbortSignal) => Promise<void>;
  onBootDefault: (toplevel: string) => SwitchResult;
  /** Prints a line as the program that runs now. */
  print: (line: string) => void;
  /** Called before each synced write; may throw. */
  onWrite: () => void;
  state: LedgerState;
  /** Orders count up to here. */
  certifiedIndex: number;
  certify(index: number): void;
  /** Counts down at each trace; the device crashes at zero. */
  crashIn: number;
  /** Traces left so far. */
  traces: number;
  apply(change: Partial<LedgerState>): void;
  /** Gives an order for a closure through a plan; returns it. */
  order(number: number, closure: string, changes?: Partial<Order>): Order;
  /** Starts a device on this world; the one before must have crashed or stopped. */
  start(given?: { readonly frozen?: string | undefined }): Promise<Run>;
  reboot(): void;
}

export interface Run {
  readonly device: Device;
  readonly journal: Journal;
  /** Reports of this run and of those before it. */
  reports(): Promise<Report[]>;
  /** Resolves with the end of an order, or undefined when the device crashes first. */
  ended(order: number): Promise<OrderEnd | undefined>;
  readonly crashed: Promise<void>;
  stop(): Promise<void>;
}

export class Crash extends Error {}

export async function makeWorld(t: TestContext): Promise<World> {
  const folder = await mkdtemp(path.join(fastFolder, 'parley-world-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const disk = new Map<string, Uint8Array>();
  const listeners = new Set<(state: LedgerState) => void>();
  const certifiedListeners = new Set<() => void>();

  const world: World = {
    network: createMemoryNetwork(),
    ...{ behaviours: new Map(), failedUnits: new Map(), simulated: new Set(), calls: [] },
    ...{ plans: new Map(), running: system('old'), profile: system('old'), booted: system('old'), boot: 1 },
    ...{ freeBytes: 1e12, missingBytes: 1000, crashIn: Number.POSITIVE_INFINITY, traces: 0 },
    slot() {
      const bytes = disk.get('device/slot/system');
      return bytes === undefined ? undefined : decode(slotRecordSchema, bytes, slotRecordBytesMax);
    },
    roots: () =>
      readdirSync(path.join(folder, 'roots'))
        .map((link) => link.slice(33))
        .sort(),
    onFetch: async () => {},
    print: () => {},
    onWrite: () => {},
    onBootDefault: () => ({ exitCode: 0, output: '' }),
    state: emptyState(),
    certifiedIndex: Number.POSITIVE_INFINITY,
    certify(index) {
      world.certifiedIndex = index;
      for (const listener of [...certifiedListeners]) listener();
    },
    apply(change) {
      world.state = { ...world.state, ...change, index: world.state.index + 1 };
      for (const listener of [...listeners]) listener(world.state);
    },
    order(number, closure, changes = {}) {
      const manifest = hashOf(`manifest of ${closure}`);
      const bytes = encode(planFor(number, closure, manifest));
      const plan = hashOf(Buffer.from(bytes).toString('hex'));
      world.plans.set(plan, bytes);
      const order: Order = {
        ...{ generation: 0, number, peer: self, host, task: `t${number}`, plan, closure, manifest, revision: null },
        ...{ givenAtMs: 0, cancelled: false, outcome: null, reason: null, ...changes },
      };
      world.apply({ orders: { [host]: order } });
      return order;
    },
    reboot() {
      world.boot += 1;
      world.running = world.profile;
      world.booted = world.profile;
    },
    start: ({ frozen } = {}) => startRun(world, disk, listeners, certifiedListeners, folder, frozen),
  };
  return world;
}

async function startRun(
  world: World,
  disk: Map<string, Uint8Array>,
  listeners: Set<(state: LedgerState) => void>,
  certifiedListeners: Set<() => void>,
  folder: string,
  frozen: string | undefined,
): Promise<Run> {
  const crash = Promise.withResolvers<void>();
  let isDead = false;
  const alive = () => {
    if (isDead) throw new Crash('the device is dead');
  };
  const trace = () => {
    alive();
    world.traces += 1;
    world.crashIn -= 1;
    if (world.crashIn >= 0) return;
    isDead = true;
    world.crashIn = Number.POSITIVE_INFINITY;
    crash.resolve();
    throw new Crash('the device crashes here');
  };
  /** Something that leaves a trace: the crash comes before or after it. */
  const traced = <T>(effect: () => T): T => {
    trace();
    const result = effect();
    trace();
    return result;
  };

  const identity = identityOf(1);
  const mesh = world.network.join(self);
  await mesh.start();
  for (const peer of Object.keys(world.state.members)) {
    if (peer !== self) await mesh.open(peer, '/hello', { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
  }
  const clock = createFastClock();
  const store = memoryStore(disk, () => world.onWrite(), alive, traced);
  const markerFile = path.join(folder, 'marker');
  const journal = createJournal({ self, name: host, markerFile })({
    ...{ store, identity, verifySignature, mesh, clock, logger: silentLogger },
  });
  const components = {
    ...{ store, journal, mesh, identity, verifySignature, clock, logger: silentLogger },
    machine: machineOf(world, alive, traced),
    recorder: { recording: <T>(_: unknown, work: () => Promise<T>) => work() },
    ledger: {
      state: () => world.state,
      onApplied(listener: (state: LedgerState) => void) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      certification: () => ({ certifiedIndex: () => world.certifiedIndex }),
      onCertified(listener: () => void) {
        certifiedListeners.add(listener);
        return () => certifiedListeners.delete(listener);
      },
      fetchBlob: async (hash: string) => world.plans.get(hash) ?? new Uint8Array(),
    },
    closures: {
      async fetch(
        _manifest: string,
        {
          signal,
          onProgress,
        }: { signal: AbortSignal; onProgress?: (progress: { bytesDone: number; bytesTotal: number }) => void },
      ) {
        alive();
        onProgress?.({ bytesDone: 0, bytesTotal: world.missingBytes });
        await world.onFetch(signal);
        signal.throwIfAborted();
        onProgress?.({ bytesDone: world.missingBytes, bytesTotal: world.missingBytes });
      },
      async realise(manifest: string, { rootLink }: { rootLink: string }) {
        traced(() => root(rootLink, manifest));
      },
      release: async () => {},
    },
    nix: {
      addRoot: async (link: string, toplevel: string) => root(link, toplevel),
      removeRoot: async (link: string) => rmSync(link),
      rootsIn: async (roots: string) => (existsSync(roots) ? readdirSync(roots) : []),
    },
    randomBytes: (count: number) => crypto.getRandomValues(new Uint8Array(count)),
  };
  const times = { healthSettleMs: 1_000, confirmWindowMs: 30_000, fetchPatienceMs: 60_000 };
  const device = createDevice({ self, host, frozen, ...times, rootsFolder: path.join(folder, 'roots') })(components);
  const reports = async () => {
    const pairs = [...disk].filter(([key]) => key.startsWith('report/'));
    return pairs.length === 0 ? [] : await journal.read(1, 10_000);
  };
  const findEnd = async (order: number): Promise<OrderEnd | undefined> => {
    for (const report of await reports())
      if (report.kind === 'order-ended' && report.body.order === order) return report.body;
    return undefined;
  };

  try {
    await journal.start();
    await device.start();
  } catch (error) {
    if (!(error instanceof Crash)) throw error;
  }

  return {
    ...{ device, journal, reports, crashed: crash.promise },
    async ended(order) {
      const appended = Promise.withResolvers<OrderEnd>();
      const unsubscribe = journal.onAppended((report) => {
        if (report.kind === 'order-ended' && report.body.order === order) appended.resolve(report.body);
      });
      try {
        const found = await findEnd(order).catch(() => undefined);
        return found ?? (await Promise.race([appended.promise, crash.promise.then(() => undefined)]));
      } finally {
        unsubscribe();
      }
    },
    async stop() {
      isDead = true;
      await device.stop();
      await mesh.stop();
    },
  };
}
function root(link: string, target: string): void {
  mkdirSync(path.dirname(link), { recursive: true });
  rmSync(link, { force: true });
  symlinkSync(target, link);
}
/** Another member; it is connected to every device that starts later. */
export async function addPeer(world: World, number: number, site = 'home'): Promise<string> {
  const { peer } = identityOf(number);
  const mesh = world.network.join(peer);
  await mesh.start();
  world.apply({ members: { ...world.state.members, [peer]: member(number, `peer${number}`, site) } });
  return peer;
}

export function member(number: number, name: string, site: string): Member {
  const { peer } = identityOf(number);
  return { peer, addresses: [], system: 'x86_64-linux', name, site, roles: ['member'], raftId: 0, joinedAtMs: 0 };
}

/** A plan that names one host. */
export function planFor(number: number, closure: string, manifest: string): Plan {
  return {
    ...{ version: 1, task: `t${number}`, attempt: 1, revision: 'a'.repeat(40) },
    hosts: [{ host, closure, manifest, before: null }],
    ...{ closures: [], leftOut: [], policy: null, changesPolicy: false },
  };
}

const noVoters = { generation: 0, index: 1, voters: [], votersOutgoing: [] };

/** A ledger of one member. */
export function emptyState(): LedgerState {
  const zero = '0'.repeat(64);
  return {
    ...{ version: 1, level: 1, fleet: zero, generation: 0, index: 1, term: 1, chainHash: zero, timeMs: 0 },
    ...{
      recoveryKey: '',
      members: { [self]: member(1, host, 'home') },
      nextRaftId: 1,
      voters: [],
      learners: [],
      joint: null,
    },
    ...{ voterSet: noVoters, checkpointIndex: 0, checkpointBegun: 0, checkpointMade: 0, allotted: [] },
    ...{ invites: {}, draft: null, head: null, policy: null, nextTaskNumber: 1, tasks: {}, plans: {}, orders: {} },
    ...{ devices: {}, nextNoticeNumber: 1, notices: [], commands: {}, removedPeers: [], generationIndex: 0 },
  };
}

/** A prepared world with a device on it that stops with the test. */
export async function begin(t: TestContext, prepare: (world: World) => unknown = () => {}) {
  const world = await makeWorld(t);
  await prepare(world);
  const run = await world.start();
  t.after(() => run.stop());
  return { world, run };
}

/** Carries out one order and gives its end. */
export async function carryOut(world: World, run: Run, number = 7, closure = system('new')): Promise<OrderEnd> {
  world.order(number, closure);
  const end = await run.ended(number);
  assert.ok(end !== undefined);
  return end;
}
