// Owns the streams that carry raft messages: one for each direction between two voters, opened when there is something to
// say. Raft repairs what is lost, so nothing waits long: full queues drop their oldest, failed links drop everything.

import { decode, encode } from '../../protocols/codec.ts';
import {
  consensusFrameSchema,
  consensusProtocol,
  frameMessagesMax,
  type RaftMessage,
} from '../../protocols/consensus-message.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import type { Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';
import { entriesBytes, type Message, makeMessage } from './core/index.ts';

/** Messages waiting for one peer: some windows of appends and the heartbeats of a slow dial. */
const queueMessagesMax = 256;
/** Bytes of entries waiting for one peer. */
const queueBytesMax = 8 * 1024 * 1024;
/** Bytes of entries in one frame, below messageBytesMax with room for the envelopes and one message that exceeds it. */
const frameBytesMax = 512 * 1024;
/** A dial that takes longer is given up; elections take half of it. */
const openTimeoutMs = 2_000;
/** Terms that a message may be ahead of ours: one a second for days. Far beyond, no later term would fit the wire any more. */
const termAheadMax = 1_000_000;
/** Pauses between failed dials: short, since a voter that is back should be heard of soon. */
const retryDelaysMs = [100, 200, 500, 1_000];

export interface MemberDirectory {
  peerOf(raftId: number): string | undefined;
  raftIdOf(peer: string): number | undefined;
  /** Who votes, as far as the state machine knows. */
  voters(): readonly number[];
}

/** Who this voter is to those that speak to it. */
export interface Addressed {
  readonly raftId: number;
  /** The term that it is in. */
  readonly term: () => number;
}

export interface LinksInit extends Addressed {
  /** A message from another voter whose sender is what it says. */
  readonly onMessage: (message: Message) => void;
  /** What was queued for this voter is lost. */
  readonly onUnreachable: (raftId: number) => void;
}

export interface LinksComponents {
  readonly mesh: Pick<Mesh, 'open' | 'onPeerChange'>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly logger: Logger;
  readonly members: MemberDirectory;
}

interface Link {
  readonly raftId: number;
  readonly queue: Message[];
  queueBytes: number;
  stream: MessageStream | undefined;
  failures: number;
  retryAtMs: number;
  running: boolean;
  /** Closes once its queue is empty. */
  isLeaving: boolean;
}

export class MessageLinks {
  readonly #init: LinksInit;
  readonly #components: LinksComponents;
  readonly #links = new Map<number, Link>();
  readonly #stopping = new AbortController();
  #unsubscribe: (() => void) | undefined;

  constructor(init: LinksInit, components: LinksComponents) {
    this.#init = init;
    this.#components = components;
  }

  start(): void {
    const { mesh, members } = this.#components;
    this.#unsubscribe = mesh.onPeerChange((peer, connected) => {
      for (const link of this.#links.values()) {
        if (members.peerOf(link.raftId) !== peer) continue;
        if (connected) link.retryAtMs = 0;
        else if (!link.running) link.stream = undefined;
      }
    });
  }

  stop(): void {
    this.#unsubscribe?.();
    this.#stopping.abort(new ParleyError('stopped', 'consensus has stopped'));
    for (const link of this.#links.values()) link.stream?.abort(new Error('consensus has stopped'));
  }

  /** Lets go of the links to all others, after what is queued for them. */
  retain(raftIds: ReadonlySet<number>): void {
    for (const link of this.#links.values()) {
      if (raftIds.has(link.raftId)) continue;
      this.#links.delete(link.raftId);
      link.isLeaving = true;
      if (!link.running) closeStream(link);
    }
  }

  /** Queues a message for the voter that it names. */
  send(message: Message): void {
    const link = this.#linkTo(message.to);
    if (this.#stopping.signal.aborted || this.#components.clock.monotonicMs() < link.retryAtMs) return;
    enqueue(link, message);
    if (!link.running) void this.#drain(link);
  }

  #linkTo(raftId: number): Link {
    const found = this.#links.get(raftId);
    if (found) return found;
    const link: Link = {
      raftId,
      queue: [],
      queueBytes: 0,
      stream: undefined,
      failures: 0,
      retryAtMs: 0,
      running: false,
      isLeaving: false,
    };
    this.#links.set(raftId, link);
    return link;
  }

  async #drain(link: Link): Promise<void> {
    link.running = true;
    try {
      while (link.queue.length > 0 && !this.#stopping.signal.aborted) {
        link.stream ??= await this.#open(link.raftId);
        await link.stream.send(encode({ version: 1, messages: takeFrame(link).map(toWire) }));
        link.failures = 0;
      }
    } catch (error) {
      this.#fail(link, error);
    } finally {
      link.running = false;
      if (link.isLeaving) closeStream(link);
    }
  }

  #open(raftId: number): Promise<MessageStream> {
    const peer = this.#components.members.peerOf(raftId);
    if (peer === undefined) throw new ParleyError('unknown-voter', `no member has the raft id ${raftId}`);
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(openTimeoutMs)]);
    return this.#components.mesh.open(peer, consensusProtocol, { signal });
  }

  #fail(link: Link, error: unknown): void {
    link.stream?.abort(new Error('the link has failed'));
    link.stream = undefined;
    link.queue.length = 0;
    link.queueBytes = 0;
    if (this.#stopping.signal.aborted) return;
    const delayMs = retryDelaysMs[Math.min(link.failures, retryDelaysMs.length - 1)] ?? 0;
    link.failures += 1;
    link.retryAtMs = this.#components.clock.monotonicMs() + delayMs;
    const { raftId, failures } = link;
    this.#components.logger.debug({ raftId, failures, err: error }, 'voter is unreachable');
    this.#init.onUnreachable(raftId);
  }

  /** Serves one stream of another voter to its end. */
  async receive(stream: MessageStream): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      const bytes = await stream.receive({ signal });
      if (bytes === undefined) return;
      const frame = decode(consensusFrameSchema, bytes, messageBytesMax, 'consensus frame');
      for (const message of frame.messages) checkClaim(message, stream.peer, this.#init, this.#components.members);
      for (const message of frame.messages) this.#init.onMessage(makeMessage(message.type, message.to, message));
    }
  }
}

/**
 * Refuses what a peer says in another voter's name, or with a term that voters cannot come to by themselves.
 * @throws ParleyError `wrong-sender`, `term-too-far`.
 */
export function checkClaim(
  { from, to, term }: Pick<RaftMessage, 'from' | 'to' | 'term'>,
  peer: string,
  own: Addressed,
  members: MemberDirectory,
): void {
  const sender = members.raftIdOf(peer);
  if (sender === undefined || from !== sender || to !== own.raftId) {
    throw new ParleyError('wrong-sender', `peer '${peer}' (raft id ${sender}) sent a message from ${from} to ${to}`);
  }
  if (term <= own.term() + termAheadMax) return;
  throw new ParleyError(
    'term-too-far',
    `peer '${peer}' (raft id ${sender}) speaks of term ${term}, we of ${own.term()}`,
    {
      hint: 'Look at that peer: it is damaged or lies.',
    },
  );
}

function closeStream({ stream }: Link): void {
  stream?.close().catch(() => stream.abort(new Error('the link is not needed any more')));
}

function enqueue(link: Link, message: Message): void {
  link.queue.push(message);
  link.queueBytes += entriesBytes(message.entries);
  while (link.queue.length > queueMessagesMax || (link.queueBytes > queueBytesMax && link.queue.length > 1)) {
    link.queueBytes -= entriesBytes(link.queue.shift()?.entries ?? []);
  }
}

function takeFrame(link: Link): Message[] {
  const taken: Message[] = [];
  let bytes = 0;
  while (taken.length < frameMessagesMax) {
    const next = link.queue[0];
    if (next === undefined) break;
    const size = entriesBytes(next.entries);
    if (taken.length > 0 && bytes + size > frameBytesMax) break;
    link.queue.shift();
    taken.push(next);
    bytes += size;
  }
  link.queueBytes -= bytes;
  return taken;
}

/** Only what is set travels: a heartbeat is some 40 bytes. */
function toWire(message: Message): Partial<RaftMessage> {
  const { type, from, to, term, index, logTerm, commit, reject, rejectHint, context, entries } = message;
  const fields = { type, from, to, term, index, logTerm, commit, reject, rejectHint, context, entries };
  const set = Object.entries(fields).filter(
    ([, value]) => value !== 0 && value !== '' && value !== false && !(Array.isArray(value) && value.length === 0),
  );
  return Object.fromEntries(set);
}
