// Owns answering others who ask for this voter's signatures and certificates: at once, or as soon as it has applied what
// they ask about. Streams, what waits on them and for how long are bounded, whoever asks.

import type { Certificate, CertifiedPlace } from '../../protocols/certificate.ts';
import {
  type CertificateAnswer,
  type CertificateQuestion,
  type CertificateShare,
  certificateMessageBytesMax,
  certificatePlacesMax,
  certificateQuestionSchema,
} from '../../protocols/certificate-exchange.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Clock, MessageStream } from '../interfaces.ts';

/** Places that wait on one stream: as many as a collector has under way. */
const waitingMax = 256;
/** A place that this voter has not applied by then is asked about anew, if it still matters. */
const waitMs = 10_000;
/** Streams of peers that are no voters: they ask and go. */
const visitorsMax = 32;
const visitMs = 30_000;

export interface CertifierServerInit {
  readonly fleet: () => string;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly isVoter: (peer: string) => boolean;
  /** This voter's share of a place; `later` while it cannot tell, undefined when it will not sign. */
  readonly sign: (peer: string, place: CertifiedPlace) => CertificateShare | 'later' | undefined;
  /** Believes certificates that are good. @throws ParleyError for those that are not. */
  readonly take: (peer: string, certificates: readonly Certificate[]) => Promise<void>;
  readonly give: (indexes: readonly number[], after: number) => Certificate[];
}

interface Asker {
  readonly stream: MessageStream;
  readonly waiting: Map<number, { readonly place: CertifiedPlace; readonly untilMs: number }>;
  answering: boolean;
}

export class CertifierServer {
  readonly #init: CertifierServerInit;
  readonly #askers = new Set<Asker>();
  readonly #stopping = new AbortController();
  #visitors = 0;

  constructor(init: CertifierServerInit) {
    this.#init = init;
  }

  /** More is applied, or known, than before. */
  changed(): void {
    for (const asker of this.#askers) if (asker.waiting.size > 0) void this.#answer(asker);
  }

  stop(): void {
    this.#stopping.abort(new ParleyError('stopped', 'consensus has stopped'));
  }

  /** Serves one stream to its end. */
  async serve(stream: MessageStream): Promise<void> {
    const isVisitor = !this.#init.isVoter(stream.peer);
    if (isVisitor && this.#visitors >= visitorsMax) {
      throw new ParleyError('busy', `${this.#visitors} peers ask about certificates`, { retryable: true });
    }
    const asker: Asker = { stream, waiting: new Map(), answering: false };
    this.#askers.add(asker);
    if (isVisitor) this.#visitors += 1;
    const { signal } = this.#stopping;
    const patience = isVisitor ? AbortSignal.any([signal, AbortSignal.timeout(visitMs)]) : signal;
    try {
      for (;;) {
        const bytes = await stream.receive({ signal: patience });
        if (bytes === undefined) return;
        await this.#hear(asker, bytes);
      }
    } catch (error) {
      if (!patience.aborted) throw error;
      stream.abort(new Error('nothing more is answered'));
    } finally {
      this.#askers.delete(asker);
      if (isVisitor) this.#visitors -= 1;
    }
  }

  async #hear(asker: Asker, bytes: Uint8Array): Promise<void> {
    const question = decode(
      certificateQuestionSchema,
      bytes,
      certificateMessageBytesMax,
      'question about certificates',
    );
    this.#requireFleet(question);
    if (question.kind === 'take') return this.#init.take(asker.stream.peer, question.certificates);
    if (question.kind === 'give') {
      const certificates = this.#init.give(question.indexes, question.after);
      return send(asker.stream, { kind: 'certificates', certificates });
    }
    const untilMs = this.#init.clock.monotonicMs() + waitMs;
    for (const place of question.places) {
      asker.waiting.set(place.index, { place, untilMs });
      const oldest = asker.waiting.keys().next();
      if (asker.waiting.size > waitingMax && !oldest.done) asker.waiting.delete(oldest.value);
    }
    void this.#answer(asker);
  }

  #requireFleet({ fleet }: CertificateQuestion): void {
    const own = this.#init.fleet();
    if (fleet === own) return;
    throw new ParleyError('wrong-fleet', `a question of fleet ${fleet.slice(0, 8)}: this is ${own.slice(0, 8)}`);
  }

  /** One at a time for each stream: what a slow asker does not read stays in its bounded list. */
  async #answer(asker: Asker): Promise<void> {
    if (asker.answering) return;
    asker.answering = true;
    try {
      for (let shares = this.#ready(asker); shares.length > 0; shares = this.#ready(asker)) {
        await send(asker.stream, { kind: 'shares', shares });
      }
    } catch {
      asker.stream.abort(new Error('it does not take its answers'));
    } finally {
      asker.answering = false;
    }
  }

  #ready({ waiting, stream }: Asker): CertificateShare[] {
    const shares: CertificateShare[] = [];
    const now = this.#init.clock.monotonicMs();
    for (const [index, { place, untilMs }] of waiting) {
      if (shares.length >= certificatePlacesMax) break;
      const share = this.#init.sign(stream.peer, place);
      if (share !== 'later' || now > untilMs) waiting.delete(index);
      if (share !== undefined && share !== 'later') shares.push(share);
    }
    return shares;
  }
}

function send(stream: MessageStream, answer: CertificateAnswer): Promise<void> {
  return stream.send(encode(answer));
}
