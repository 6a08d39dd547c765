// Owns which blobs stay: those that the state names, and for a while those that came lately (a blob is on disks before an
// entry names it). The rest is removed. What others bring has limits of its own: for each that brings it, and for all.

import { ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { unnamedBlobBytesMax, unnamedBlobBytesPerPeerMax } from '../../protocols/limits.ts';
import type { BlobStore, Clock, Logger } from '../interfaces.ts';

const periodMs = 10 * 60 * 1000;
/** A blob that nothing names is kept this long: jobs of hours store theirs before their entry. */
const graceMs = 24 * 60 * 60 * 1000;
/** Within this it is not let go for others either: the largest draft over a poor uplink takes half of it to a majority. */
const settleMs = 60 * 60 * 1000;
/** What even an empty blob takes of a disk and of the table of those that nothing names. */
const chargedBytesMin = 16 * 1024;

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

/** A blob that nothing names, as far as that was looked up. */
interface Unnamed {
  readonly bytes: number;
  /** Since when, by the monotonic clock. */
  readonly sinceMs: number;
  /** Who brought it, where this process knows. */
  readonly sender?: string | undefined;
}

export interface BroughtBlob {
  readonly sender: string;
  readonly hash: string;
  readonly bytes: number;
}

export interface BlobKeeper {
  /**
   * Has a peer's blob stored unless it is here, where there is room for it: what nothing has named for long makes room. It
   * counts as come now, and as brought by that peer.
   * @throws ParleyError `busy` (retryable), and what `store` throws.
   */
  take(blob: BroughtBlob, store: () => Promise<unknown>): Promise<void>;
  /** Removes what nothing has named for the time of grace, as far as this process knows or the disk says. */
  sweep(): Promise<void>;
  stop(): void;
}

export function createBlobKeeper(components: {
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly state: () => LedgerState;
}): BlobKeeper {
  const { blobs, clock, logger, state } = components;
  const unnamed = new Map<string, Unnamed>();
  const coming = new Set<Pick<Unnamed, 'bytes' | 'sender'>>();
  let firstLook: Promise<void> | undefined;
  let sweeping = false;

  /** Those that were put before this process began have what the disk says behind them, short of the last hour: clocks jump. */
  async function found(hash: string, isFirst: boolean): Promise<Unnamed | undefined> {
    const facts = await blobs.facts(hash);
    if (facts === undefined) return undefined;
    const ageMs = isFirst ? Math.min(Math.max(0, clock.nowMs() - facts.storedAtMs), graceMs - settleMs) : 0;
    const known = unnamed.get(hash) ?? { bytes: facts.bytes, sinceMs: clock.monotonicMs() - ageMs };
    unnamed.set(hash, known);
    return known;
  }

  async function look(isFirst: boolean): Promise<void> {
    const startMs = clock.monotonicMs();
    const named = namedBlobs(state());
    const here = new Set(await blobs.list());
    for (const [hash, { sinceMs }] of unnamed) if (sinceMs < startMs && !here.has(hash)) unnamed.delete(hash);
    for (const hash of here) {
      if (named.has(hash)) unnamed.delete(hash);
      else {
        const known = unnamed.get(hash) ?? (await found(hash, isFirst));
        if (known !== undefined && clock.monotonicMs() - known.sinceMs >= graceMs) await letGo(hash, known);
      }
    }
  }

  async function sweep(): Promise<void> {
    if (firstLook !== undefined) return firstLook.then(() => look(false));
    firstLook = look(true);
    await firstLook.catch((error) => {
      firstLook = undefined;
      throw error;
    });
  }

  /** Unless it has come again meanwhile. */
  async function letGo(hash: string, known: Unnamed): Promise<void> {
    if (unnamed.get(hash) !== known) return;
    await blobs.delete(hash);
    if (unnamed.get(hash) === known) unnamed.delete(hash);
  }

  /** @throws ParleyError `busy`. */
  async function makeRoom(
    limit: number,
    whose: string,
    counts: (of: { readonly sender?: string | undefined }) => boolean,
  ) {
    const excess = (): number => {
      const bytes = [...unnamed.values(), ...coming]
        .filter(counts)
        .map((each) => Math.max(each.bytes, chargedBytesMin));
      return bytes.reduce((sum, each) => sum + each, 0) - limit;
    };
    if (excess() <= 0) return;
    for (const hash of namedBlobs(state())) unnamed.delete(hash);
    let over = excess();
    const settledMs = clock.monotonicMs() - settleMs;
    const settled = [...unnamed].filter(([, each]) => counts(each) && each.sinceMs <= settledMs);
    for (const [hash, known] of settled.sort(([, a], [, b]) => a.sinceMs - b.sinceMs)) {
      if (over <= 0) return;
      await letGo(hash, known);
      over -= Math.max(known.bytes, chargedBytesMin);
    }
    if (over <= 0) return;
    const text = `blobs that nothing names are kept up to ${limit / 2 ** 20} MiB ${whose}: the limit is reached`;
    throw new ParleyError('busy', text, { hint: 'Ask again in an hour: the oldest make room then.', retryable: true });
  }

  const stopNoting = blobs.onPut((hash, bytes) => {
    unnamed.set(hash, { bytes, sinceMs: clock.monotonicMs(), sender: unnamed.get(hash)?.sender });
  });
  const stopSweeping = clock.every(periodMs, () => {
    if (sweeping) return;
    sweeping = true;
    sweep()
      .catch((error) => logger.warn({ error: String(error) }, 'blobs that nobody needs could not be removed'))
      .finally(() => {
        sweeping = false;
      });
  });

  /** @throws ParleyError `busy`. What is named is no part of what is limited. */
  async function admit(sender: string, hash: string): Promise<void> {
    try {
      await makeRoom(unnamedBlobBytesPerPeerMax, `of peer '${sender}'`, (each) => each.sender === sender);
      await makeRoom(unnamedBlobBytesMax, 'in all', () => true);
    } catch (error) {
      if (!namedBlobs(state()).has(hash)) throw error;
    }
  }

  return {
    async take({ sender, hash, bytes }, store) {
      if (firstLook === undefined) await sweep();
      else await firstLook;
      const one = { sender, bytes };
      const before = unnamed.get(hash);
      // Nothing lets it go meanwhile.
      unnamed.delete(hash);
      coming.add(one);
      try {
        await admit(sender, hash);
        if (!(await blobs.has(hash))) await store();
        unnamed.set(hash, { bytes, sinceMs: clock.monotonicMs(), sender });
      } catch (error) {
        if (before !== undefined) unnamed.set(hash, before);
        throw error;
      } finally {
        coming.delete(one);
      }
    },
    sweep,
    stop() {
      stopNoting();
      stopSweeping();
    },
  };
}
