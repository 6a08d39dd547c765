// Owns that a voter has every blob that its state names: they were on a majority of the voters' disks when they were named,
// but voters come and go. What nobody can give now is asked for again, ever more rarely.

import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { BlobStore, Clock, Logger } from '../interfaces.ts';
import { namedBlobs } from './blob-keeper.ts';

/** After a change of the state, so that many are looked at together. */
const lookDelayMs = 1_000;
const fetchTimeoutMs = 60_000;
const retryMinMs = 5_000;
const retryMaxMs = 10 * 60 * 1000;

/** The parts that name blobs, and who votes: a new set of voters is told by each what it lacks. */
const newsworthy = ['plans', 'draft', 'tasks', 'orders', 'devices', 'voterSet'] as const;

interface Missing {
  readonly tries: number;
  readonly retryAtMs: number;
}

/** How many of the things that a voter keeps for the fleet are not here, at an index of the ledger. */
export interface Kept {
  readonly index: number;
  readonly lacking: number;
}

export interface BlobGatherer {
  /** As it was found last; the index is the newest that names the same. Undefined before the first look has ended. */
  kept(): Kept | undefined;
  stop(): Promise<void>;
}

/** Starts gathering. `onLooked` is called when a look has found another number of them missing, and by the first one under new voters. */
export function gatherBlobs(components: {
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly state: () => LedgerState;
  readonly onApplied: (listener: () => void) => () => void;
  readonly fetchBlob: (hash: string, options: { readonly signal: AbortSignal }) => Promise<unknown>;
  readonly onLooked: () => void;
}): BlobGatherer {
  const { blobs, clock, logger, state, fetchBlob, onLooked } = components;
  const stopping = new AbortController();
  let held = new Set<string>();
  let missing = new Map<string, Missing>();
  let seen: LedgerState | undefined;
  let kept: Kept | undefined;
  let cancel: (() => void) | undefined;
  let round: Promise<void> = Promise.resolve();

  function lookSoon(delayMs: number): void {
    if (stopping.signal.aborted) return;
    cancel ??= clock.after(delayMs, () => {
      cancel = undefined;
      round = round.then(look).catch((error: unknown) => {
        logger.warn({ error: String(error) }, 'blobs that the ledger names could not be gathered');
      });
    });
  }

  async function look(): Promise<void> {
    seen = state();
    const named = namedBlobs(seen);
    const holds = new Set<string>();
    const lacks = new Map<string, Missing>();
    for (const hash of named) {
      if (stopping.signal.aborted) return;
      if (held.has(hash) || (await blobs.has(hash)) || (await fetched(hash))) holds.add(hash);
      else lacks.set(hash, missing.get(hash) ?? { tries: 0, retryAtMs: 0 });
    }
    [held, missing] = [holds, lacks];
    const before = kept;
    kept = { index: seen.index, lacking: missing.size };
    if (kept.lacking !== before?.lacking || seen.voterSet.index > before.index) onLooked();
    if (missing.size > 0) lookSoon(retryMinMs);
    else if (isNews()) lookSoon(lookDelayMs);
  }

  async function fetched(hash: string): Promise<boolean> {
    const { tries, retryAtMs } = missing.get(hash) ?? { tries: 0, retryAtMs: 0 };
    if (clock.monotonicMs() < retryAtMs) return false;
    try {
      await fetchBlob(hash, { signal: AbortSignal.any([stopping.signal, AbortSignal.timeout(fetchTimeoutMs)]) });
      return true;
    } catch (error) {
      logger.debug({ hash, error: String(error) }, 'nobody gives a blob that the ledger names');
      const delayMs = Math.min(retryMaxMs, retryMinMs * 2 ** tries);
      missing.set(hash, { tries: Math.min(tries + 1, 16), retryAtMs: clock.monotonicMs() + delayMs });
      return false;
    }
  }

  /** Parts of the state are shared by its successors: what is the same names the same. */
  function isNews(): boolean {
    const now = state();
    return newsworthy.some((part) => now[part] !== seen?.[part]);
  }

  const unsubscribe = components.onApplied(() => isNews() && lookSoon(lookDelayMs));
  lookSoon(lookDelayMs);
  return {
    kept: () => (kept === undefined || isNews() ? kept : { ...kept, index: state().index }),
    async stop() {
      unsubscribe();
      stopping.abort();
      cancel?.();
      await round;
    },
  };
}
