// Owns the in-memory image of the log that is on disk: entries after a base position, cut at either end.

import type { RaftEntry, SnapshotMetadata } from '../../../protocols/consensus-record.ts';
import { invariant, limitEntries, type Position, type StableLog } from './message.ts';

export class LogWindow<Entry extends RaftEntry> implements StableLog {
  #base: Position;
  #entries: Entry[] = [];
  readonly #snapshot: () => SnapshotMetadata | undefined;

  /** `base` is the position before the first entry; `snapshot` answers for the newest snapshot that can be sent. */
  constructor(base: Position, snapshot: () => SnapshotMetadata | undefined) {
    this.#base = base;
    this.#snapshot = snapshot;
  }

  firstIndex(): number {
    return this.#base.index + 1;
  }

  lastIndex(): number {
    return this.#base.index + this.#entries.length;
  }

  term(index: number): number | undefined {
    return index === this.#base.index ? this.#base.term : this.entry(index)?.term;
  }

  entry(index: number): Entry | undefined {
    return this.#entries[index - this.firstIndex()];
  }

  entries(low: number, high: number, bytesMax: number): readonly RaftEntry[] | undefined {
    if (low < this.firstIndex()) return undefined;
    return limitEntries(this.range(low, high), bytesMax);
  }

  /** Entries low <= index < high, as far as they are here. */
  range(low: number, high: number): readonly Entry[] {
    return this.#entries.slice(Math.max(low - this.firstIndex(), 0), Math.max(high - this.firstIndex(), 0));
  }

  snapshot(): SnapshotMetadata | undefined {
    return this.#snapshot();
  }

  /** Adds entries, cutting off everything from the first of them on. */
  append(entries: readonly Entry[]): void {
    const first = entries[0];
    if (!first) return;
    invariant(first.index >= this.firstIndex() && first.index <= this.lastIndex() + 1, 'entries extend the log');
    this.#entries.splice(first.index - this.firstIndex());
    for (const entry of entries) this.#entries.push(entry);
  }

  /** Empties the log; the next entry follows on `base`. */
  reset(base: Position): void {
    this.#base = base;
    this.#entries = [];
  }

  /** Drops all entries up to the index, whose term stays known. */
  compact(index: number): void {
    const term = this.term(index);
    invariant(term !== undefined, 'the log is compacted within its bounds');
    this.#entries.splice(0, index - this.#base.index);
    this.#base = { index, term };
  }
}
