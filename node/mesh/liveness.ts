// Owns the beat on each connection that tells a dead or frozen peer from a quiet one, measures the round-trip time and
// carries changed addresses. A dead process is noticed at once by its socket; this finds the silent ones.

import { decode, encode } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { livenessAnswerSchema, livenessAskSchema, livenessBytesMax } from '../../protocols/liveness.ts';
import type { Clock, MessageStream } from '../interfaces.ts';

/** Pause between two questions on one connection; it grows with the number of connections to bound the work of a large mesh. */
export const intervalMsMin = 5_000;
const intervalMsPerConnection = 50;
/** An answer that takes longer means that the peer hangs. */
export const answerTimeoutMs = 5_000;

export interface LivenessComponents {
  readonly clock: Clock;
  /** Our own multiaddrs as they are now. */
  readonly addresses: () => string[];
  readonly connectionCount: () => number;
}

export interface LivenessEvents {
  readonly onRtt: (rttMs: number) => void;
  readonly onAddresses: (addresses: string[]) => void;
}

/** Asks until the signal ends it. Rejects when the peer does not answer in time, or answers nonsense. */
export async function askWhileAlive(
  stream: MessageStream,
  { clock, addresses, connectionCount }: LivenessComponents,
  events: LivenessEvents,
  signal: AbortSignal,
): Promise<void> {
  const announcement = announcer(addresses);
  let rttMs: number | undefined;
  for (let sequence = 1; !signal.aborted; sequence++) {
    const pauseMs = Math.max(intervalMsMin, intervalMsPerConnection * connectionCount());
    const askedAtMs = clock.monotonicMs();
    const ask = { sequence, nextWithinMs: pauseMs + answerTimeoutMs, rttMs, addresses: announcement() };
    await stream.send(encode(ask));
    const bytes = await receiveWithin(stream, clock, answerTimeoutMs, signal);
    const answer = decode(livenessAnswerSchema, bytes, livenessBytesMax, 'liveness answer');
    if (answer.sequence !== sequence)
      throw new ParleyError('malformed', `liveness answer ${answer.sequence} to ${sequence}`);
    rttMs = clock.monotonicMs() - askedAtMs;
    events.onRtt(rttMs);
    if (answer.addresses !== undefined) events.onAddresses(answer.addresses);
    await pause(clock, pauseMs, signal);
  }
}

/** Answers until the signal ends it. Rejects when the peer falls silent, or asks nonsense. */
export async function answerWhileAlive(
  stream: MessageStream,
  { clock, addresses }: LivenessComponents,
  events: LivenessEvents,
  signal: AbortSignal,
): Promise<void> {
  const announcement = announcer(addresses);
  let waitMs = answerTimeoutMs;
  while (!signal.aborted) {
    const bytes = await receiveWithin(stream, clock, waitMs, signal);
    const ask = decode(livenessAskSchema, bytes, livenessBytesMax, 'liveness question');
    waitMs = ask.nextWithinMs + answerTimeoutMs;
    if (ask.rttMs !== undefined) events.onRtt(ask.rttMs);
    if (ask.addresses !== undefined) events.onAddresses(ask.addresses);
    await stream.send(encode({ sequence: ask.sequence, addresses: announcement() }));
  }
}

/** Yields our addresses when they differ from those that it yielded last. */
function announcer(addresses: () => string[]): () => string[] | undefined {
  let announced = '';
  return () => {
    const current = addresses();
    if (current.join() === announced) return undefined;
    announced = current.join();
    return current;
  };
}

/**
 * A time-out counts only if this process was awake for it: a timer that fires late means that we were stopped or starved
 * ourselves, and the message may lie unread already.
 */
async function receiveWithin(
  stream: MessageStream,
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const silence = new AbortController();
  const arm = (): (() => void) => {
    const dueAtMs = clock.monotonicMs() + timeoutMs;
    return clock.after(timeoutMs, () => {
      if (clock.monotonicMs() - dueAtMs > timeoutMs / 2) cancel = arm();
      else silence.abort(new ParleyError('peer-silent', `'${stream.peer}' was silent for ${timeoutMs} ms`));
    });
  };
  let cancel = arm();
  try {
    const message = await stream.receive({ signal: AbortSignal.any([silence.signal, signal]) });
    if (message === undefined) throw new ParleyError('stream-closed', `'${stream.peer}' ended the liveness stream`);
    return message;
  } finally {
    cancel();
  }
}

async function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = clock.after(delayMs, resolve);
  signal.addEventListener('abort', () => resolve(), { once: true });
  await promise;
  cancel();
}
