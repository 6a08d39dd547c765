// Owns our ends of exchange streams to other peers: at most four requests at a time to each, streams kept for a moment
// between requests because opening one costs round trips, and whatever was left in the middle of an answer dropped.

import {
  type ClosureAnswer,
  type ClosureRequest,
  closureAnswerSchema,
  closureMessageBytesMax,
  closureProtocol,
} from '../../protocols/closure-exchange.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { type ErrorRecord, fromErrorRecord, ParleyError } from '../../protocols/errors.ts';
import { membersMax } from '../../protocols/limits.ts';
import type { Clock, Mesh, MessageStream } from '../interfaces.ts';
import { createSlots, type Slots } from './slots.ts';

/** Units in flight from one peer: enough to hide a round trip, few enough that a death wastes little. */
const requestsPerPeerMax = 4;
const openTimeoutMs = 5_000;
const idleTimeoutMs = 10_000;

/** `bulk` carries units; `question` has its own stream so that answers do not wait behind bulk. */
export type Lane = 'bulk' | 'question';

export interface Link {
  readonly peer: string;
  /**
   * The next answer to the request.
   * @throws ParleyError `peer-refused` with the peer's own error as its cause, `stalled` after silenceMs without a message, `stream-closed`.
   */
  next(silenceMs: number): Promise<ClosureAnswer>;
}

export interface PeerLinks {
  /** Sends a request when a slot is free and hands the answers to `read`, which must read to the end of the answer. */
  ask<T>(request: AskRequest, read: (link: Link) => Promise<T>): Promise<T>;
  stop(): void;
}

export interface AskRequest {
  readonly peer: string;
  readonly lane: Lane;
  /** Made when a slot is free, so that an offset is the newest one. */
  readonly request: () => ClosureRequest;
  readonly signal: AbortSignal;
}

interface OpenStream {
  readonly stream: MessageStream;
  cancelIdle: () => void;
}

interface Lanes {
  readonly slots: Record<Lane, Slots>;
  readonly idle: Record<Lane, OpenStream[]>;
}

export function createPeerLinks({ mesh, clock }: { mesh: Pick<Mesh, 'open'>; clock: Clock }): PeerLinks {
  const peers = new Map<string, Lanes>();

  function lanesOf(peer: string): Lanes {
    const known = peers.get(peer);
    if (known !== undefined) return known;
    const slots = (slotsMax: number): Slots =>
      createSlots({ what: `a request to ${peer}`, slotsMax, waitersMax: 1_024 });
    const lanes = { slots: { bulk: slots(requestsPerPeerMax), question: slots(1) }, idle: { bulk: [], question: [] } };
    if (peers.size >= membersMax) peers.clear();
    peers.set(peer, lanes);
    return lanes;
  }

  function keep(lanes: Lanes, lane: Lane, stream: MessageStream): void {
    const open: OpenStream = { stream, cancelIdle: () => {} };
    open.cancelIdle = clock.after(idleTimeoutMs, () => {
      lanes.idle[lane] = lanes.idle[lane].filter((other) => other !== open);
      stream.close().catch(() => stream.abort(new Error('idle')));
    });
    lanes.idle[lane].push(open);
  }

  async function openStream(peer: string, signal: AbortSignal): Promise<MessageStream> {
    const watch = createWatchdog(clock, signal);
    try {
      watch.feed(openTimeoutMs);
      return await mesh.open(peer, closureProtocol, { signal: watch.signal });
    } catch (cause) {
      signal.throwIfAborted();
      if (!watch.signal.aborted) throw cause;
      throw new ParleyError('peer-unreachable', `no stream to ${peer}: none within ${openTimeoutMs} ms`, {
        retryable: true,
        cause,
      });
    } finally {
      watch.stop();
    }
  }

  async function converse<T>(
    stream: MessageStream,
    ask: AskRequest,
    read: (link: Link) => Promise<T>,
  ): Promise<Outcome<T>> {
    const watch = createWatchdog(clock, ask.signal);
    const state = { answered: false, ended: false };
    const link: Link = {
      peer: ask.peer,
      async next(silenceMs) {
        watch.feed(silenceMs);
        const answer = await nextAnswer(stream, watch.signal);
        watch.pause();
        state.answered = true;
        state.ended = answer.kind === 'error' || answer.kind === 'trailer' || answer.kind === 'held';
        if (answer.kind === 'error') throw refusal(ask.peer, answer.error);
        return answer;
      },
    };
    try {
      watch.feed(openTimeoutMs);
      await Promise.race([stream.send(encode(ask.request())), watch.aborted]);
      const value = await read(link);
      return { ...state, value };
    } catch (cause) {
      return { ...state, error: explain(cause, ask, watch) };
    } finally {
      watch.stop();
    }
  }

  return {
    async ask(ask, read) {
      const lanes = lanesOf(ask.peer);
      const giveBack = await lanes.slots[ask.lane].take(ask.signal);
      try {
        for (;;) {
          const reused = lanes.idle[ask.lane].pop();
          reused?.cancelIdle();
          const stream = reused?.stream ?? (await openStream(ask.peer, ask.signal));
          const outcome = await converse(stream, ask, read);
          if (outcome.ended) keep(lanes, ask.lane, stream);
          else stream.abort(new Error('request dropped'));
          if (!('error' in outcome)) return outcome.value;
          const stale = reused !== undefined && !outcome.answered && isClosed(outcome.error);
          if (!stale) throw outcome.error;
        }
      } finally {
        giveBack();
      }
    },

    stop() {
      for (const { idle } of peers.values()) {
        for (const { stream, cancelIdle } of [...idle.bulk, ...idle.question]) {
          cancelIdle();
          stream.abort(new Error('stopping'));
        }
      }
      peers.clear();
    },
  };
}

type Outcome<T> = { answered: boolean; ended: boolean } & ({ value: T } | { error: unknown });

async function nextAnswer(stream: MessageStream, signal: AbortSignal): Promise<ClosureAnswer> {
  const message = await stream.receive({ signal });
  if (message === undefined) {
    throw new ParleyError('stream-closed', `${stream.peer} ended its answer in the middle`, { retryable: true });
  }
  return decode(closureAnswerSchema, message, closureMessageBytesMax, `closure answer of ${stream.peer}`);
}

/** A peer's own troubles must not pass for ours: its full disk is not our full disk. */
function refusal(peer: string, record: ErrorRecord): ParleyError {
  const cause = fromErrorRecord(record);
  return new ParleyError('peer-refused', `${peer} answers '${record.code}': ${record.message}`, {
    retryable: record.retryable,
    cause,
  });
}

function isClosed(error: unknown): boolean {
  return error instanceof ParleyError && error.code === 'stream-closed';
}

function explain(cause: unknown, ask: AskRequest, watch: Watchdog): unknown {
  if (ask.signal.aborted) return ask.signal.reason;
  if (!watch.signal.aborted) return cause;
  return new ParleyError('stalled', `${ask.peer} fell silent in the middle of an answer`, { retryable: true, cause });
}

interface Watchdog {
  readonly signal: AbortSignal;
  /** Rejects when the signal aborts. */
  readonly aborted: Promise<never>;
  feed(timeoutMs: number): void;
  pause(): void;
  stop(): void;
}

/** A signal that follows another one and also aborts when it is not fed in time. */
function createWatchdog(clock: Clock, outer: AbortSignal): Watchdog {
  const controller = new AbortController();
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  controller.signal.addEventListener('abort', () => reject(controller.signal.reason), { once: true });
  const follow = (): void => controller.abort(outer.reason);
  let cancel = (): void => {};
  if (outer.aborted) follow();
  else outer.addEventListener('abort', follow, { once: true });
  return {
    signal: controller.signal,
    aborted: promise,
    feed(timeoutMs) {
      cancel();
      cancel = clock.after(timeoutMs, () => controller.abort(new Error('silent')));
    },
    pause: () => cancel(),
    stop() {
      cancel();
      outer.removeEventListener('abort', follow);
    },
  };
}
