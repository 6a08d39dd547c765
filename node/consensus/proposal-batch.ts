// Owns the proposals of one moment: those that callers make before the event loop goes on are proposed together, so that each
// follower gets a message for many of them instead of one for each.

import type { Position } from './types.ts';

/** Data bytes proposed together: about what one append message takes. */
const batchBytesMax = 256 * 1024;

interface Proposal {
  readonly data: Uint8Array;
  readonly signal: AbortSignal;
  readonly resolve: (applied: Promise<Position>) => void;
  readonly reject: (error: unknown) => void;
}

export interface ProposalBatchInit {
  /** Appends entries to the leader's log; gives the position of the first. Throws when it takes none of them. */
  readonly propose: (data: readonly Uint8Array[]) => Position;
  /** Resolves once the entry at a position is applied. */
  readonly wait: (position: Position, signal: AbortSignal) => Promise<Position>;
}

export class ProposalBatch {
  readonly #init: ProposalBatchInit;
  #waiting: Proposal[] = [];

  constructor(init: ProposalBatchInit) {
    this.#init = init;
  }

  /** Proposals that are not in the log yet. */
  get size(): number {
    return this.#waiting.length;
  }

  /** Proposes one entry together with others; resolves once it is applied. */
  add(data: Uint8Array, signal: AbortSignal): Promise<Position> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ data, signal, resolve, reject });
      if (this.#waiting.length === 1) queueMicrotask(() => this.#proposeAll());
    });
  }

  #proposeAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    let group: Proposal[] = [];
    let bytes = 0;
    for (const proposal of waiting) {
      if (group.length > 0 && bytes + proposal.data.byteLength > batchBytesMax) {
        this.#proposeGroup(group);
        group = [];
        bytes = 0;
      }
      group.push(proposal);
      bytes += proposal.data.byteLength;
    }
    this.#proposeGroup(group);
  }

  #proposeGroup(group: readonly Proposal[]): void {
    try {
      const { index, term } = this.#init.propose(group.map(({ data }) => data));
      for (const [offset, { signal, resolve }] of group.entries()) {
        resolve(this.#init.wait({ index: index + offset, term }, signal));
      }
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }
}
