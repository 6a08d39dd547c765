// Owns the streams on which this voter asks others: one to each, opened when there is something to ask, closed when this
// voter has nothing more to ask for. What is lost is asked again later by who wanted it.

import type { Certificate, CertifiedPlace } from '../../protocols/certificate.ts';
import {
  type CertificateAnswer,
  type CertificateQuestion,
  certificateAnswerSchema,
  certificateMessageBytesMax,
  certificatePlacesMax,
  certificateProtocol,
} from '../../protocols/certificate-exchange.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Clock, Mesh, MessageStream } from '../interfaces.ts';

/** Places and certificates that wait for one peer: the oldest leave. */
const queueMax = 512;
/** Both halves of a joint set, and learners. */
const linksMax = 32;
const openTimeoutMs = 2_000;
/** A peer that could not be reached is left alone for so long. */
const retryMs = 500;

type Want = Pick<CertificateQuestion & { kind: 'give' }, 'indexes' | 'after'>;

interface Link {
  readonly peer: string;
  readonly places: Map<number, CertifiedPlace>;
  readonly certificates: Map<number, Certificate>;
  want: Want | undefined;
  stream: MessageStream | undefined;
  running: boolean;
  retryAtMs: number;
}

export interface CertifierLinksInit {
  readonly fleet: () => string;
  readonly mesh: Pick<Mesh, 'open'>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** @throws to have the stream dropped. */
  readonly onAnswer: (peer: string, answer: CertificateAnswer) => Promise<void>;
  /** A peer's answer was no use; it may be asked again later. */
  readonly onBadAnswer: (peer: string, error: unknown) => void;
}

export class CertifierLinks {
  readonly #init: CertifierLinksInit;
  readonly #links = new Map<string, Link>();
  #stopping = new AbortController();

  constructor(init: CertifierLinksInit) {
    this.#init = init;
  }

  sign(peer: string, places: readonly CertifiedPlace[]): void {
    const link = this.#linkTo(peer);
    for (const place of places) bounded(link.places, place);
    this.#start(link);
  }

  take(peer: string, certificate: Certificate): void {
    const link = this.#linkTo(peer);
    bounded(link.certificates, certificate);
    this.#start(link);
  }

  give(peer: string, want: Want): void {
    const link = this.#linkTo(peer);
    link.want = want;
    this.#start(link);
  }

  /** Ends all streams; what comes later opens new ones. */
  close(): void {
    this.#stopping.abort(new ParleyError('stopped', 'nothing more is asked'));
    this.#stopping = new AbortController();
    for (const { stream } of this.#links.values()) stream?.abort(new Error('nothing more is asked'));
    this.#links.clear();
  }

  #linkTo(peer: string): Link {
    const found = this.#links.get(peer);
    if (found) return found;
    const link: Link = {
      ...{ peer, places: new Map(), certificates: new Map(), want: undefined },
      ...{ stream: undefined, running: false, retryAtMs: 0 },
    };
    this.#links.set(peer, link);
    const [oldest] = this.#links.values();
    if (this.#links.size > linksMax && oldest !== undefined) {
      this.#links.delete(oldest.peer);
      oldest.stream?.abort(new Error('nothing more is asked'));
    }
    return link;
  }

  #start(link: Link): void {
    if (this.#init.clock.monotonicMs() < link.retryAtMs) empty(link);
    else if (!link.running) void this.#drain(link, this.#stopping.signal);
  }

  async #drain(link: Link, signal: AbortSignal): Promise<void> {
    link.running = true;
    try {
      for (let next = this.#nextQuestion(link); next && !signal.aborted; next = this.#nextQuestion(link)) {
        link.stream ??= await this.#open(link, signal);
        await link.stream.send(encode(next));
      }
    } catch {
      link.stream?.abort(new Error('the link has failed'));
      this.#failed(link);
    } finally {
      link.running = false;
    }
  }

  #nextQuestion(link: Link): CertificateQuestion | undefined {
    const head = { version: 1, fleet: this.#init.fleet() } as const;
    const places = takeSome(link.places);
    if (places.length > 0) return { ...head, kind: 'sign', places };
    const certificates = takeSome(link.certificates);
    if (certificates.length > 0) return { ...head, kind: 'take', certificates };
    const { want } = link;
    link.want = undefined;
    return want && { ...head, kind: 'give', indexes: [...want.indexes], after: want.after };
  }

  async #open(link: Link, signal: AbortSignal): Promise<MessageStream> {
    const patience = AbortSignal.any([signal, AbortSignal.timeout(openTimeoutMs)]);
    const stream = await this.#init.mesh.open(link.peer, certificateProtocol, { signal: patience });
    void this.#listen(link, stream, signal);
    return stream;
  }

  async #listen(link: Link, stream: MessageStream, signal: AbortSignal): Promise<void> {
    try {
      for (;;) {
        const bytes = await stream.receive({ signal });
        if (bytes === undefined) break;
        const answer = decode(certificateAnswerSchema, bytes, certificateMessageBytesMax, 'answer about certificates');
        await this.#init.onAnswer(link.peer, answer);
      }
    } catch (error) {
      const isGone = error instanceof ParleyError && error.code === 'stream-closed';
      if (!isGone && !signal.aborted) this.#init.onBadAnswer(link.peer, error);
    }
    stream.abort(new Error('the stream has ended'));
    if (link.stream === stream) this.#failed(link);
  }

  #failed(link: Link): void {
    link.stream = undefined;
    link.retryAtMs = this.#init.clock.monotonicMs() + retryMs;
    empty(link);
  }
}

function bounded<Item extends { readonly index: number }>(queue: Map<number, Item>, item: Item): void {
  queue.set(item.index, item);
  const oldest = queue.keys().next();
  if (queue.size > queueMax && !oldest.done) queue.delete(oldest.value);
}

function takeSome<Item>(queue: Map<number, Item>): Item[] {
  const taken = [...queue].slice(0, certificatePlacesMax);
  for (const [index] of taken) queue.delete(index);
  return taken.map(([, item]) => item);
}

function empty(link: Link): void {
  link.places.clear();
  link.certificates.clear();
  link.want = undefined;
}
