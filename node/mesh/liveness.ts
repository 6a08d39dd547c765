// Owns the beat on each connection that tells a dead or frozen peer from a quiet one, measures the round-trip time and
// carries changed addresses. A dead process is noticed at once by its socket; this finds the silent ones.

import { decode, encode } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import {
  livenessAnswerSchema,
  livenessAskSchema,
  livenessBytesMax,
  livenessPauseMsMax,
  livenessProtocol,
} from '../../protocols/liveness.ts';
import type { Clock, MessageStream } from '../interfaces.ts';
import type { Connection } from './host.ts';

/** Pause between two questions on one connection; it grows with the connections that either side has, to bound the work of a large mesh. */
const intervalMsMin = 5_000;
const intervalMsPerConnection = 50;
/** An answer that takes longer means that the peer hangs. */
const answerTimeoutMs = 5_000;
const graceMs = 1_000;
/** The first question comes as soon as the connection is up. */
const firstQuestionTimeoutMs = 20_000;

export interface LivenessComponents {
  readonly self: string;
  readonly clock: Clock;
  /** Our own multiaddrs as they are now. */
  readonly addresses: () => string[];
  readonly connectionCount: () => number;
  readonly open: (connection: Connection, protocol: string, signal: AbortSignal) => Promise<MessageStream>;
  /** The other side is dead, or talks nonsense. */
  readonly drop: (connection: Connection, reason: Error) => void;
  /** The other side runs no mesh; it may be about to join. */
  readonly onNoMesh: (connection: Connection) => void;
  /** The other side says where it can be dialled. */
  readonly onAddresses: (peer: string, addresses: string[]) => void;
}

export interface Liveness {
  /** Watches over a connection until the signal ends it. `onRtt` takes each round-trip time in milliseconds. */
  watch(connection: Connection, onRtt: (rttMs: number) => void, signal: AbortSignal): void;
  /** Asks now instead of at the regular time. Only the asking side can. */
  probe(connection: Connection): void;
  /** The handler of livenessProtocol. */
  serve(stream: MessageStream, connection: Connection): Promise<void>;
}

interface Watched {
  readonly onRtt: (rttMs: number) => void;
  readonly signal: AbortSignal;
  /** Takes back the demand for a first question. */
  readonly cancel: () => void;
}

export function createLiveness(components: LivenessComponents): Liveness {
  const { self, clock, open, drop, onNoMesh, onAddresses } = components;
  const answering = new Map<Connection, Watched>();
  const pauses = new Map<Connection, () => void>();

  function eventsOf(peer: string, onRtt: (rttMs: number) => void): LivenessEvents {
    return { onRtt, onAddresses: (addresses) => onAddresses(peer, addresses) };
  }

  async function openWithin(connection: Connection, signal: AbortSignal): Promise<MessageStream> {
    const silence = new AbortController();
    const giveUp = () => silence.abort(new ParleyError('peer-silent', `no stream within ${answerTimeoutMs} ms`));
    const cancel = clock.after(answerTimeoutMs + graceMs, giveUp);
    try {
      return await open(connection, livenessProtocol, AbortSignal.any([silence.signal, signal]));
    } finally {
      cancel();
    }
  }

  async function ask(connection: Connection, onRtt: (rttMs: number) => void, signal: AbortSignal): Promise<void> {
    try {
      const stream = await openWithin(connection, signal);
      const pause = (delayMs: number) => pauseUntil(clock, delayMs, signal, (wake) => pauses.set(connection, wake));
      await askWhileAlive(stream, { ...components, pause }, eventsOf(stream.peer, onRtt), signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Error && error.name === 'UnsupportedProtocolError') onNoMesh(connection);
      else drop(connection, error as Error);
    } finally {
      pauses.delete(connection);
    }
  }

  return {
    watch(connection, onRtt, signal) {
      if (self < connection.remotePeer.toString()) {
        void ask(connection, onRtt, signal);
        return;
      }
      const late = () => drop(connection, new Error(`no sign of life within ${firstQuestionTimeoutMs} ms`));
      answering.set(connection, { onRtt, signal, cancel: clock.after(firstQuestionTimeoutMs, late) });
      signal.addEventListener(
        'abort',
        () => {
          answering.get(connection)?.cancel();
          answering.delete(connection);
        },
        { once: true },
      );
    },
    probe: (connection) => pauses.get(connection)?.(),
    async serve(stream, connection) {
      const watched = answering.get(connection);
      if (watched === undefined)
        throw new ParleyError('malformed', `'${stream.peer}' asks although it has the larger id`);
      watched.cancel();
      try {
        await answerWhileAlive(stream, components, eventsOf(stream.peer, watched.onRtt), watched.signal);
      } catch (error) {
        if (!watched.signal.aborted) drop(connection, error as Error);
        throw error;
      }
    },
  };
}

interface LivenessEvents {
  readonly onRtt: (rttMs: number) => void;
  readonly onAddresses: (addresses: string[]) => void;
}

type Conversation = Pick<LivenessComponents, 'clock' | 'addresses' | 'connectionCount'>;
type Asking = Conversation & { readonly pause: (delayMs: number) => Promise<void> };

/** Asks until the signal ends it. Rejects when the peer does not answer in time, or answers nonsense. */
async function askWhileAlive(
  stream: MessageStream,
  { clock, addresses, connectionCount, pause }: Asking,
  events: LivenessEvents,
  signal: AbortSignal,
): Promise<void> {
  const announcement = announcer(addresses);
  let rttMs: number | undefined;
  let theirPauseMs = 0;
  for (let sequence = 1; !signal.aborted; sequence++) {
    const ourPauseMs = pauseMsFor(connectionCount());
    const pauseMs = Math.max(ourPauseMs, theirPauseMs);
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
    theirPauseMs = answer.pauseMs ?? 0;
    await pause(Math.max(ourPauseMs, theirPauseMs));
  }
}

/** Answers until the signal ends it. Rejects when the peer falls silent, or asks nonsense. */
async function answerWhileAlive(
  stream: MessageStream,
  { clock, addresses, connectionCount }: Conversation,
  events: LivenessEvents,
  signal: AbortSignal,
): Promise<void> {
  const announcement = announcer(addresses);
  let waitMs = answerTimeoutMs;
  while (!signal.aborted) {
    const bytes = await receiveWithin(stream, clock, waitMs, signal);
    const ask = decode(livenessAskSchema, bytes, livenessBytesMax, 'liveness question');
    const pauseMs = pauseMsFor(connectionCount());
    waitMs = Math.max(ask.nextWithinMs, pauseMs + answerTimeoutMs) + answerTimeoutMs;
    if (ask.rttMs !== undefined) events.onRtt(ask.rttMs);
    if (ask.addresses !== undefined) events.onAddresses(ask.addresses);
    await stream.send(encode({ sequence: ask.sequence, pauseMs, addresses: announcement() }));
  }
}

function pauseMsFor(connections: number): number {
  return Math.min(livenessPauseMsMax, Math.max(intervalMsMin, intervalMsPerConnection * connections));
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
 * The time-out is followed by a moment of grace: if it was this process that stood still, the message lies unread in the
 * socket and is read before the grace is over.
 */
async function receiveWithin(
  stream: MessageStream,
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const silence = new AbortController();
  const giveUp = () => silence.abort(new ParleyError('peer-silent', `'${stream.peer}' was silent for ${timeoutMs} ms`));
  let cancel = clock.after(timeoutMs, () => {
    cancel = clock.after(graceMs, giveUp);
  });
  const onAbort = () => silence.abort(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    const message = await stream.receive({ signal: silence.signal });
    if (message === undefined) throw new ParleyError('stream-closed', `'${stream.peer}' ended the liveness stream`);
    return message;
  } finally {
    signal.removeEventListener('abort', onAbort);
    cancel();
  }
}

/** Resolves after the delay, when the signal aborts, or when the function that is handed out is called. */
async function pauseUntil(
  clock: Clock,
  delayMs: number,
  signal: AbortSignal,
  onWake: (wake: () => void) => void,
): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = clock.after(delayMs, resolve);
  const onAbort = () => resolve();
  signal.addEventListener('abort', onAbort, { once: true });
  onWake(onAbort);
  await promise;
  signal.removeEventListener('abort', onAbort);
  cancel();
}
