// Owns the few interfaces that several rooms of the peer share. Each is implemented in one room and handed to the others
// by create-node.ts; a room declares which of them it needs and imports nothing else of its neighbours.

import type { ProgramRun } from '../protocols/program-run.ts';

/** Log lines go to standard error as JSON (pino); pass data first, then a constant message. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Logger;
}

/** All time comes through here, so that tests can hold it. */
export interface Clock {
  /** Wall clock in milliseconds since the epoch: for people and for ledger time, never for correctness. */
  nowMs(): number;
  /** Monotonic milliseconds with an arbitrary start: for time-outs and leases. */
  monotonicMs(): number;
  /** Calls once after delayMs; the returned function cancels. The timer does not keep the process alive. */
  after(delayMs: number, call: () => void): () => void;
  /** Calls each periodMs; the returned function cancels. The timer does not keep the process alive. */
  every(periodMs: number, call: () => void): () => void;
}

/** Random bytes; seeded in tests. */
export type RandomBytes = (count: number) => Uint8Array;

/** What starts and stops with the peer. Both may be called twice. */
export interface Startable {
  start(): Promise<void>;
  stop(): Promise<void>;
}

export type StoreOperation =
  | { readonly type: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly type: 'del'; readonly key: string };

/** One ordered key-value database on disk. Keys sort as UTF-8 bytes. */
export interface KeyValueStore {
  get(key: string): Promise<Uint8Array | undefined>;
  /** Applies all operations or none. `sync: true` returns only when they are on the disk. */
  batch(operations: readonly StoreOperation[], options: { readonly sync: boolean }): Promise<void>;
  /** Pairs with gte <= key < lt in order (or in reverse), at most `limit`. */
  range(options: {
    readonly gte: string;
    readonly lt: string;
    readonly limit?: number;
    readonly reverse?: boolean;
  }): Promise<[key: string, value: Uint8Array][]>;
  close(): Promise<void>;
}

/** A file of one small record that is replaced in place; a crash leaves the new record or the one before it. */
export interface RecordFile {
  /** The newest whole record; undefined when there is none. */
  read(): Promise<Uint8Array | undefined>;
  /** Returns once the record, at most 472 bytes, is on the disk. Calls must not overlap. */
  write(record: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Bodies too large for an entry, named by the hex SHA-256 of their bytes, as files. */
export interface BlobStore {
  /** Writes and syncs; returns the hash. Storing the same bytes twice is free. */
  put(bytes: Uint8Array): Promise<string>;
  /** The bytes, checked against the hash as they are read; undefined when absent. A damaged file counts as absent and is removed. */
  get(hash: string): Promise<Uint8Array | undefined>;
  has(hash: string): Promise<boolean>;
  /** Undefined when absent. */
  facts(hash: string): Promise<BlobFacts | undefined>;
  delete(hash: string): Promise<void>;
  list(): Promise<string[]>;
  /** Called as a `put` begins, also of what is there already. Returns the function that unsubscribes. */
  onPut(listener: (hash: string, bytes: number) => void): () => void;
}

export interface BlobFacts {
  /** That get() would read. */
  readonly bytes: number;
  /** By the clock of the disk's computer, which may have been wrong. */
  readonly storedAtMs: number;
}

/**
 * One libp2p stream that carries whole messages (length-prefixed frames of at most messageBytesMax unless the protocol
 * says otherwise). Flow control is inside: `send` resolves when the peer has credit for more.
 */
export interface MessageStream {
  readonly peer: string;
  /** Rejects with ParleyError `stream-closed` (retryable) once the stream is gone. */
  send(message: Uint8Array): Promise<void>;
  /** The next message, or undefined after the other side closed its end in order. Rejects with `stream-closed` on a reset. */
  receive(options?: { readonly signal?: AbortSignal }): Promise<Uint8Array | undefined>;
  /** Closes our end after what was sent has left. */
  close(): Promise<void>;
  /** Drops the stream at once; the other side sees a reset. */
  abort(reason: Error): void;
}

export interface ConnectedPeer {
  readonly peer: string;
  readonly addresses: readonly string[];
  /** Round-trip time of the last ping in milliseconds, where known. */
  readonly rttMs?: number;
}

/** Access to the other peers. Only members of the ledger get through the gater, but for the join protocol while an invite is open. */
export interface Mesh extends Startable {
  readonly self: string;
  /** Multiaddrs (with /p2p/…) under which this peer can be dialled now. */
  addresses(): string[];
  /** Registers the handler of a protocol id such as `/parley/journal/1`. A handler that throws resets its stream and is logged; the peer lives on. */
  handle(protocol: string, handler: (stream: MessageStream) => Promise<void>, options?: HandleOptions): void;
  /** Opens a stream, dialling when needed. Rejects with ParleyError `peer-unreachable` (retryable) or `protocol-unsupported`. */
  open(peer: string, protocol: string, options: OpenOptions): Promise<MessageStream>;
  connectedPeers(): ConnectedPeer[];
  /** Called when a peer's first connection opens or its last one closes. Returns the function that unsubscribes. */
  onPeerChange(listener: (peer: string, connected: boolean) => void): () => void;
  /** Payload bytes by protocol and peer since start, both ways. */
  traffic(): TrafficRecord[];
}

export interface OpenOptions {
  readonly signal: AbortSignal;
  /** Dials anew for this stream, whatever is connected already: proves that the peer can be reached now. Default false. */
  readonly fresh?: boolean;
}

export interface HandleOptions {
  /** Open inbound streams of this protocol per peer; more are reset. Default 16. */
  readonly inboundStreamsMax?: number;
  /** Largest message this protocol takes, in bytes. Default messageBytesMax. */
  readonly messageBytesMax?: number;
  /**
   * 'members' (default); 'removed' admits also those who were members, so that they hear that they are none any more;
   * 'anyone': only the join protocol admits strangers, and liveness those that came in to be asked.
   */
  readonly admits?: 'members' | 'removed' | 'anyone';
}

export interface TrafficRecord {
  readonly peer: string;
  readonly protocol: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** One run of an external program. No shell is involved; the environment is exactly what is given plus PATH and HOME. */
export interface ProcessRequest {
  readonly program: string;
  readonly arguments: readonly string[];
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: Uint8Array;
  /** Ends the program's whole process group. */
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  /** Called for each line of standard error as it comes (cut at logLineCharactersMax). */
  readonly onStderrLine?: (line: string) => void;
  readonly onStdoutLine?: (line: string) => void;
  /** Characters kept of one line for the two listeners (default logLineCharactersMax). */
  readonly lineCharactersMax?: number;
  /** Bytes of standard output kept (default 16 MiB); more ends the program with ParleyError `output-too-large`. */
  readonly stdoutBytesMax?: number;
  /** Reads and drops standard output beyond stdoutBytesMax instead of ending the program. */
  readonly dropsLongOutput?: boolean;
}

export interface ProcessResult {
  /** 0–255; a signal's death is 128 + number. A non-zero exit is a result, not an error. */
  readonly exitCode: number;
  readonly stdout: Uint8Array;
  /** The last 64 KiB of standard error. */
  readonly stderr: string;
}

/** The only way to an external program (host room). Rejects with ParleyError `program-missing`, `timed-out`, `cancelled` or `output-too-large`. */
export interface ProcessRunner {
  run(request: ProcessRequest): Promise<ProcessResult>;
}

/** Tells which programs some work has run, in whatever room (host room). */
export interface ProgramRecorder {
  /** Does the work; each program that it runs is told once it has ended, until the work is over. */
  recording<T>(onProgram: (run: ProgramRun) => void, work: () => Promise<T>): Promise<T>;
}
