// Owns the table of paths that are on their way into this peer's spool: each at most once, whoever wants it, be it the
// peer's own fetch or neighbours that gather through it. A path that nobody wants any more stops, and keeps its bytes.

import { ParleyError } from '../../protocols/errors.ts';
import type { ManifestPath } from '../../protocols/manifest.ts';
import { type AcquireComponents, acquire, type Progress } from './acquire.ts';
import { assignmentWeight } from './assignment-core.ts';
import type { Unit } from './download.ts';
import type { SignatureChecks } from './signatures.ts';

/** Paths on their way at once: our own fetch takes 16, the rest is what neighbours ask for. */
const acquisitionsMax = 256;

/** A path on its way, as those who wait for it see it. */
export interface Acquisition {
  readonly progress: Readonly<Progress>;
  /** Resolves at the next change; rejects when the acquisition fails or the signal aborts. */
  changed(signal: AbortSignal): Promise<void>;
  /** A neighbour asked us to bring this path: do not wait for one that comes after us in the order. */
  takeCharge(): void;
  /** Ends this caller's interest; must be called once. The last one waits until the transfer has let go of its file. */
  leave(): Promise<void>;
}

export interface Acquisitions {
  /**
   * Starts to get a path or joins those who wait for it already.
   * @throws ParleyError `signature-untrusted`, `busy` (retryable).
   */
  join(unit: Unit): Acquisition;
  /** True while the path comes across the uplink to this peer. */
  isArriving(path: ManifestPath): boolean;
  /** Ends all transfers and waits until their files are closed. */
  stop(): Promise<void>;
}

interface Running {
  readonly progress: Progress;
  readonly controller: AbortController;
  readonly done: Promise<void>;
  next: PromiseWithResolvers<void>;
  interest: number;
  failed: boolean;
}

interface Table {
  readonly components: AcquisitionsComponents;
  readonly running: Map<string, Running>;
  /** Transfers that nobody wants any more and that still hold their files. */
  readonly closing: Map<string, Promise<void>>;
}

export type AcquisitionsComponents = AcquireComponents & { readonly signatures: SignatureChecks };

export function createAcquisitions(components: AcquisitionsComponents): Acquisitions {
  const table: Table = { components, running: new Map(), closing: new Map() };
  const { running, closing } = table;
  return {
    join(unit) {
      const known = running.get(unit.path.narHash);
      if (known !== undefined && known.progress.unit.path.narSize !== unit.path.narSize) {
        throw new ParleyError('busy', `'${unit.path.storePath}' must wait: another size of it is on its way`, {
          retryable: true,
        });
      }
      const entry = known ?? begin(table, unit);
      entry.interest += 1;
      return {
        progress: entry.progress,
        changed: (signal) => raceAbort(entry.failed ? entry.done : entry.next.promise, signal),
        takeCharge: () => takeCharge(entry.progress, components.self),
        async leave() {
          entry.interest -= 1;
          if (entry.interest === 0) await drop(table, entry);
        },
      };
    },

    isArriving: (path) => running.get(path.narHash)?.progress.inCharge === true,

    async stop() {
      const ends = [...running.values()].map((entry) => {
        entry.controller.abort(new ParleyError('cancelled', 'the peer is stopping', { retryable: true }));
        return entry.done.catch(() => {});
      });
      await Promise.all([...ends, ...closing.values()]);
    },
  };
}

function begin(table: Table, unit: Unit): Running {
  table.components.signatures.check(unit.path);
  if (table.running.size >= acquisitionsMax) {
    const message = `'${unit.path.storePath}' must wait: ${table.running.size} others are on their way`;
    throw new ParleyError('busy', message, { retryable: true });
  }
  const progress = newProgress(unit, () => {
    entry.next.resolve();
    entry.next = newChange();
  });
  const { promise: done, resolve, reject } = Promise.withResolvers<void>();
  const controller = new AbortController();
  const entry: Running = { progress, controller, done, next: newChange(), interest: 0, failed: false };
  done.catch(() => {});
  table.running.set(unit.path.narHash, entry);
  run(table, entry).then(resolve, reject);
  return entry;
}

/** One transfer of a path writes its file at a time: a new one waits until the one that nobody wanted has let go. */
async function run({ components, running, closing }: Table, entry: Running): Promise<void> {
  const { narHash } = entry.progress.unit.path;
  try {
    await closing.get(narHash);
    await acquire(components, entry.progress, entry.controller.signal);
  } catch (error) {
    entry.failed = true;
    entry.next.reject(error);
    throw error;
  } finally {
    if (running.get(narHash) === entry) running.delete(narHash);
  }
}

async function drop({ running, closing }: Table, entry: Running): Promise<void> {
  const { narHash } = entry.progress.unit.path;
  if (running.get(narHash) !== entry) return;
  running.delete(narHash);
  const closed = entry.done
    .catch(() => {})
    .finally(() => {
      if (closing.get(narHash) === closed) closing.delete(narHash);
    });
  closing.set(narHash, closed);
  entry.controller.abort(new ParleyError('cancelled', 'nobody wants the path any more', { retryable: true }));
  await closed;
}

function newChange(): PromiseWithResolvers<void> {
  const change = Promise.withResolvers<void>();
  change.promise.catch(() => {});
  return change;
}

function newProgress(unit: Unit, notify: () => void): Progress {
  return {
    unit,
    bytes: 0,
    generation: 0,
    resignations: 0,
    inCharge: false,
    proven: false,
    asked: false,
    asks: 0,
    gatheringFrom: undefined,
    from: undefined,
    interruptStep: () => {},
    notify,
  };
}

/**
 * Two neighbours whose views differ could each wait for the other. Whoever is asked while waiting for one of less weight
 * stops waiting, brings the path itself or resigns, and only then waits again; so nobody whom others wait for waits for one
 * of less weight, and a ring cannot close.
 */
function takeCharge(progress: Progress, self: string): void {
  progress.asked = true;
  progress.asks += 1;
  const { gatheringFrom, unit } = progress;
  if (gatheringFrom === undefined) return;
  const weight = (peer: string): string => assignmentWeight(unit.path.narHash, peer);
  if (weight(self) < weight(gatheringFrom)) return;
  const message = `${self} takes charge of '${unit.path.storePath}'`;
  progress.interruptStep(new ParleyError('interrupted', message, { retryable: true }));
}

async function raceAbort(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
