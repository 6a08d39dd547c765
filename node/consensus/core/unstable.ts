// Owns the upper part of the log that is not known to be on disk: a received snapshot or the newest entries, and how much
// of it has been handed to storage already.

import type { RaftEntry, SnapshotMetadata } from '../../../protocols/consensus-record.ts';
import { invariant, type Position } from './message.ts';

export class UnstableLog {
  #snapshot: SnapshotMetadata | undefined;
  #snapshotInProgress = false;
  #entries: readonly RaftEntry[] = [];
  /** Index of the first entry held here. */
  #offset: number;
  /** Entries below this index are being written. */
  #inProgressEnd: number;

  constructor(offset: number) {
    this.#offset = offset;
    this.#inProgressEnd = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  get snapshot(): SnapshotMetadata | undefined {
    return this.#snapshot;
  }

  firstIndex(): number | undefined {
    return this.#snapshot && this.#snapshot.index + 1;
  }

  lastIndex(): number | undefined {
    if (this.#entries.length > 0) return this.#offset + this.#entries.length - 1;
    return this.#snapshot?.index;
  }

  term(index: number): number | undefined {
    if (index >= this.#offset) return this.#entries[index - this.#offset]?.term;
    return this.#snapshot?.index === index ? this.#snapshot.term : undefined;
  }

  hasEntries(): boolean {
    return this.#entries.length > 0;
  }

  /** Entries that storage has not been given yet. */
  nextEntries(): readonly RaftEntry[] {
    return this.#entries.slice(this.#inProgressEnd - this.#offset);
  }

  nextSnapshot(): SnapshotMetadata | undefined {
    return this.#snapshotInProgress ? undefined : this.#snapshot;
  }

  /** Marks everything held here as given to storage. */
  acceptInProgress(): void {
    if (this.#entries.length > 0) this.#inProgressEnd = this.#offset + this.#entries.length;
    if (this.#snapshot) this.#snapshotInProgress = true;
  }

  /** Lets go of entries that storage holds, provided that they are still the ones held here. */
  stableTo(position: Position): void {
    if (position.index < this.#offset || this.term(position.index) !== position.term) return;
    this.#entries = this.#entries.slice(position.index + 1 - this.#offset);
    this.#offset = position.index + 1;
    this.#inProgressEnd = Math.max(this.#inProgressEnd, this.#offset);
  }

  stableSnapshotTo(index: number): void {
    if (this.#snapshot?.index !== index) return;
    this.#snapshot = undefined;
    this.#snapshotInProgress = false;
  }

  restore(snapshot: SnapshotMetadata): void {
    this.#offset = snapshot.index + 1;
    this.#inProgressEnd = this.#offset;
    this.#entries = [];
    this.#snapshot = snapshot;
    this.#snapshotInProgress = false;
  }

  truncateAndAppend(entries: readonly RaftEntry[]): void {
    const from = entries[0]?.index ?? this.#offset;
    invariant(from <= this.#offset + this.#entries.length, 'entries are appended without a gap');
    if (from <= this.#offset) {
      this.#entries = [...entries];
      this.#offset = from;
      this.#inProgressEnd = from;
      return;
    }
    this.#entries = [...this.#entries.slice(0, from - this.#offset), ...entries];
    this.#inProgressEnd = Math.min(this.#inProgressEnd, from);
  }

  slice(low: number, high: number): readonly RaftEntry[] {
    invariant(low >= this.#offset && high <= this.#offset + this.#entries.length, 'unstable slice within bounds');
    return this.#entries.slice(low - this.#offset, high - this.#offset);
  }
}
