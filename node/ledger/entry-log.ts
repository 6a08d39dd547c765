// Owns the entries that a member pulled and keeps, all of them certified: to replay what came after its snapshot, and to
// serve others. Voters have them in consensus's own log instead.

import { decode, encode } from '../../protocols/codec.ts';
import { type CommittedEntry, entryChainHash } from '../../protocols/consensus-record.ts';
import { pulledEntrySchema } from '../../protocols/ledger-record.ts';
import { entryBytesMax } from '../../protocols/limits.ts';
import type { KeyValueStore, Logger, StoreOperation } from '../interfaces.ts';
import { endOf, numberedKey } from '../keys.ts';

/** Entries kept below the snapshot, for others who are a little behind. */
const entriesKept = 1_000;
/** Entries removed by one batch. */
const pruneBatch = 1_000;
const recordBytesMax = entryBytesMax + 4 * 1024;
const prefix = 'entry/';
const keyOf = (index: number): string => numberedKey(prefix, index);

export interface EntryLog {
  /** Stores entries on the disk, and what proves them, as one. */
  append(entries: readonly CommittedEntry[], proof: readonly StoreOperation[]): Promise<void>;
  /** Entries from an index on that are there, chained to `previous`; at most about `bytesMax` of data. Empty when the first is missing. */
  read(from: number, previous: string | undefined, bytesMax: number): Promise<CommittedEntry[]>;
  /** Drops what nobody needs any more, given what the snapshots settle and the last entry. */
  prune(snapshotIndex: number, lastIndex: number): Promise<void>;
  /** Drops entries after an index: the fleet went on without them. */
  dropAfter(index: number): Promise<void>;
  /** Drops everything: a snapshot has taken its place. */
  clear(): Promise<void>;
}

export function createEntryLog(store: KeyValueStore, logger: Logger): EntryLog {
  const removeBelow = (end: string): Promise<void> => remove(prefix, end);

  async function remove(from: string, end: string): Promise<void> {
    for (;;) {
      const page = await store.range({ gte: from, lt: end, limit: pruneBatch });
      if (page.length === 0) return;
      await store.batch(
        page.map(([key]) => ({ type: 'del', key }) as const),
        { sync: false },
      );
    }
  }

  return {
    async append(entries, proof) {
      const puts = entries.map((entry) => ({ type: 'put', key: keyOf(entry.index), value: encode(entry) }) as const);
      await store.batch([...puts, ...proof], { sync: true });
    },
    async read(from, previous, bytesMax) {
      const entries: CommittedEntry[] = [];
      let bytes = 0;
      let last = previous;
      // Pages of a few entries: one of the largest size may be 64 KiB.
      for (let next = from; bytes < bytesMax; ) {
        const page = await store.range({ gte: keyOf(next), lt: keyOf(next + 64) });
        for (const [key, value] of page) {
          const entry = readRecord(value, logger);
          const isSound = entry !== undefined && key === keyOf(next) && entry.index === next;
          if (!isSound || (last !== undefined && entry.chainHash !== entryChainHash(last, entry))) return entries;
          entries.push(entry);
          bytes += entry.data.byteLength;
          last = entry.chainHash;
          next += 1;
          if (bytes >= bytesMax) break;
        }
        if (page.length < 64) break;
      }
      return entries;
    },
    prune: (snapshotIndex, lastIndex) =>
      removeBelow(keyOf(Math.max(0, Math.min(snapshotIndex + 1, lastIndex - entriesKept)))),
    dropAfter: (index) => remove(keyOf(index + 1), endOf(prefix)),
    clear: () => removeBelow(endOf(prefix)),
  };
}

function readRecord(value: Uint8Array, logger: Logger): CommittedEntry | undefined {
  try {
    return decode(pulledEntrySchema, value, recordBytesMax, 'stored entry');
  } catch (error) {
    logger.error({ error: String(error) }, 'a stored ledger entry is damaged and pulled again');
    return undefined;
  }
}
