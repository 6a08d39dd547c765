// Owns what is done with a voter's log while no voter runs on it: beginning it, and reading what is sound of it.

import type { CommittedEntry, RaftEntry, SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { type ChainPlace, soundEntryAfter, soundRecords } from './log-records.ts';
import { bootstrapLog, type LogDisk, openLogStore } from './log-store.ts';
import type { StateMachineSnapshot } from './types.ts';

export interface OfflineLog {
  /** Why no voter may run on it; null for a whole one. */
  readonly damage: string | null;
  /** Known to be committed at the newest batch that is left; 0 where nobody can tell. */
  readonly commitIndex: number;
  /** It starts after this entry; what came before is in the ledger alone. 0 where nobody can tell. */
  readonly baseIndex: number;
  /** Where that batch ended; what lies after the commit index may or may not have been committed. */
  readonly lastIndex: number;
  /** A snapshot that the log starts after and whose body may not have been restored yet. */
  readonly snapshot?: StateMachineSnapshot;
  /** The entries after a place of the chain, committed or not, to the log's end or to the first that is missing or damaged. */
  entriesAfter(place: ChainPlace): Promise<CommittedEntry[]>;
}

/**
 * Gives a new voter its log: it starts after `base` and holds entries that all voters begin with, committed as they stand. Does nothing
 * where that was done already.
 * @throws ParleyError `damaged-log`.
 */
export async function beginLog(disk: LogDisk, base: SnapshotMetadata, committed: readonly RaftEntry[]): Promise<void> {
  await bootstrapLog(disk, base);
  const last = committed.at(-1);
  if (last === undefined) return;
  const store = await openLogStore(disk, () => undefined);
  if (store.log.lastIndex() > base.index) return;
  await store.write({ hardState: { term: last.term, vote: 0, commit: last.index }, entries: committed });
}

/** What is left of a log. @throws ParleyError `not-bootstrapped` where none was begun. */
export async function readLog(disk: LogDisk): Promise<OfflineLog> {
  const damage = await openLogStore(disk, () => undefined).then(() => null, damageIn);
  const { tail, base, received } = await soundRecords(disk.store);
  return {
    damage,
    commitIndex: tail?.commit ?? 0,
    baseIndex: base?.index ?? 0,
    lastIndex: tail?.lastIndex ?? 0,
    ...(received && { snapshot: { ...received.metadata, data: received.body } }),
    async entriesAfter(place) {
      const entries: CommittedEntry[] = [];
      for (let last = place; ; ) {
        const entry = await soundEntryAfter(disk.store, last);
        if (entry === undefined) return entries;
        entries.push(entry);
        last = entry;
      }
    },
  };
}

function damageIn(error: unknown): string {
  if (error instanceof ParleyError && error.code !== 'not-bootstrapped') return error.message;
  throw error;
}
