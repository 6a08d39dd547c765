// Owns the leader's queue of reads that wait for a quorum to confirm that it still leads. Heartbeats carry the position of
// the newest read; an answer confirms all reads up to the position that it echoes.

import type { Message } from './message.ts';
import { type JointVoters, jointIndex } from './quorum.ts';

export interface WaitingRead {
  readonly request: Message;
  /** Commit index when the read arrived. */
  readonly index: number;
}

export class ReadQueue {
  #waiting: WaitingRead[] = [];
  #confirmed = 0;
  readonly #acked = new Map<number, number>();

  get size(): number {
    return this.#waiting.length;
  }

  add(request: Message, commitIndex: number): void {
    this.#waiting.push({ request, index: commitIndex });
  }

  /** What the next heartbeat carries; empty when nobody reads. */
  context(): string {
    return this.#waiting.length === 0 ? '' : String(this.#confirmed + this.#waiting.length);
  }

  acknowledge(raftId: number, context: string): void {
    const position = Number(context);
    if (context === '' || !Number.isSafeInteger(position)) return;
    // An answer cannot confirm reads that arrived after its question.
    const known = Math.min(position, this.#confirmed + this.#waiting.length);
    this.#acked.set(raftId, Math.max(known, this.#acked.get(raftId) ?? 0));
  }

  /** Takes out the reads that a quorum has confirmed. */
  takeConfirmed(voters: JointVoters): WaitingRead[] {
    const confirmed = jointIndex(voters, (raftId) => this.#acked.get(raftId));
    if (confirmed <= this.#confirmed) return [];
    const reads = this.#waiting.splice(0, confirmed - this.#confirmed);
    this.#confirmed = confirmed;
    return reads;
  }
}
