// Owns message streams: whole messages with credit over one libp2p stream. The credit bounds what lies unread between the
// two ends, so neither libp2p's pausing (it resets streams under load) nor its drain events are needed. The end of a
// direction is a frame of its own: a connection that libp2p closes "in order" half-way is never taken for a complete answer.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { ParleyError } from '../../protocols/errors.ts';
import type { MessageStream } from '../interfaces.ts';
import {
  createFrameReader,
  encodeFrames,
  type Frame,
  grantThresholdBytes,
  messageCost,
  windowBytes,
} from './framing-core.ts';
import type { Stream } from './host.ts';

/** Messages that callers may have handed over without credit for them; more is a caller that does not await. */
const waitingSendsMax = 1024;
/** What is sent in one turn leaves as one piece, or as soon as it has this size: one encryption run and one system call. */
const pieceBytes = 128 * 1024;

export interface MessageStreamInit {
  readonly peer: string;
  readonly messageBytesMax: number;
  /** Called with payload bytes as they come and go. */
  readonly count: (bytesIn: number, bytesOut: number) => void;
  /** Called when the other side broke the rules of framing or credit. */
  readonly onViolation: (reason: string) => void;
}

/** What the room itself needs beside the public interface. */
export interface ManagedStream extends MessageStream {
  /** Ends our direction and drops what still comes. Resolves when the stream is over. */
  finish(): Promise<void>;
  /** Resolves when the stream is over, in order or not. */
  readonly ended: Promise<void>;
}

/** Wraps a negotiated libp2p stream. Both ends start with a full window of credit. */
export function createMessageStream(stream: Stream, init: MessageStreamInit): ManagedStream {
  return new FramedStream(stream, init);
}

interface WaitingSend {
  readonly message: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface WaitingReceive {
  readonly resolve: (message: Uint8Array | undefined) => void;
  readonly reject: (error: unknown) => void;
}

class FramedStream implements ManagedStream {
  readonly peer: string;
  readonly #stream: Stream;
  readonly #init: MessageStreamInit;
  readonly #inbox: Uint8Array[] = [];
  readonly #receives: WaitingReceive[] = [];
  /** Messages that wait for credit, and frames that have it and leave with the next flush. */
  readonly #sends: WaitingSend[] = [];
  #outgoing: Frame[] = [];
  #outgoingBytes = 0;
  readonly #over = Promise.withResolvers<void>();
  readonly #ourEnd = Promise.withResolvers<void>();
  /** Cost of what lies in the inbox, and of what was consumed but not granted anew. */
  #unreadCost = 0;
  #consumedCost = 0;
  #credit = windowBytes;
  #flushScheduled = false;
  #closing = false;
  #ourEndSent = false;
  #theirEndSeen = false;
  #discarding = false;
  /** Set once the stream is over: what later calls are told. */
  #closedError: ParleyError | undefined;

  constructor(stream: Stream, init: MessageStreamInit) {
    this.peer = init.peer;
    this.#stream = stream;
    this.#init = init;
    const reader = createFrameReader(init.messageBytesMax);
    stream.addEventListener('message', ({ data }) => {
      try {
        for (const part of data instanceof Uint8Array ? [data] : data) {
          for (const frame of reader.read(part)) if (this.#closedError === undefined) this.#take(frame);
        }
      } catch (error) {
        init.onViolation((error as Error).message);
        this.#reset(error);
      }
    });
    stream.addEventListener('remoteCloseWrite', () => {
      if (!this.#theirEndSeen && stream.readBufferLength === 0) this.#reset(new Error('it was cut'));
    });
    stream.addEventListener('close', ({ error }) => this.#finishOver(error ?? new Error('the connection is gone')));
    if (stream.status !== 'open') this.#finishOver(new Error(`it is ${stream.status}`));
  }

  send(message: Uint8Array): Promise<void> {
    if (this.#closedError !== undefined) return Promise.reject(this.#closedError);
    const { messageBytesMax } = this.#init;
    if (message.byteLength > messageBytesMax) {
      const text = `a message of ${message.byteLength} bytes to '${this.peer}': the limit of ${this.#stream.protocol} is ${messageBytesMax}`;
      return Promise.reject(new ParleyError('too-large', text));
    }
    if (this.#closing) return Promise.reject(this.#error('our end is closed'));
    if (this.#sends.length >= waitingSendsMax) {
      return Promise.reject(this.#error(`${waitingSendsMax} messages wait for credit already`));
    }
    if (this.#sends.length > 0 || !this.#enqueue(message)) {
      return new Promise((resolve, reject) => this.#sends.push({ message, resolve, reject }));
    }
    if (this.#closedError !== undefined) return Promise.reject(this.#closedError);
    // Whoever sends piece after piece lets the others have the event loop in between: a whole window takes tens of milliseconds.
    return this.#outgoing.length === 0 ? nextTurn() : Promise.resolve();
  }

  receive({ signal }: { readonly signal?: AbortSignal } = {}): Promise<Uint8Array | undefined> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const message = this.#inbox.shift();
    if (message !== undefined) {
      this.#consume(message);
      return Promise.resolve(message);
    }
    if (this.#theirEndSeen) return Promise.resolve(undefined);
    if (this.#closedError !== undefined) return Promise.reject(this.#closedError);
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array | undefined>();
    const waiting = { resolve, reject };
    this.#receives.push(waiting);
    if (signal === undefined) return promise;
    const onAbort = () => {
      const index = this.#receives.indexOf(waiting);
      if (index >= 0) this.#receives.splice(index, 1);
      reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    return promise.finally(() => signal.removeEventListener('abort', onAbort));
  }

  close(): Promise<void> {
    if (!this.#closing && this.#closedError === undefined) {
      this.#closing = true;
      this.#enqueueOurEnd();
    }
    return this.#ourEnd.promise;
  }

  abort(reason: Error): void {
    this.#reset(reason);
  }

  get ended(): Promise<void> {
    return this.#over.promise;
  }

  async finish(): Promise<void> {
    this.#discarding = true;
    for (const message of this.#inbox.splice(0)) this.#consume(message);
    void this.close();
    await this.#over.promise;
  }

  #take(frame: Frame): void {
    if (frame.type === 'grant') {
      this.#credit += frame.credit;
      if (this.#credit > windowBytes) throw new ParleyError('malformed', 'it granted more credit than the window has');
      this.#enqueueWaiting();
      return;
    }
    if (this.#theirEndSeen) throw new ParleyError('malformed', 'it sent a message after its end');
    if (frame.type === 'end') {
      this.#theirEndSeen = true;
      for (const waiting of this.#receives.splice(0)) waiting.resolve(undefined);
      this.#closeWhenBothEnded();
      return;
    }
    this.#init.count(frame.bytes.byteLength, 0);
    this.#unreadCost += messageCost(frame.bytes.byteLength);
    if (this.#unreadCost + this.#consumedCost > windowBytes) {
      throw new ParleyError('malformed', 'it sent a message without credit for it');
    }
    const waiting = this.#receives.shift();
    if (waiting === undefined && !this.#discarding) {
      this.#inbox.push(frame.bytes);
    } else {
      this.#consume(frame.bytes);
      waiting?.resolve(frame.bytes);
    }
  }

  #consume(message: Uint8Array): void {
    this.#unreadCost -= messageCost(message.byteLength);
    this.#consumedCost += messageCost(message.byteLength);
    if (this.#consumedCost < grantThresholdBytes || this.#theirEndSeen) return;
    this.#outgoing.push({ type: 'grant', credit: this.#consumedCost });
    this.#consumedCost = 0;
    this.#scheduleFlush();
  }

  /** Takes a message up if there is credit for it. */
  #enqueue(message: Uint8Array): boolean {
    const cost = messageCost(message.byteLength);
    if (cost > this.#credit) return false;
    this.#credit -= cost;
    this.#init.count(0, message.byteLength);
    this.#outgoing.push({ type: 'message', bytes: message });
    this.#outgoingBytes += message.byteLength;
    this.#scheduleFlush();
    return true;
  }

  #enqueueWaiting(): void {
    for (let next = this.#sends[0]; next !== undefined && this.#enqueue(next.message); next = this.#sends[0]) {
      this.#sends.shift();
      next.resolve();
    }
    this.#enqueueOurEnd();
  }

  #enqueueOurEnd(): void {
    if (!this.#closing || this.#ourEndSent || this.#sends.length > 0) return;
    this.#ourEndSent = true;
    this.#outgoing.push({ type: 'end' });
    this.#scheduleFlush();
  }

  #scheduleFlush(): void {
    if (this.#outgoingBytes >= pieceBytes) {
      this.#flush();
    } else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      setImmediate(() => {
        this.#flushScheduled = false;
        this.#flush();
      });
    }
  }

  #flush(): void {
    if (this.#closedError !== undefined || this.#outgoing.length === 0) return;
    const frames = this.#outgoing;
    this.#outgoing = [];
    this.#outgoingBytes = 0;
    try {
      this.#stream.send(encodeFrames(frames));
    } catch (error) {
      this.#reset(error);
      return;
    }
    if (!this.#ourEndSent) return;
    this.#ourEnd.resolve();
    this.#closeWhenBothEnded();
  }

  #closeWhenBothEnded(): void {
    if (!this.#ourEndSent || !this.#theirEndSeen || this.#outgoing.length > 0) return;
    this.#stream.close().catch((error) => this.#reset(error));
    this.#finishOver(undefined);
  }

  #reset(reason: unknown): void {
    if (this.#closedError !== undefined) return;
    this.#finishOver(reason);
    this.#stream.abort(this.#error('reset'));
  }

  /** What has come before their end stays readable; everything else that waits is told. */
  #finishOver(reason: unknown): void {
    if (this.#closedError !== undefined) return;
    const state = reason instanceof Error ? reason.message : 'both ends are closed';
    const error =
      reason instanceof ParleyError && reason.code === 'stream-closed' ? reason : this.#error(state, reason);
    this.#closedError = error;
    if (!this.#theirEndSeen) this.#inbox.length = 0;
    for (const waiting of this.#sends.splice(0)) waiting.reject(error);
    for (const waiting of this.#receives.splice(0)) waiting.reject(error);
    this.#ourEnd.resolve();
    this.#over.resolve();
  }

  #error(state: string, cause?: unknown): ParleyError {
    const message = `the stream ${this.#stream.protocol} with '${this.peer}' is closed: ${state}`;
    return new ParleyError('stream-closed', message, { retryable: true, cause });
  }
}
