// Owns what the certifier says in the log about others, and how often: each refusal once, each sender of what is no good
// once a minute, so that nobody can fill the log.

import type { ErrorRecord } from '../../protocols/errors.ts';
import type { Clock, Logger } from '../interfaces.ts';
import { Seldom } from './seldom.ts';

/** Places that are remembered. */
const placesMax = 256;

export class Complaints {
  readonly #logger: Logger;
  readonly #places = new Set<number>();
  readonly #senders: Seldom<string>;
  #count = 0;
  #alarm: ErrorRecord | undefined;

  constructor({ logger, clock }: { readonly logger: Logger; readonly clock: Pick<Clock, 'monotonicMs'> }) {
    this.#logger = logger;
    this.#senders = new Seldom(clock);
  }

  /** Shares and certificates that were dropped. */
  get count(): number {
    return this.#count;
  }

  /** The last refusal that people must look into. */
  get alarm(): ErrorRecord | undefined {
    return this.#alarm;
  }

  /** This voter does not sign for an entry. */
  refused(index: number, { reason, isAlarm }: { readonly reason: string; readonly isAlarm: boolean }): void {
    if (this.#places.has(index)) return;
    this.#places.add(index);
    const [oldest] = this.#places;
    if (this.#places.size > placesMax && oldest !== undefined) this.#places.delete(oldest);
    if (!isAlarm) {
      this.#logger.info({ index, reason }, 'this voter does not certify an entry');
      return;
    }
    this.#logger.error({ index, reason }, 'this voter does not certify an entry: its ledger differs');
    this.#alarm = {
      code: 'ledgers-differ',
      message: `this voter does not certify entry ${index}: ${reason}`,
      hint: 'Compare the voters: the one that is alone with its state has a fault. Replace it with `voters replace`.',
      retryable: false,
    };
  }

  /** A peer sent what is no good. */
  dropped(peer: string, error: unknown): void {
    this.#count += 1;
    if (!this.#senders.isDue(peer)) return;
    this.#logger.warn(
      { sender: peer, error: String(error), dropped: this.#count },
      'dropped what a peer sent about certificates',
    );
  }
}
