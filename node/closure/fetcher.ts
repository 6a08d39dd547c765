// Owns the prefetch of a whole closure: what the store lacks, signatures checked first, largest paths first, a bounded
// number at once. Nix asks reference by reference, so everything is in the spool before it starts.

import { ParleyError } from '../../protocols/errors.ts';
import type { Manifest, ManifestPath } from '../../protocols/manifest.ts';
import type { Clock } from '../interfaces.ts';
import type { Acquisitions } from './acquisitions.ts';
import type { BinaryCache } from './binary-cache.ts';
import type { Unit } from './download.ts';
import type { Holdings } from './holdings.ts';
import type { Manifests } from './manifests.ts';
import type { SignatureChecks } from './signatures.ts';
import type { Spool } from './spool.ts';

/** Paths on their way at once over all sources; each source serves four of them. */
const pathsAtOnceMax = 16;
const progressPeriodMs = 200;

export interface FetchProgress {
  readonly pathsDone: number;
  /** Paths that the store lacked at the start. */
  readonly pathsTotal: number;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** The peer that sent last; undefined before the first byte. */
  readonly from: string | undefined;
}

export interface FetchOptions {
  readonly signal: AbortSignal;
  /** Called at the start, after each path, about five times a second in between, and at the end. */
  readonly onProgress?: (progress: FetchProgress) => void;
}

export interface Fetcher {
  fetch(manifestHash: string, options: FetchOptions): Promise<void>;
  /**
   * Makes sure that Nix will find every path that the store lacks in the binary cache.
   * @throws ParleyError `closure-incomplete` (retryable).
   */
  prepare(manifestHash: string): Promise<Manifest>;
  /** Lets the spool go of what no other fetched closure needs. */
  release(manifestHash: string): Promise<void>;
}

export interface FetcherComponents {
  readonly manifests: Manifests;
  readonly holdings: Holdings;
  readonly spool: Spool;
  readonly acquisitions: Acquisitions;
  readonly cache: BinaryCache;
  readonly signatures: SignatureChecks;
  readonly clock: Clock;
}

export function createFetcher(components: FetcherComponents): Fetcher {
  const { manifests, holdings, spool, acquisitions, cache, signatures, clock } = components;

  async function missingUnits(manifestHash: string, manifest: Manifest): Promise<Unit[]> {
    const inStore = await holdings.inStore(manifestHash, { fresh: true });
    return manifest.paths
      .map((path, ordinal) => ({ manifestHash, ordinal, path }))
      .filter(({ ordinal }) => !inStore.has(ordinal));
  }

  function claim(manifestHash: string, manifest: Manifest, missing: readonly ManifestPath[]): void {
    spool.pin(manifestHash, missing);
    cache.show(manifestHash, manifest);
  }

  return {
    async fetch(manifestHash, { signal, onProgress }) {
      const manifest = await manifests.get(manifestHash);
      const missing = await missingUnits(manifestHash, manifest);
      const paths = missing.map(({ path }) => path);
      await signatures.checkAll(paths);
      signal.throwIfAborted();
      claim(manifestHash, manifest, paths);
      const meter = createMeter(missing, clock, onProgress ?? (() => {}));
      const largestFirst = missing.toSorted((left, right) => right.path.narSize - left.path.narSize);
      await forEachAtOnce(largestFirst, signal, (unit, workSignal) => fetchUnit(acquisitions, unit, meter, workSignal));
      meter.report();
    },

    async release(manifestHash) {
      cache.hide(manifestHash);
      await spool.unpin(manifestHash);
    },

    async prepare(manifestHash) {
      const manifest = await manifests.get(manifestHash);
      const missing = await missingUnits(manifestHash, manifest);
      for (const { path } of missing) {
        if (await spool.holds(path)) continue;
        throw new ParleyError(
          'closure-incomplete',
          `'${manifest.root}' cannot be realised: '${path.storePath}' is not here`,
          {
            hint: 'Fetch the closure first.',
            retryable: true,
          },
        );
      }
      claim(
        manifestHash,
        manifest,
        missing.map(({ path }) => path),
      );
      return manifest;
    },
  };
}

async function fetchUnit(acquisitions: Acquisitions, unit: Unit, meter: Meter, signal: AbortSignal): Promise<void> {
  const acquisition = acquisitions.join(unit);
  const { progress } = acquisition;
  try {
    while (!progress.proven) {
      meter.saw(unit, progress.bytes, progress.from);
      await acquisition.changed(signal);
    }
  } finally {
    await acquisition.leave();
  }
  meter.finished(unit, progress.from);
}

/** Works on pathsAtOnceMax units at once; the first failure ends the others and is thrown when all have ended. */
async function forEachAtOnce(
  units: readonly Unit[],
  signal: AbortSignal,
  work: (unit: Unit, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const queue = units.values();
  const workThrough = async (): Promise<void> => {
    for (const unit of queue) {
      either.throwIfAborted();
      await work(unit, either);
    }
  };
  const workers = Array.from({ length: pathsAtOnceMax }, () =>
    workThrough().catch((error: unknown) => failed.abort(error)),
  );
  await Promise.all(workers);
  either.throwIfAborted();
}

interface Meter {
  saw(unit: Unit, bytes: number, from: string | undefined): void;
  finished(unit: Unit, from: string | undefined): void;
  report(): void;
}

function createMeter(missing: readonly Unit[], clock: Clock, onProgress: (progress: FetchProgress) => void): Meter {
  const bytesTotal = missing.reduce((sum, { path }) => sum + path.narSize, 0);
  const partBytes = new Map<number, number>();
  let pathsDone = 0;
  let bytesOfDone = 0;
  let lastFrom: string | undefined;
  let reportedMs = clock.monotonicMs();

  function report(): void {
    reportedMs = clock.monotonicMs();
    const bytesDone = [...partBytes.values()].reduce((sum, bytes) => sum + bytes, bytesOfDone);
    onProgress({ pathsDone, pathsTotal: missing.length, bytesDone, bytesTotal, from: lastFrom });
  }

  report();
  return {
    report,
    saw(unit, bytes, from) {
      partBytes.set(unit.ordinal, bytes);
      lastFrom = from ?? lastFrom;
      if (clock.monotonicMs() - reportedMs >= progressPeriodMs) report();
    },
    finished(unit, from) {
      partBytes.delete(unit.ordinal);
      pathsDone += 1;
      bytesOfDone += unit.path.narSize;
      lastFrom = from ?? lastFrom;
      report();
    },
  };
}
