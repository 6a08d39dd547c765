// Owns what a leader knows about one follower: how far its log matches, what is in flight, and whether it is probed one
// message at a time, streamed to, or waiting for a snapshot.

import { invariant } from './message.ts';

export type ProgressState = 'probe' | 'replicate' | 'snapshot';

/** The append messages sent and not yet acknowledged, bounded by count and (softly) by bytes. */
export class Inflights {
  readonly #countMax: number;
  readonly #bytesMax: number;
  #sent: { readonly lastIndex: number; readonly bytes: number }[] = [];
  #bytes = 0;

  constructor(countMax: number, bytesMax: number) {
    this.#countMax = countMax;
    this.#bytesMax = bytesMax;
  }

  add(lastIndex: number, bytes: number): void {
    invariant(!this.full(), 'an append message is sent only while the window has room');
    this.#sent.push({ lastIndex, bytes });
    this.#bytes += bytes;
  }

  /** Frees all messages whose last entry is at or below the index. */
  freeUpTo(index: number): void {
    const kept = this.#sent.findIndex((message) => message.lastIndex > index);
    const freed = this.#sent.splice(0, kept === -1 ? this.#sent.length : kept);
    for (const message of freed) this.#bytes -= message.bytes;
  }

  full(): boolean {
    return this.#sent.length >= this.#countMax || this.#bytes >= this.#bytesMax;
  }

  count(): number {
    return this.#sent.length;
  }

  reset(): void {
    this.#sent = [];
    this.#bytes = 0;
  }
}

export interface ProgressInit {
  readonly match: number;
  readonly next: number;
  readonly isLearner: boolean;
  readonly recentActive: boolean;
  readonly inflights: Inflights;
}

/** One follower's progress. Always match < next; entries between them are in flight. */
export class Progress {
  match: number;
  next: number;
  state: ProgressState = 'probe';
  /** Index of the snapshot that was sent, while in state `snapshot`. */
  pendingSnapshot = 0;
  /** Something was heard from the follower since the last quorum check. */
  recentActive: boolean;
  /** No append until something is heard: one probe is out, or the window is full. */
  flowPaused = false;
  isLearner: boolean;
  readonly inflights: Inflights;
  /** Highest commit index on its way to the follower. */
  #sentCommit = 0;

  constructor(init: ProgressInit) {
    this.match = init.match;
    this.next = init.next;
    this.isLearner = init.isLearner;
    this.recentActive = init.recentActive;
    this.inflights = init.inflights;
  }

  /** A copy that shares the window: configuration changes work on copies and are then adopted whole. */
  clone(): Progress {
    const copy = new Progress(this);
    copy.state = this.state;
    copy.pendingSnapshot = this.pendingSnapshot;
    copy.flowPaused = this.flowPaused;
    copy.#sentCommit = this.#sentCommit;
    return copy;
  }

  becomeProbe(): void {
    const sentSnapshot = this.state === 'snapshot' ? this.pendingSnapshot : 0;
    this.#enter('probe');
    this.next = Math.max(this.match, sentSnapshot) + 1;
    this.#sentCommit = Math.min(this.#sentCommit, this.next - 1);
  }

  becomeReplicate(): void {
    this.#enter('replicate');
    this.next = this.match + 1;
  }

  becomeSnapshot(index: number): void {
    this.#enter('snapshot');
    this.pendingSnapshot = index;
    this.next = index + 1;
    this.#sentCommit = index;
  }

  /** Accounts for an append message with this many entries. */
  sentEntries(count: number, bytes: number): void {
    invariant(this.state !== 'snapshot', 'nothing is appended while a snapshot is pending');
    if (this.state === 'probe') {
      if (count > 0) this.flowPaused = true;
      return;
    }
    if (count > 0) {
      this.next += count;
      this.inflights.add(this.next - 1, bytes);
    }
    this.flowPaused = this.inflights.full();
  }

  sentCommit(commit: number): void {
    this.#sentCommit = commit;
  }

  /** True when telling the follower this commit index would move its own. */
  canBumpCommit(commit: number): boolean {
    return commit > this.#sentCommit && this.#sentCommit < this.next - 1;
  }

  /** Takes an acknowledgement; false when it tells nothing new. */
  advanceTo(index: number): boolean {
    if (index <= this.match) return false;
    this.match = index;
    this.next = Math.max(this.next, index + 1);
    this.flowPaused = false;
    return true;
  }

  /** Takes a rejection of the append at `rejected`; false when it is stale. */
  retreat(rejected: number, matchHint: number): boolean {
    if (this.state === 'replicate') {
      if (rejected <= this.match) return false;
      this.next = this.match + 1;
    } else {
      if (this.next - 1 !== rejected) return false;
      this.next = Math.max(Math.min(rejected, matchHint + 1), this.match + 1);
      this.flowPaused = false;
    }
    this.#sentCommit = Math.min(this.#sentCommit, this.next - 1);
    return true;
  }

  isPaused(): boolean {
    return this.state === 'snapshot' || this.flowPaused;
  }

  #enter(state: ProgressState): void {
    this.flowPaused = false;
    this.pendingSnapshot = 0;
    this.state = state;
    this.inflights.reset();
  }
}
