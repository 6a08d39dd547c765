// An in-memory stand-in for the mesh room, for tests of many voters in one process: streams of whole messages between
// named peers, links that can be cut, peers that can vanish.

import type { HandleOptions, Mesh, MessageStream } from '../../node/interfaces.ts';
import { ParleyError } from '../../protocols/errors.ts';

type TestMesh = Pick<Mesh, 'self' | 'open' | 'handle' | 'onPeerChange' | 'connectedPeers'>;
type Handler = (stream: MessageStream) => Promise<void>;

interface Peer {
  readonly name: string;
  readonly handlers: Map<string, { handler: Handler; options: HandleOptions }>;
  readonly listeners: Set<(peer: string, connected: boolean) => void>;
}

class Pipe {
  readonly #queue: Uint8Array[] = [];
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void)[] = [];

  push(message: Uint8Array): void {
    if (this.#error) throw this.#error;
    this.#queue.push(message.slice());
    this.#notify();
  }

  get isOpen(): boolean {
    return !this.#ended && this.#error === undefined;
  }

  end(): void {
    this.#ended = true;
    this.#notify();
  }

  fail(error: Error): void {
    this.#error ??= error;
    this.#notify();
  }

  async next(signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#error) throw this.#error;
      const message = this.#queue.shift();
      if (message) return message;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake.push(resolve);
        signal?.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

interface Connection {
  readonly a: string;
  readonly b: string;
  readonly pipes: readonly Pipe[];
}

export class MemoryNetwork {
  readonly #peers = new Map<string, Peer>();
  readonly #cut = new Set<string>();
  #connections: Connection[] = [];
  /** Handlers' errors, as the mesh would log them. */
  readonly errors: unknown[] = [];
  messagesSent = 0;
  /** Called with each message, before it is on its way. */
  onSend: (to: string, protocol: string, message: Uint8Array) => void = () => {};
  /** Streams that somebody wanted to open. */
  opens = 0;
  /** Round trips that everybody measures. */
  readonly #rtts = new Map<string, number>();

  mesh(name: string): TestMesh {
    const peer: Peer = { name, handlers: new Map(), listeners: new Set() };
    this.#peers.set(name, peer);
    return {
      self: name,
      handle: (protocol, handler, options = {}) => {
        if (peer.handlers.has(protocol)) throw new ParleyError('bad-handler', `'${protocol}' has a handler already`);
        peer.handlers.set(protocol, { handler, options });
      },
      open: async (to, protocol, { signal }) => {
        signal.throwIfAborted();
        return this.#open(name, to, protocol);
      },
      connectedPeers: () => [...this.#rtts].map(([peer, rttMs]) => ({ peer, addresses: [], rttMs })),
      onPeerChange: (listener) => {
        peer.listeners.add(listener);
        return () => peer.listeners.delete(listener);
      },
    };
  }

  /** Streams on which one peer can still say something to another that it opened them to. */
  streamsFrom(a: string, b: string): number {
    return this.#connections.filter((each) => each.a === a && each.b === b && each.pipes[0]?.isOpen).length;
  }

  setRtt(peer: string, rttMs: number): void {
    this.#rtts.set(peer, rttMs);
  }

  /** Cuts the link between two peers and resets its streams. */
  cut(a: string, b: string): void {
    this.#cut.add(key(a, b));
    this.#reset((connection) => key(connection.a, connection.b) === key(a, b));
    this.#notify(a, b, false);
  }

  heal(a: string, b: string): void {
    if (this.#cut.delete(key(a, b))) this.#notify(a, b, true);
  }

  /** The peer's process is gone. */
  remove(name: string): void {
    this.#peers.delete(name);
    this.#reset((connection) => connection.a === name || connection.b === name);
    for (const other of this.#peers.keys()) this.#notify(other, name, false);
  }

  #notify(a: string, b: string, connected: boolean): void {
    for (const listener of this.#peers.get(a)?.listeners ?? []) listener(b, connected);
    for (const listener of this.#peers.get(b)?.listeners ?? []) listener(a, connected);
  }

  #reset(isMeant: (connection: Connection) => boolean): void {
    for (const connection of this.#connections.filter(isMeant)) {
      for (const pipe of connection.pipes) pipe.fail(new ParleyError('stream-closed', 'reset', { retryable: true }));
    }
    this.#connections = this.#connections.filter((connection) => !isMeant(connection));
  }

  #open(from: string, to: string, protocol: string): MessageStream {
    this.opens += 1;
    const target = this.#peers.get(to);
    if (!target || this.#cut.has(key(from, to))) {
      throw new ParleyError('peer-unreachable', `no way to '${to}'`, { retryable: true });
    }
    const found = target.handlers.get(protocol);
    if (!found) throw new ParleyError('protocol-unsupported', `'${to}' does not speak '${protocol}'`);
    const there = new Pipe();
    const back = new Pipe();
    this.#connections.push({ a: from, b: to, pipes: [there, back] });
    const remote = this.#stream(protocol, from, back, there);
    found.handler(remote).then(
      () => remote.close(),
      (error: unknown) => {
        this.errors.push(error);
        remote.abort(new Error('handler failed'));
      },
    );
    return this.#stream(protocol, to, there, back);
  }

  #stream(protocol: string, peer: string, out: Pipe, into: Pipe): MessageStream {
    return {
      peer,
      send: async (message) => {
        this.messagesSent += 1;
        this.onSend(peer, protocol, message);
        out.push(message);
      },
      receive: async (options) => into.next(options?.signal),
      close: async () => out.end(),
      abort: (reason) => {
        out.fail(new ParleyError('stream-closed', reason.message, { retryable: true }));
        into.fail(new ParleyError('stream-closed', reason.message, { retryable: true }));
      },
    };
  }
}

const key = (a: string, b: string): string => [a, b].sort().join('|');
