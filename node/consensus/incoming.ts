// Owns which messages of other voters reach the core: those that the core of a sound voter could not act on stay outside.

import type { Clock, Logger } from '../interfaces.ts';
import type { Message, RawNode } from './core/index.ts';
import { Seldom } from './seldom.ts';

export class Incoming {
  readonly #logger: Logger;
  readonly #complaints: Seldom<number>;

  constructor({ logger, clock }: { readonly logger: Logger; readonly clock: Pick<Clock, 'monotonicMs'> }) {
    this.#logger = logger;
    this.#complaints = new Seldom(clock);
  }

  /** False for a message that is to be dropped. */
  admits({ type, from, term, commit, index, reject }: Message, raw: RawNode): boolean {
    const own = raw.status();
    // A follower would hand it on in the reader's name, and the leader drop the stream of whoever speaks in another's name.
    if (type === 'read-index') return own.role === 'leader';
    const last = raw.lastIndex();
    const isBeyond = (type === 'heartbeat' && commit > last) || (type === 'append-response' && !reject && index > last);
    // What was said in an earlier term may be about entries that were replaced since.
    if (!isBeyond || term < own.term) return true;
    // One of us has lost something that was acknowledged. Neither can act on it.
    if (this.#complaints.isDue(from)) {
      this.#logger.error({ from, type, commit, index, last }, 'a voter speaks of entries that this log lacks');
    }
    return false;
  }
}
