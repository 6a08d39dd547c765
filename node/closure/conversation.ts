// Owns one question and its answer on an exchange stream: the time limits on every wait, and whether the stream may carry
// another question afterwards.

import {
  type ClosureAnswer,
  type ClosureRequest,
  closureAnswerSchema,
  closureMessageBytesMax,
} from '../../protocols/closure-exchange.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { type ErrorRecord, fromErrorRecord, ParleyError } from '../../protocols/errors.ts';
import type { Clock, MessageStream } from '../interfaces.ts';

const sendTimeoutMs = 5_000;
/** A stream may wait behind other streams of the same peer, but not for ever. */
const silenceMaxMs = 60_000;

export interface Link {
  readonly peer: string;
  /**
   * The next answer to the request.
   * @throws ParleyError `peer-refused` with the peer's own error as its cause, `stalled` after silenceMs without a message
   * on any stream of the peer, `stream-closed`, `malformed`.
   */
  next(silenceMs: number): Promise<ClosureAnswer>;
}

/** What came of it. `answered`: a message came. `ended`: the answer was read to its end, the stream is free again. */
export type Outcome<T> = { readonly answered: boolean; readonly ended: boolean } & (
  | { readonly value: T }
  | { readonly error: unknown }
);

export interface Conversation {
  readonly stream: MessageStream;
  readonly request: ClosureRequest;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** When the peer was last heard on any stream, by the monotonic clock: its streams share one slow uplink. */
  readonly life: { heardMs: number };
}

/** Sends the request and hands the answers to `read`, which must read to the end of the answer. Never throws. */
export async function converse<T>(
  { stream, request, clock, signal, life }: Conversation,
  read: (link: Link) => Promise<T>,
): Promise<Outcome<T>> {
  const watch = createWatchdog(clock, signal, life);
  const state = { answered: false, ended: false };
  const link: Link = {
    peer: stream.peer,
    async next(silenceMs) {
      watch.feed(silenceMs);
      const answer = await nextAnswer(stream, watch.signal);
      watch.pause();
      life.heardMs = clock.monotonicMs();
      state.answered = true;
      state.ended = answer.kind === 'error' || answer.kind === 'trailer' || answer.kind === 'held';
      if (answer.kind === 'error') throw refusal(stream.peer, answer.error);
      return answer;
    },
  };
  try {
    watch.feed(sendTimeoutMs);
    await Promise.race([stream.send(encode(request)), watch.aborted]);
    const value = await read(link);
    return { ...state, value };
  } catch (cause) {
    if (signal.aborted) return { ...state, error: signal.reason };
    if (!watch.signal.aborted) return { ...state, error: cause };
    const message = `${stream.peer} fell silent in the middle of an answer`;
    return { ...state, error: new ParleyError('stalled', message, { retryable: true, cause }) };
  } finally {
    watch.stop();
  }
}

async function nextAnswer(stream: MessageStream, signal: AbortSignal): Promise<ClosureAnswer> {
  const message = await stream.receive({ signal });
  if (message === undefined) {
    throw new ParleyError('stream-closed', `${stream.peer} ended its answer in the middle`, { retryable: true });
  }
  return decode(closureAnswerSchema, message, closureMessageBytesMax, `closure answer of ${stream.peer}`);
}

/** A peer's own troubles must not pass for ours: its full disk is not our full disk. */
function refusal(peer: string, record: ErrorRecord): ParleyError {
  return new ParleyError('peer-refused', `${peer} answers '${record.code}': ${record.message}`, {
    retryable: record.retryable,
    cause: fromErrorRecord(record),
  });
}

export interface Watchdog {
  readonly signal: AbortSignal;
  /** Rejects when the signal aborts. */
  readonly aborted: Promise<never>;
  feed(timeoutMs: number): void;
  pause(): void;
  stop(): void;
}

/** A signal that follows another one and also aborts when it is not fed in time, unless the peer showed life meanwhile. */
export function createWatchdog(clock: Clock, outer: AbortSignal, life?: { readonly heardMs: number }): Watchdog {
  const controller = new AbortController();
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  controller.signal.addEventListener('abort', () => reject(controller.signal.reason), { once: true });
  const follow = (): void => controller.abort(outer.reason);
  let cancel = (): void => {};
  if (outer.aborted) follow();
  else outer.addEventListener('abort', follow, { once: true });

  function watch(sinceMs: number, timeoutMs: number): void {
    const nowMs = clock.monotonicMs();
    const quietMs = nowMs - Math.max(sinceMs, life?.heardMs ?? 0);
    if (quietMs >= timeoutMs || nowMs - sinceMs >= silenceMaxMs)
      controller.abort(new Error(`silent for ${quietMs} ms`));
    else cancel = clock.after(timeoutMs - quietMs, () => watch(sinceMs, timeoutMs));
  }

  return {
    signal: controller.signal,
    aborted: promise,
    feed(timeoutMs) {
      cancel();
      watch(clock.monotonicMs(), timeoutMs);
    },
    pause: () => cancel(),
    stop() {
      cancel();
      outer.removeEventListener('abort', follow);
    },
  };
}
