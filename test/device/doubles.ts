// What stands in for a device's hardware in tests: a machine whose systems are names with a behaviour, a disk in memory that
// can crash with it, a clock that runs as fast as it is asked.

import type { Machine } from '../../node/device/index.ts';
import type { Clock, KeyValueStore } from '../../node/interfaces.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Behaviour, World } from './world.ts';

/** A machine on a world. `traced` runs an effect that leaves a trace and may crash. */
export function machineOf(world: World, alive: () => void, traced: <T>(effect: () => T) => T): Machine {
  const kindOf = (toplevel: string) => {
    if (toplevel.endsWith('-nosystem')) throw new ParleyError('not-a-system', `'${toplevel}' is no NixOS system`);
    const kind: 'contained' | 'simulated' = world.simulated.has(toplevel) ? 'simulated' : 'contained';
    return { kind, why: 'it needs a booted systemd' };
  };
  return {
    prepare: async () => alive(),
    canRun: async (toplevel) => kindOf(toplevel),
    async switchToConfiguration(toplevel, action, options = {}) {
      world.calls.push(`${action}${options.skipChecks ? '!' : ''} ${toplevel.slice(44)}`);
      if (action === 'boot') return traced(() => world.onBootDefault(toplevel));
      traced(() => {});
      world.print = (line) => options.onLine?.(line, 'stdout');
      const behaviour = world.behaviours.get(toplevel) ?? becomes(toplevel);
      const result = await behaviour(world);
      traced(() => {});
      return result;
    },
    async failedUnits() {
      alive();
      return world.running === null ? [] : (world.failedUnits.get(world.running) ?? []);
    },
    running: async () => world.running,
    booted: async () => world.booted,
    async setRunningSimulated(toplevel) {
      world.calls.push(`simulated ${toplevel?.slice(44) ?? 'none'}`);
      traced(() => {
        world.running = toplevel;
      });
    },
    profile: async () => world.profile,
    async setProfile(toplevel) {
      traced(() => {
        world.profile = toplevel;
      });
    },
    bootId: async () => `boot-${world.boot}`,
    freeBytes: async () => world.freeBytes,
  };
}
/** A switch that makes the system the running one and ends with this status. */
export function becomes(toplevel: string, exitCode = 0, output = ''): Behaviour {
  return (world) => {
    world.running = toplevel;
    return { exitCode, output };
  };
}
/** A database on a disk that outlives crashes. */
export function memoryStore(
  disk: Map<string, Uint8Array>,
  onWrite: () => void,
  alive: () => void,
  traced: <T>(effect: () => T) => T,
): KeyValueStore {
  return {
    async get(key) {
      alive();
      return disk.get(key);
    },
    async batch(operations, { sync }) {
      const write = () => {
        for (const operation of operations) {
          if (operation.type === 'put') disk.set(operation.key, operation.value);
          else disk.delete(operation.key);
        }
      };
      alive();
      if (sync) onWrite();
      if (sync) traced(write);
      else write();
    },
    async range({ gte, lt, limit = Number.POSITIVE_INFINITY, reverse = false }) {
      const pairs = [...disk]
        .filter(([key]) => key >= gte && key < lt)
        .sort(([left], [right]) => (left < right ? -1 : 1));
      return (reverse ? pairs.reverse() : pairs).slice(0, limit);
    },
    close: async () => {},
  };
}
/** Timers fire in their order as soon as nothing else is to be done; no time passes for real. */
export function createFastClock(): Clock {
  const timers = new Set<{ readonly dueMs: number; readonly call: () => void }>();
  let nowMs = 0;
  let isPumping = false;
  const pump = () => {
    isPumping = false;
    const next = [...timers].sort((left, right) => left.dueMs - right.dueMs)[0];
    if (next === undefined) return;
    timers.delete(next);
    nowMs = Math.max(nowMs, next.dueMs);
    next.call();
    schedule();
  };
  const schedule = () => {
    if (isPumping || timers.size === 0) return;
    isPumping = true;
    setImmediate(pump);
  };
  return {
    nowMs: () => 1_700_000_000_000 + nowMs,
    monotonicMs: () => nowMs,
    after(delayMs, call) {
      const timer = { dueMs: nowMs + delayMs, call };
      timers.add(timer);
      schedule();
      return () => timers.delete(timer);
    },
    every: () => () => {},
  };
}
