// Owns which blobs stay: those that the state names, those that others hold on to, and all that came lately (a blob is on
// disks before an entry names it). The rest is removed.

import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { BlobStore, Clock, Logger } from '../interfaces.ts';

const periodMs = 10 * 60 * 1000;
/** A blob that nothing names is kept this long: jobs of hours store theirs before their entry. */
const graceMs = 24 * 60 * 60 * 1000;

/** Hashes of the blobs that a state names: packs of the draft and commits, evaluations, manifests and plans. */
export function namedBlobs(state: LedgerState): Set<string> {
  const named = new Set<string | null>(Object.keys(state.plans));
  named.add(state.draft?.pack ?? null);
  for (const task of Object.values(state.tasks)) {
    named.add(task.commit?.pack ?? null);
    named.add(task.evaluation).add(task.plan).add(task.manifest);
  }
  for (const order of Object.values(state.orders)) named.add(order.plan).add(order.manifest);
  for (const device of Object.values(state.devices))
    for (const ran of device.ran) named.add(ran.plan).add(ran.manifest);
  named.delete(null);
  return named as Set<string>;
}

interface BlobKeeperComponents {
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly state: () => LedgerState;
}

/** @returns a function that removes the blobs that nothing has named for the time of grace, as far as it has seen. */
export function createBlobSweep({ blobs, clock, state }: BlobKeeperComponents): () => Promise<void> {
  /** Since when nothing names a blob, by the monotonic clock. */
  let unnamedSinceMs = new Map<string, number>();
  return async () => {
    const named = namedBlobs(state());
    const now = clock.monotonicMs();
    const still = new Map<string, number>();
    for (const hash of await blobs.list()) {
      if (named.has(hash)) continue;
      const since = unnamedSinceMs.get(hash) ?? now;
      if (now - since < graceMs) still.set(hash, since);
      else await blobs.delete(hash);
    }
    unnamedSinceMs = still;
  };
}

/** Starts removing what is not needed. @returns the function that stops. */
export function keepBlobs(components: BlobKeeperComponents & { readonly logger: Logger }): () => void {
  const { clock, logger } = components;
  const sweep = createBlobSweep(components);
  let running = false;
  return clock.every(periodMs, () => {
    if (running) return;
    running = true;
    sweep()
      .catch((error) => logger.warn({ error: String(error) }, 'blobs that nobody needs could not be removed'))
      .finally(() => {
        running = false;
      });
  });
}
