// Owns the log as the core sees it: the stable part below, the part that is not yet on disk above, and three marks
// (committed, applying, applied) that only move forward.

import type { RaftEntry, SnapshotMetadata } from '../../../protocols/consensus-record.ts';
import { entriesBytes, entryBytes, invariant, limitEntries, type Position, type StableLog } from './message.ts';
import { UnstableLog } from './unstable.ts';

export class RaftLog {
  readonly #stable: StableLog;
  readonly #unstable: UnstableLog;
  readonly #applyBytesMax: number;
  #committed: number;
  #applying: number;
  #applied: number;
  #applyingBytes = 0;
  #applyingPaused = false;

  constructor(stable: StableLog, applyBytesMax: number) {
    this.#stable = stable;
    this.#applyBytesMax = applyBytesMax;
    this.#unstable = new UnstableLog(stable.lastIndex() + 1);
    this.#committed = stable.firstIndex() - 1;
    this.#applying = this.#committed;
    this.#applied = this.#committed;
  }

  get committed(): number {
    return this.#committed;
  }

  get applied(): number {
    return this.#applied;
  }

  firstIndex(): number {
    return this.#unstable.firstIndex() ?? this.#stable.firstIndex();
  }

  lastIndex(): number {
    return this.#unstable.lastIndex() ?? this.#stable.lastIndex();
  }

  last(): Position {
    const index = this.lastIndex();
    const term = this.term(index);
    invariant(term !== undefined, 'the last entry has a term');
    return { index, term };
  }

  /** Term of an entry or of the snapshot's end; undefined when compacted or beyond the end. */
  term(index: number): number | undefined {
    const term = this.#unstable.term(index);
    if (term !== undefined) return term;
    if (index + 1 < this.firstIndex() || index > this.lastIndex()) return undefined;
    return this.#stable.term(index);
  }

  matches(position: Position): boolean {
    return this.term(position.index) === position.term;
  }

  /** True when a candidate with this last position is as complete as we are. */
  isUpToDate(their: Position): boolean {
    const our = this.last();
    return their.term > our.term || (their.term === our.term && their.index >= our.index);
  }

  /**
   * Takes a leader's entries after `previous`. Returns the index of the last of them, or undefined when `previous` does
   * not match. Entries that conflict are replaced with all that follow them; what matches already is left alone.
   */
  appendAfter(previous: Position, entries: readonly RaftEntry[], leaderCommit: number): number | undefined {
    if (!this.matches(previous)) return undefined;
    const lastNew = previous.index + entries.length;
    const firstNew = entries.findIndex((entry) => !this.matches(entry));
    if (firstNew !== -1) this.append(entries.slice(firstNew));
    this.commitTo(Math.min(leaderCommit, lastNew));
    return lastNew;
  }

  append(entries: readonly RaftEntry[]): number {
    const first = entries[0];
    if (first) {
      invariant(first.index > this.#committed, 'a committed entry is never replaced');
      this.#unstable.truncateAndAppend(entries);
    }
    return this.lastIndex();
  }

  /** The last position at or below `index` with a term at or below `term`: a guess at where two logs agree. */
  findByTerm(index: number, term: number): Position {
    for (let at = index; at > 0; at -= 1) {
      const ours = this.term(at);
      if (ours === undefined) return { index: at, term: 0 };
      if (ours <= term) return { index: at, term: ours };
    }
    return { index: 0, term: 0 };
  }

  commitTo(index: number): void {
    if (index <= this.#committed) return;
    invariant(
      index <= this.lastIndex(),
      `commit index ${index} lies within the log, which ends at ${this.lastIndex()}`,
    );
    this.#committed = index;
  }

  /** Commits up to a quorum's index if the entry there is of the leader's own term; true when that moved anything. */
  maybeCommit(at: Position): boolean {
    if (at.term === 0 || at.index <= this.#committed || !this.matches(at)) return false;
    this.commitTo(at.index);
    return true;
  }

  nextUnstableEntries(): readonly RaftEntry[] {
    return this.#unstable.nextEntries();
  }

  hasUnstableEntries(): boolean {
    return this.#unstable.hasEntries();
  }

  nextUnstableSnapshot(): SnapshotMetadata | undefined {
    return this.#unstable.nextSnapshot();
  }

  hasPendingSnapshot(): boolean {
    return this.#unstable.snapshot !== undefined;
  }

  /** What can be applied next, bounded by bytes that are already being applied. */
  nextCommittedEntries(allowUnstable: boolean): readonly RaftEntry[] {
    if (!this.hasNextCommittedEntries(allowUnstable)) return [];
    const high = this.#appliableIndex(allowUnstable) + 1;
    const entries = this.slice(this.#applying + 1, high, this.#applyBytesMax - this.#applyingBytes);
    invariant(entries !== undefined && entries.length > 0, 'entries to be applied are in the log');
    return entries;
  }

  hasNextCommittedEntries(allowUnstable: boolean): boolean {
    if (this.#applyingPaused || this.hasPendingSnapshot()) return false;
    return this.#applying < this.#appliableIndex(allowUnstable);
  }

  acceptUnstable(): void {
    this.#unstable.acceptInProgress();
  }

  acceptApplying(index: number, bytes: number, allowUnstable: boolean): void {
    invariant(index <= this.#committed, 'only committed entries are applied');
    this.#applying = index;
    this.#applyingBytes += bytes;
    this.#applyingPaused = this.#applyingBytes >= this.#applyBytesMax || index < this.#appliableIndex(allowUnstable);
  }

  appliedTo(index: number, bytes: number): void {
    invariant(index <= this.#committed && index >= this.#applied, `applied index ${index} only moves forward`);
    this.#applied = index;
    this.#applying = Math.max(this.#applying, index);
    this.#applyingBytes = Math.max(this.#applyingBytes - bytes, 0);
    this.#applyingPaused = this.#applyingBytes >= this.#applyBytesMax;
  }

  stableTo(position: Position): void {
    this.#unstable.stableTo(position);
  }

  stableSnapshotTo(index: number): void {
    this.#unstable.stableSnapshotTo(index);
  }

  /** The snapshot to send to a follower that needs entries from before the log's start. */
  snapshot(): SnapshotMetadata | undefined {
    return this.#unstable.snapshot ?? this.#stable.snapshot();
  }

  restore(snapshot: SnapshotMetadata): void {
    this.#committed = snapshot.index;
    this.#unstable.restore(snapshot);
  }

  /** Entries from `low` to the end within bytesMax; undefined when `low` is compacted. */
  entriesFrom(low: number, bytesMax: number): readonly RaftEntry[] | undefined {
    return low > this.lastIndex() ? [] : this.slice(low, this.lastIndex() + 1, bytesMax);
  }

  /** Entries low <= index < high within bytesMax, at least one; undefined when `low` is compacted. */
  slice(low: number, high: number, bytesMax: number): readonly RaftEntry[] | undefined {
    if (low < this.firstIndex()) return undefined;
    if (low >= high) return [];
    const offset = this.#unstable.offset;
    if (low >= offset) return limitEntries(this.#unstable.slice(low, high), bytesMax);
    const cut = Math.min(high, offset);
    const stable = this.#stable.entries(low, cut, bytesMax);
    if (stable === undefined || high <= offset || stable.length < cut - low) return stable;
    const room = bytesMax - entriesBytes(stable);
    const unstable = this.#unstable.slice(offset, high);
    const next = unstable[0];
    if (room <= 0 || next === undefined || entryBytes(next) > room) return stable;
    return [...stable, ...limitEntries(unstable, room)];
  }

  #appliableIndex(allowUnstable: boolean): number {
    return allowUnstable ? this.#committed : Math.min(this.#committed, this.#unstable.offset - 1);
  }
}
