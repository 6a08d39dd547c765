// Owns a mesh inside one process for tests of rooms above the mesh: the contract of node/interfaces.ts kept strictly
// (credit, resets, message limits, admission), with faults on demand. Nothing here knows a protocol.

import type { HandleOptions, Mesh, MessageStream, TrafficRecord } from '../../node/interfaces.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { messageBytesMax, streamCreditBytes } from '../../protocols/limits.ts';

export interface MemoryNetwork {
  /** A new peer's mesh; reachable between its start and stop. */
  join(peer: string): Mesh;
  /** The peer vanishes: its streams break on both sides and nobody reaches it. Undone by `revive`. */
  kill(peer: string): void;
  revive(peer: string): void;
  /** What the peer sends from now on never arrives, and nobody is told. Undone by `revive`. */
  mute(peer: string): void;
  /** Called before each message is handed over; may change the bytes, or await to hold them back. */
  onMessage: (message: MemoryMessage) => Uint8Array | Promise<Uint8Array>;
}

export interface MemoryMessage {
  readonly from: string;
  readonly to: string;
  readonly protocol: string;
  readonly bytes: Uint8Array;
}

interface Pipe {
  /** Resolves when the credit allows more. */
  push(bytes: Uint8Array): Promise<void>;
  pull(signal: AbortSignal | undefined): Promise<Uint8Array | undefined>;
  end(): void;
  break(error: Error): void;
}

interface Handler {
  readonly run: (stream: MessageStream) => Promise<void>;
  readonly options: HandleOptions;
  readonly open: Map<string, number>;
}

interface Node {
  readonly peer: string;
  readonly handlers: Map<string, Handler>;
  readonly streams: Map<MessageStream, string>;
  readonly listeners: Set<(peer: string, connected: boolean) => void>;
  readonly traffic: Map<string, { peer: string; protocol: string; bytesIn: number; bytesOut: number }>;
  started: boolean;
  alive: boolean;
  muted: boolean;
}

export function createMemoryNetwork(): MemoryNetwork {
  const nodes = new Map<string, Node>();
  const connections = new Set<string>();
  const reachable = (node: Node | undefined): node is Node => node?.started === true && node.alive;

  const network: MemoryNetwork = {
    onMessage: ({ bytes }) => bytes,
    join(peer) {
      const node: Node = {
        peer,
        handlers: new Map(),
        streams: new Map(),
        listeners: new Set(),
        traffic: new Map(),
        started: false,
        alive: true,
        muted: false,
      };
      nodes.set(peer, node);
      return meshOf(node);
    },
    kill(peer) {
      const node = nodes.get(peer);
      if (node === undefined) return;
      node.alive = false;
      disconnect(node);
    },
    mute(peer) {
      const node = nodes.get(peer);
      if (node !== undefined) node.muted = true;
    },
    revive(peer) {
      const node = nodes.get(peer);
      if (node === undefined) return;
      node.alive = true;
      node.muted = false;
    },
  };

  function disconnect(node: Node): void {
    for (const stream of [...node.streams.keys()]) stream.abort(new Error('the connection broke'));
    for (const key of [...connections]) {
      const ends = key.split(' ');
      if (!ends.includes(node.peer)) continue;
      connections.delete(key);
      const other = ends.find((end) => end !== node.peer) ?? '';
      tell(node, other, false);
      const otherNode = nodes.get(other);
      if (otherNode !== undefined) tell(otherNode, node.peer, false);
    }
  }

  function tell(node: Node, peer: string, connected: boolean): void {
    for (const listener of [...node.listeners]) listener(peer, connected);
  }

  function connect(from: Node, to: Node): void {
    const key = [from.peer, to.peer].sort().join(' ');
    if (connections.has(key)) return;
    connections.add(key);
    tell(from, to.peer, true);
    tell(to, from.peer, true);
  }

  function openStream(from: Node, to: Node, protocol: string, handler: Handler): MessageStream {
    const bytesMax = handler.options.messageBytesMax ?? messageBytesMax;
    const there = createPipe();
    const back = createPipe();
    const ours = end(from, to, protocol, bytesMax, there, back);
    const theirs = end(to, from, protocol, bytesMax, back, there);
    from.streams.set(ours, protocol);
    to.streams.set(theirs, protocol);
    const open = (handler.open.get(from.peer) ?? 0) + 1;
    handler.open.set(from.peer, open);
    const closed = (): void => {
      handler.open.set(from.peer, (handler.open.get(from.peer) ?? 1) - 1);
      from.streams.delete(ours);
      to.streams.delete(theirs);
    };
    if (open > (handler.options.inboundStreamsMax ?? 16)) {
      theirs.abort(new Error('too many streams'));
      closed();
    } else {
      handler
        .run(theirs)
        .catch((error: Error) => theirs.abort(error))
        .finally(closed);
    }
    return ours;
  }

  function end(self: Node, other: Node, protocol: string, bytesMax: number, out: Pipe, into: Pipe): MessageStream {
    return {
      peer: other.peer,
      async send(message) {
        if (message.byteLength > bytesMax) throw new ParleyError('too-large', `message of ${message.byteLength} bytes`);
        const bytes = await network.onMessage({ from: self.peer, to: other.peer, protocol, bytes: message });
        if (self.muted) return;
        count(self, other.peer, protocol, 0, bytes.byteLength);
        count(other, self.peer, protocol, bytes.byteLength, 0);
        await out.push(Uint8Array.from(bytes));
      },
      receive: (options) => into.pull(options?.signal),
      close: async () => out.end(),
      abort(reason) {
        const error = new ParleyError('stream-closed', `the stream between ${self.peer} and ${other.peer} is gone`, {
          retryable: true,
          cause: reason,
        });
        out.break(error);
        into.break(error);
      },
    };
  }

  function count(node: Node, peer: string, protocol: string, bytesIn: number, bytesOut: number): void {
    const key = `${peer} ${protocol}`;
    const record = node.traffic.get(key) ?? { peer, protocol, bytesIn: 0, bytesOut: 0 };
    record.bytesIn += bytesIn;
    record.bytesOut += bytesOut;
    node.traffic.set(key, record);
  }

  function meshOf(node: Node): Mesh {
    return {
      self: node.peer,
      async start() {
        node.started = true;
      },
      async stop() {
        node.started = false;
        disconnect(node);
      },
      addresses: () => [`/memory/p2p/${node.peer}`],
      handle(protocol, run, options = {}) {
        node.handlers.set(protocol, { run, options, open: new Map() });
      },
      async open(peer, protocol, { signal }) {
        signal.throwIfAborted();
        const other = nodes.get(peer);
        if (!reachable(node) || !reachable(other)) {
          throw new ParleyError('peer-unreachable', `no connection to ${peer}: it is not running`, { retryable: true });
        }
        connect(node, other);
        const handler = other.handlers.get(protocol);
        if (handler === undefined) throw new ParleyError('protocol-unsupported', `${peer} does not speak ${protocol}`);
        return openStream(node, other, protocol, handler);
      },
      connectedPeers() {
        const others = [...connections].map((key) => key.split(' ')).filter((ends) => ends.includes(node.peer));
        return others.map((ends) => ({ peer: ends.find((end) => end !== node.peer) ?? node.peer, addresses: [] }));
      },
      onPeerChange(listener) {
        node.listeners.add(listener);
        return () => node.listeners.delete(listener);
      },
      traffic: (): TrafficRecord[] => [...node.traffic.values()].map((record) => ({ ...record })),
    };
  }

  return network;
}

/** One direction of a stream: messages in order, at most streamCreditBytes unread (or one message larger than that). */
function createPipe(): Pipe {
  const queue: Uint8Array[] = [];
  let queuedBytes = 0;
  let ended = false;
  let broken: Error | undefined;
  let change = Promise.withResolvers<void>();
  const notify = (): void => {
    change.resolve();
    change = Promise.withResolvers();
  };

  return {
    async push(bytes) {
      while (broken === undefined && queuedBytes > 0 && queuedBytes + bytes.byteLength > streamCreditBytes) {
        await change.promise;
      }
      if (broken !== undefined) throw broken;
      if (ended) throw new ParleyError('stream-closed', 'our end of the stream is closed', { retryable: true });
      queue.push(bytes);
      queuedBytes += bytes.byteLength;
      notify();
    },
    async pull(signal) {
      const aborted = Promise.withResolvers<never>();
      const abort = (): void => aborted.reject(signal?.reason);
      aborted.promise.catch(() => {});
      signal?.addEventListener('abort', abort, { once: true });
      try {
        for (;;) {
          signal?.throwIfAborted();
          if (broken !== undefined) throw broken;
          const next = queue.shift();
          if (next !== undefined) {
            queuedBytes -= next.byteLength;
            notify();
            return next;
          }
          if (ended) return undefined;
          await Promise.race([change.promise, aborted.promise]);
        }
      } finally {
        signal?.removeEventListener('abort', abort);
      }
    },
    end() {
      ended = true;
      notify();
    },
    break(error) {
      broken ??= error;
      queue.length = 0;
      notify();
    },
  };
}
