// Owns what is done with a voter's log while no voter runs on it: beginning it, and reading what it knows to be committed.

import type { RaftEntry, SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { bootstrapLog, type LogDisk, openLogStore } from './log-store.ts';
import type { CommittedEntry, StateMachineSnapshot } from './types.ts';

export interface OfflineLog {
  /** Known to be committed. */
  readonly commitIndex: number;
  /** The log's end; what lies after the commit index may or may not have been committed. */
  readonly lastIndex: number;
  /** A snapshot that the log starts after and whose body was not restored yet. */
  readonly snapshot?: StateMachineSnapshot;
  /** Committed entries after an index. */
  entriesAfter(index: number): CommittedEntry[];
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

/** @throws ParleyError `damaged-log`, `not-bootstrapped`. */
export async function readLog(disk: LogDisk): Promise<OfflineLog> {
  const store = await openLogStore(disk, () => undefined);
  const { commit } = store.hardState();
  const data = await store.pendingBody();
  const base = store.base();
  return {
    commitIndex: commit,
    lastIndex: store.log.lastIndex(),
    ...(data === undefined ? {} : { snapshot: { ...base, data } }),
    entriesAfter(index) {
      const entries: CommittedEntry[] = [];
      for (let next = Math.max(index, base.index) + 1; next <= commit; next += 1) {
        const entry = store.log.entry(next);
        if (entry !== undefined) entries.push(entry);
      }
      return entries;
    },
  };
}
