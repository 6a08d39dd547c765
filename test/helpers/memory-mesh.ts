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
  /** Nobody can connect to the peer any more; connections that exist live on. Undone by `revive`. */
  refuseDials(peer: string): void;
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

type PeerListener = (peer: string, connected: boolean) => void;

interface Node {
  readonly peer: string;
  readonly handlers: Map<string, Handler>;
  readonly streams: Set<MessageStream>;
  readonly listeners: Set<PeerListener>;
  readonly traffic: Map<string, { peer: string; protocol: string; bytesIn: number; bytesOut: number }>;
  started: boolean;
  alive: boolean;
  muted: boolean;
  refusesDials: boolean;
}

interface State {
  readonly nodes: Map<string, Node>;
  /** Pairs of peers, sorted and joined by a space. */
  readonly connections: Set<string>;
  readonly network: Pick<MemoryNetwork, 'onMessage'>;
}

export function createMemoryNetwork(): MemoryNetwork {
  const nodes = new Map<string, Node>();
  const change = (peer: string, changes: Partial<Pick<Node, 'alive' | 'muted' | 'refusesDials'>>): Node => {
    const node = nodes.get(peer);
    if (node === undefined) throw new Error(`no peer '${peer}' in this network`);
    return Object.assign(node, changes);
  };
  const network: MemoryNetwork = {
    onMessage: ({ bytes }) => bytes,
    join(peer) {
      const lists = { handlers: new Map(), streams: new Set<MessageStream>(), listeners: new Set<PeerListener>() };
      const faults = { muted: false, refusesDials: false };
      const node: Node = { peer, ...lists, ...faults, traffic: new Map(), started: false, alive: true };
      nodes.set(peer, node);
      return meshOf(state, node);
    },
    kill: (peer) => disconnect(state, change(peer, { alive: false })),
    mute: (peer) => void change(peer, { muted: true }),
    refuseDials: (peer) => void change(peer, { refusesDials: true }),
    revive: (peer) => void change(peer, { alive: true, muted: false, refusesDials: false }),
  };
  const state: State = { nodes, connections: new Set(), network };
  return network;
}

function meshOf(state: State, node: Node): Mesh {
  return {
    self: node.peer,
    async start() {
      node.started = true;
    },
    async stop() {
      node.started = false;
      disconnect(state, node);
    },
    addresses: () => [`/memory/p2p/${node.peer}`],
    handle: (protocol, run, options = {}) => void node.handlers.set(protocol, { run, options, open: new Map() }),
    async open(peer, protocol, { signal, fresh = false }) {
      signal.throwIfAborted();
      const other = state.nodes.get(peer);
      if (other === undefined || !isReachable(node) || !isReachable(other)) {
        throw new ParleyError('peer-unreachable', `no connection to ${peer}: it is not running`, { retryable: true });
      }
      const isConnected = state.connections.has(pairOf(node.peer, peer));
      if (other.refusesDials && (fresh || !isConnected)) {
        throw new ParleyError('peer-unreachable', `${peer} refuses to be dialled`, { retryable: true });
      }
      connect(state, node, other);
      const handler = other.handlers.get(protocol);
      if (handler === undefined) throw new ParleyError('protocol-unsupported', `${peer} does not speak ${protocol}`);
      return openStream(state, { from: node, to: other, protocol, handler });
    },
    connectedPeers: () => othersOf(state, node.peer).map((peer) => ({ peer, addresses: [] })),
    onPeerChange(listener) {
      node.listeners.add(listener);
      return () => node.listeners.delete(listener);
    },
    traffic: (): TrafficRecord[] => [...node.traffic.values()].map((record) => ({ ...record })),
  };
}

function isReachable(node: Node): boolean {
  return node.started && node.alive;
}

function othersOf({ connections }: State, peer: string): string[] {
  const pairs = [...connections].map((pair) => pair.split(' ')).filter((pair) => pair.includes(peer));
  return pairs.flatMap((pair) => pair.filter((end) => end !== peer));
}

function pairOf(left: string, right: string): string {
  return [left, right].sort().join(' ');
}

function connect({ connections }: State, from: Node, to: Node): void {
  const pair = pairOf(from.peer, to.peer);
  if (connections.has(pair)) return;
  connections.add(pair);
  for (const listener of from.listeners) listener(to.peer, true);
  for (const listener of to.listeners) listener(from.peer, true);
}

function disconnect(state: State, node: Node): void {
  for (const stream of [...node.streams]) stream.abort(new Error('the connection broke'));
  for (const other of othersOf(state, node.peer)) {
    state.connections.delete(pairOf(node.peer, other));
    for (const listener of node.listeners) listener(other, false);
    for (const listener of state.nodes.get(other)?.listeners ?? []) listener(node.peer, false);
  }
}

interface Opening {
  readonly from: Node;
  readonly to: Node;
  readonly protocol: string;
  readonly handler: Handler;
}

function openStream(state: State, { from, to, protocol, handler }: Opening): MessageStream {
  const bytesMax = handler.options.messageBytesMax ?? messageBytesMax;
  const there = createPipe();
  const back = createPipe();
  const ours = endOf(state, { self: from, other: to, protocol, bytesMax, out: there, into: back });
  const theirs = endOf(state, { self: to, other: from, protocol, bytesMax, out: back, into: there });
  from.streams.add(ours);
  to.streams.add(theirs);
  const open = (handler.open.get(from.peer) ?? 0) + 1;
  handler.open.set(from.peer, open);
  const serve = async (): Promise<void> => {
    try {
      if (open > (handler.options.inboundStreamsMax ?? 16)) throw new Error('too many streams');
      await handler.run(theirs);
    } catch (error) {
      theirs.abort(error as Error);
    } finally {
      handler.open.set(from.peer, (handler.open.get(from.peer) ?? 1) - 1);
      from.streams.delete(ours);
      to.streams.delete(theirs);
    }
  };
  void serve();
  return ours;
}

interface End {
  readonly self: Node;
  readonly other: Node;
  readonly protocol: string;
  readonly bytesMax: number;
  readonly out: Pipe;
  readonly into: Pipe;
}

function endOf({ network }: State, { self, other, protocol, bytesMax, out, into }: End): MessageStream {
  return {
    peer: other.peer,
    async send(message) {
      if (message.byteLength > bytesMax) throw new ParleyError('too-large', `a message of ${message.byteLength} bytes`);
      const bytes = await network.onMessage({ from: self.peer, to: other.peer, protocol, bytes: message });
      if (self.muted) return;
      count(self, other.peer, protocol, 0, bytes.byteLength);
      count(other, self.peer, protocol, bytes.byteLength, 0);
      await out.push(Uint8Array.from(bytes));
    },
    receive: (options) => into.pull(options?.signal),
    close: async () => out.end(),
    abort(cause) {
      const message = `the stream between ${self.peer} and ${other.peer} is gone`;
      const error = new ParleyError('stream-closed', message, { retryable: true, cause });
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
