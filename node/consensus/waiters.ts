// Owns the callers that wait: proposals until their entry is applied or proved lost, reads until a quorum has confirmed
// an index and it is applied. Every caller gets an answer, at the latest when it gives up or consensus stops.

import { ParleyError } from '../../protocols/errors.ts';
import type { Position } from './types.ts';

/** Callers that may wait at once, of each kind. */
const waitersMax = 4_096;

interface Waiter {
  readonly term: number;
  readonly resolve: (applied: Position) => void;
  readonly reject: (error: ParleyError) => void;
}

const unknownHint = 'Ask again with the same command id: it is applied at most once.';

export class Proposals {
  readonly #waiting = new Map<number, Waiter>();

  /** True when there is room for one more beside some that are on their way here. */
  hasRoomBeside(coming: number): boolean {
    return this.#waiting.size + coming < waitersMax;
  }

  /** Waits for the entry that was just appended. Who waits at its place already: another voter may still commit theirs. */
  add(position: Position, signal: AbortSignal): Promise<Position> {
    const { index, term } = position;
    const older = this.#waiting.get(index);
    older?.reject(unknown(`entry ${index} of term ${older.term}: one of term ${term} took its place in this log`));
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        if (this.#waiting.get(index)?.term === term) this.#waiting.delete(index);
        reject(unknown(`entry ${index} of term ${term}: the caller gave up waiting`));
      };
      const leave = (): void => signal.removeEventListener('abort', giveUp);
      this.#waiting.set(index, {
        term,
        resolve: (result) => {
          leave();
          resolve(result);
        },
        reject: (error) => {
          leave();
          reject(error);
        },
      });
      if (signal.aborted) giveUp();
      else signal.addEventListener('abort', giveUp, { once: true });
    });
  }

  /** An entry was applied here: who waited for this very entry succeeds, who waited for another one at its place lost. */
  applied(position: Position): void {
    const waiter = this.#waiting.get(position.index);
    if (!waiter) return;
    this.#waiting.delete(position.index);
    if (waiter.term === position.term) waiter.resolve({ index: position.index, term: position.term });
    else waiter.reject(lost(position.index));
  }

  /** Nobody can tell any more what became of the entries up to an index. */
  forget(upTo: number, why: string): void {
    for (const [index, waiter] of this.#waiting) {
      if (index > upTo) continue;
      this.#waiting.delete(index);
      waiter.reject(unknown(`entry ${index} of term ${waiter.term}: ${why}`));
    }
  }
}

interface Read {
  readonly context: string;
  /** Known once a quorum has answered. */
  index: number | undefined;
  readonly resolve: (index: number) => void;
  readonly reject: (error: ParleyError) => void;
}

export class Reads {
  readonly #prefix: string;
  readonly #waiting = new Map<string, Read>();
  #count = 0;

  /** `prefix` makes the ids of reads unique among voters and restarts. */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  get full(): boolean {
    return this.#waiting.size >= waitersMax;
  }

  /** Waits for a confirmed index. */
  add(signal: AbortSignal): { readonly context: string; readonly done: Promise<number> } {
    this.#count += 1;
    const context = `${this.#prefix}-${this.#count}`;
    const done = new Promise<number>((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiting.delete(context);
        reject(new ParleyError('timed-out', 'no majority confirmed the read in time', { retryable: true }));
      };
      const leave = (): void => signal.removeEventListener('abort', giveUp);
      this.#waiting.set(context, {
        context,
        index: undefined,
        resolve: (index) => {
          leave();
          resolve(index);
        },
        reject: (error) => {
          leave();
          reject(error);
        },
      });
      if (signal.aborted) giveUp();
      else signal.addEventListener('abort', giveUp, { once: true });
    });
    return { context, done };
  }

  /** Reads without an answer yet: their question or its answer may have been lost. */
  unanswered(): string[] {
    return [...this.#waiting.values()].filter((read) => read.index === undefined).map((read) => read.context);
  }

  confirmed(context: string, index: number): void {
    const read = this.#waiting.get(context);
    if (read) read.index ??= index;
  }

  /** The state machine has reached an index. */
  applied(index: number): void {
    for (const [context, read] of this.#waiting) {
      if (read.index === undefined || read.index > index) continue;
      this.#waiting.delete(context);
      read.resolve(read.index);
    }
  }

  stop(): void {
    for (const read of this.#waiting.values()) read.reject(new ParleyError('stopped', 'consensus has stopped'));
    this.#waiting.clear();
  }
}

function lost(index: number): ParleyError {
  return new ParleyError('proposal-lost', `the proposal was replaced by another entry at index ${index}`, {
    hint: 'Propose it again.',
    retryable: true,
  });
}

function unknown(what: string): ParleyError {
  return new ParleyError('outcome-unknown', `cannot tell what became of ${what}`, {
    hint: unknownHint,
    retryable: true,
  });
}
