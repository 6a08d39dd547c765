// Owns which messages of other voters reach the core, those that the core of a sound voter could not act on stay outside; and
// what such messages prove: that this voter, or another one, holds no longer what it has acknowledged.

import type { ErrorRecord } from '../../protocols/errors.ts';
import type { Clock, Logger } from '../interfaces.ts';
import { type Message, nobody, type RawNode, type RawStatus, voterIds } from './core/index.ts';
import { Seldom } from './seldom.ts';

/** Refusals in a row of what was acknowledged: far more than messages that are late can bring. */
const refusalsMin = 10;

export interface IncomingInit {
  readonly logger: Logger;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** This voter has acknowledged what is not in its log, by the word of the leader: its disk is that of an earlier time. */
  readonly onForgotten: (what: string) => void;
}

export class Incoming {
  readonly #init: IncomingInit;
  readonly #complaints: Seldom<number>;
  /** Of the term in which this voter leads: how often others have refused what they had acknowledged, since they last took something. */
  readonly #refusals = new Map<number, number>();
  #refusalsTerm = 0;

  constructor(init: IncomingInit) {
    this.#init = init;
    this.#complaints = new Seldom(init.clock);
  }

  /** False for a message that is to be dropped. */
  admits(message: Message, raw: RawNode): boolean {
    const { type, from, term, commit, index, reject } = message;
    const own = raw.status();
    // A follower would hand it on in the reader's name, and the leader drop the stream of whoever speaks in another's name.
    if (type === 'read-index') return own.role === 'leader';
    // What was said in an earlier term may be about entries that were replaced since.
    if (term < own.term) return true;
    const last = raw.lastIndex();
    if (type === 'heartbeat' && commit > last) return this.#takeCommitBeyond(message, own, last);
    if (type !== 'append-response' || term > own.term) return true;
    if (reject) return !this.#isRefusalOfOwn(message, own);
    this.#refusals.delete(from);
    if (index <= last) return true;
    // One of us has lost something, and nothing tells who.
    this.#complain(message, last);
    return false;
  }

  /** A voter that has lost what it had acknowledged to this leader; undefined where there is none. */
  alarm(raw: RawNode): ErrorRecord | undefined {
    const { role, term, progress } = raw.status();
    if (role !== 'leader' || term !== this.#refusalsTerm) return undefined;
    const forgetful = progress.find(([raftId]) => (this.#refusals.get(raftId) ?? 0) >= refusalsMin);
    if (forgetful === undefined) return undefined;
    const [raftId, { match }] = forgetful;
    return {
      code: 'voter-forgot',
      message: `voter ${raftId} does not hold what it had acknowledged up to entry ${match}`,
      hint: 'Its disk was put back to an earlier time, or its release is too old to notice. Replace it: `voters replace`.',
      retryable: false,
    };
  }

  /** A leader tells of commits only up to what the follower itself has acknowledged to it, in this term. */
  #takeCommitBeyond(message: Message, own: RawStatus, last: number): false {
    const { from, term, commit } = message;
    const isLeader = term > own.term || own.leader === nobody || own.leader === from;
    const isVoter = from !== own.raftId && voterIds(own.members.voters).includes(from);
    if (isLeader && isVoter) {
      this.#init.onForgotten(`its leader of term ${term} counts on entry ${commit}, and it ends at index ${last}`);
    } else this.#complain(message, last);
    return false;
  }

  /** Sent again at once, it would be refused again at once: the next heartbeat is soon enough. */
  #isRefusalOfOwn({ from, index, term }: Message, own: RawStatus): boolean {
    const match = own.progress.find(([raftId]) => raftId === from)?.[1].match ?? 0;
    if (match === 0 || index > match) return false;
    if (term !== this.#refusalsTerm) this.#refusals.clear();
    this.#refusalsTerm = term;
    const count = (this.#refusals.get(from) ?? 0) + 1;
    this.#refusals.set(from, count);
    if (count >= refusalsMin && this.#complaints.isDue(from)) {
      this.#init.logger.error({ from, index, match }, 'a voter refuses entries that it had acknowledged');
    }
    return true;
  }

  #complain({ from, type, commit, index }: Message, last: number): void {
    if (!this.#complaints.isDue(from)) return;
    this.#init.logger.error({ from, type, commit, index, last }, 'a voter speaks of entries that this log lacks');
  }
}
