// Owns the simulated network: connections between the peers that run and know each other as members, streams of messages that
// take time, break, are cut in one direction without anybody noticing, and old frames between voters that arrive once more.

import type { HandleOptions, Mesh, MessageStream } from '../../node/interfaces.ts';
import type { Ledger } from '../../node/ledger/index.ts';
import { consensusProtocol } from '../../protocols/consensus-message.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Chance } from './chance.ts';
import { createStream, type Link } from './stream.ts';
import type { Life, VirtualTime } from './time.ts';

export type SimulatedMesh = Pick<Mesh, 'self' | 'addresses' | 'handle' | 'open' | 'connectedPeers' | 'onPeerChange'> & {
  /** From now on the peer connects to those whom its ledger names, and to nobody else. */
  follow(members: MeshMembersView): void;
};

type MeshMembersView = ReturnType<Ledger['meshMembers']>;

type Handler = (stream: MessageStream) => Promise<void>;
type PeerListener = (peer: string, connected: boolean) => void;

export interface Node {
  readonly peer: string;
  readonly life: Life;
  readonly handlers: Map<string, { readonly run: Handler; readonly streamsMax: number }>;
  readonly listeners: Set<PeerListener>;
  readonly connected: Set<string>;
  /** Inbound streams that are being served, by sender and protocol. */
  readonly serving: Map<string, number>;
  knows: (peer: string) => boolean;
}

export interface NetworkInit {
  readonly time: VirtualTime;
  readonly chance: Chance;
  /** Sees each message as it is sent, and says what is sent instead. */
  readonly onSend: (from: string, protocol: string, bytes: Uint8Array) => Uint8Array;
  readonly count: (what: 'messagesLost' | 'framesRepeated') => void;
}

/** A dead connection is noticed by its silence after this. */
const noticeMs = [1_000, 4_000] as const;
const reconnectMs = [5, 150] as const;
/** A peer that is no member any more is heard for so long: it learns that it was removed. */
const farewellMs = 5_000;
/** A dial without an answer is given up. */
const dialMs = 5_000;

export class SimulatedNetwork {
  /** Probability that a message is lost and breaks its stream. */
  lossRate = 0;
  /** Added to every message's way. */
  slownessMs = 0;
  readonly #init: NetworkInit;
  readonly #nodes = new Map<string, Node>();
  /** `from>to` of directions in which nothing arrives. */
  readonly #cuts = new Set<string>();
  readonly #delaysMs = new Map<string, number>();
  readonly #links = new Set<Link>();
  readonly #oldFrames = new Map<string, Uint8Array>();

  constructor(init: NetworkInit) {
    this.#init = init;
  }

  /** A peer's process joins; it leaves by leave(). */
  join(peer: string, life: Life): SimulatedMesh {
    const node: Node = {
      ...{ peer, life, handlers: new Map(), listeners: new Set(), connected: new Set(), serving: new Map() },
      knows: () => false,
    };
    this.#nodes.set(peer, node);
    return {
      self: peer,
      follow: (members) => {
        node.knows = members.isMember;
        members.onChange(() => this.#review(node));
        this.#review(node);
      },
      addresses: () => [`/sim/${peer}`],
      handle: (protocol, run, options: HandleOptions = {}) =>
        void node.handlers.set(protocol, { run, streamsMax: options.inboundStreamsMax ?? 16 }),
      open: (to, protocol, { signal }) => this.#open(node, to, protocol, signal),
      connectedPeers: () => [...node.connected].map((other) => ({ peer: other, addresses: [] })),
      onPeerChange(listener) {
        node.listeners.add(listener);
        return () => node.listeners.delete(listener);
      },
    };
  }

  /** A process is gone; a power cut is noticed by silence only. */
  leave(peer: string, isPowerCut: boolean): void {
    const node = this.#nodes.get(peer);
    if (node === undefined) return;
    this.#nodes.delete(peer);
    for (const other of this.#nodes.values()) {
      const delayMs = isPowerCut ? this.#between(noticeMs) : this.#delayMs(peer, other.peer);
      this.#schedule(delayMs, other.life, `sees ${node.life.name} gone`, () => this.#disconnect(other, node));
    }
  }

  cut(from: string, to: string): void {
    this.#cuts.add(`${from}>${to}`);
    const [a, b] = [this.#nodes.get(from), this.#nodes.get(to)];
    if (a === undefined || b === undefined) return;
    this.#schedule(this.#between(noticeMs), undefined, `silence between ${a.life.name} and ${b.life.name}`, () => {
      if (this.#isOpen(from, to) && this.#isOpen(to, from)) return;
      this.#disconnect(a, b);
      this.#disconnect(b, a);
    });
  }

  heal(): void {
    this.#cuts.clear();
    const nodes = [...this.#nodes.values()];
    for (const [at, one] of nodes.entries()) for (const other of nodes.slice(at + 1)) this.#connectSoon(one, other);
  }

  /** Whom this peer knows has changed. */
  #review(node: Node): void {
    for (const other of this.#nodes.values()) {
      if (other === node) continue;
      const isKnown = node.knows(other.peer);
      if (isKnown && !node.connected.has(other.peer)) this.#connectSoon(node, other);
      if (isKnown || !node.connected.has(other.peer)) continue;
      this.#schedule(farewellMs, node.life, `is done with ${other.life.name}`, () => {
        if (node.knows(other.peer)) return;
        this.#disconnect(node, other);
        this.#disconnect(other, node);
      });
    }
  }

  #schedule(delayMs: number, owner: Life | undefined, label: string, run: () => void): void {
    this.#init.time.schedule(delayMs, owner, label, run);
  }

  #between([least, most]: readonly [number, number]): number {
    return this.#init.chance.between(least, most);
  }

  #isOpen(from: string, to: string): boolean {
    return !this.#cuts.has(`${from}>${to}`);
  }

  /** What one message takes now: each direction has its distance, and each message its luck. */
  #delayMs(from: string, to: string): number {
    const { chance } = this.#init;
    const key = `${from}>${to}`;
    let base = this.#delaysMs.get(key);
    if (base === undefined) {
      base = chance.happens(0.7) ? chance.between(0.2, 3) : chance.between(5, 40);
      this.#delaysMs.set(key, base);
    }
    const luck = chance.happens(0.01) ? chance.between(50, 400) : chance.between(0, base / 2);
    return base + luck + this.slownessMs;
  }

  #connectSoon(one: Node, other: Node): void {
    this.#schedule(this.#between(reconnectMs), undefined, `${one.life.name} dials ${other.life.name}`, () => {
      if (this.#nodes.get(one.peer) !== one || this.#nodes.get(other.peer) !== other) return;
      if (!this.#isOpen(one.peer, other.peer) || !this.#isOpen(other.peer, one.peer)) return;
      if (!one.knows(other.peer) || !other.knows(one.peer)) return;
      this.#connect(one, other.peer);
      this.#connect(other, one.peer);
    });
  }

  #connect(node: Node, to: string): void {
    if (node.connected.has(to)) return;
    node.connected.add(to);
    this.#tell(node, to, true);
  }

  #tell(node: Node, peer: string, connected: boolean): void {
    this.#schedule(0, node.life, connected ? 'connected' : 'disconnected', () => {
      for (const listener of [...node.listeners]) listener(peer, connected);
    });
  }

  /** `node` takes its connection to that run of `other` for broken. */
  #disconnect(node: Node, other: Node): void {
    for (const link of this.#links) link.breakFor(node, other);
    if (!node.connected.delete(other.peer)) return;
    this.#tell(node, other.peer, false);
    const next = this.#nodes.get(other.peer);
    if (next !== undefined && this.#nodes.get(node.peer) === node) this.#connectSoon(node, next);
  }

  #open(from: Node, to: string, protocol: string, signal: AbortSignal): Promise<MessageStream> {
    const { promise, resolve, reject } = Promise.withResolvers<MessageStream>();
    let isSettled = false;
    const settle = (act: () => void): void => {
      if (isSettled) return;
      isSettled = true;
      signal.removeEventListener('abort', giveUp);
      act();
    };
    const giveUp = (): void => settle(() => reject(signal.reason));
    const fail = (delayMs: number, code: string): void =>
      this.#schedule(delayMs, from.life, `${code} ${protocol}`, () =>
        settle(() => reject(new ParleyError(code, `no stream to '${to}'`, { retryable: true }))),
      );
    if (signal.aborted) giveUp();
    signal.addEventListener('abort', giveUp, { once: true });
    fail(dialMs, 'peer-unreachable');
    const target = this.#nodes.get(to);
    const isStranger = target === undefined || !this.#mayTalk(from, target);
    if (isStranger) fail(this.#delayMs(from.peer, to), 'peer-unreachable');
    if (isStranger || !this.#isOpen(from.peer, to)) return promise;
    this.#schedule(this.#delayMs(from.peer, to), target.life, `is asked by ${from.life.name} for ${protocol}`, () => {
      const stream = this.#accept(from, target, protocol);
      const backMs = this.#delayMs(to, from.peer);
      if (stream === undefined) fail(backMs, 'protocol-unsupported');
      if (stream === undefined || !this.#isOpen(to, from.peer)) return;
      this.#schedule(backMs, from.life, `reached ${target.life.name}`, () => {
        if (isSettled) stream.abort(new Error('nobody waits for it any more'));
        if (this.#nodes.get(to) === target) this.#connect(from, to);
        settle(() => resolve(stream));
      });
    });
    return promise;
  }

  /** A connection is kept for a moment to those who were removed. */
  #mayTalk(from: Node, to: Node): boolean {
    const isConnected = from.connected.has(to.peer) && to.connected.has(from.peer);
    return isConnected || (from.knows(to.peer) && to.knows(from.peer));
  }

  /** The target serves a new stream. @returns the asking side's end. */
  #accept(from: Node, target: Node, protocol: string): MessageStream | undefined {
    const handler = target.handlers.get(protocol);
    if (handler === undefined) return undefined;
    const { ours, theirs, link } = createStream({
      ...{ near: from, far: target, protocol, nowMs: () => this.#init.time.nowMs },
      isLost: (sender, receiver) => this.#isLost(sender, receiver),
      delayMs: (sender, receiver) => this.#delayMs(sender.peer, receiver.peer),
      noticeMs: () => this.#between(noticeMs),
      schedule: (delayMs, node, label, run) => this.#schedule(delayMs, node.life, label, run),
      onSend: (sender, receiver, bytes) => {
        if (protocol === consensusProtocol && this.#init.chance.happens(0.05))
          this.#oldFrames.set(`${sender.peer}>${receiver.peer}`, bytes);
        return this.#init.onSend(sender.peer, protocol, bytes);
      },
      onGone: () => this.#links.delete(link),
    });
    this.#links.add(link);
    this.#serve(target, handler, theirs, `${from.peer} ${protocol}`);
    const old = protocol === consensusProtocol ? this.#oldFrames.get(`${from.peer}>${target.peer}`) : undefined;
    if (old !== undefined && this.#init.chance.happens(0.5)) {
      this.#init.count('framesRepeated');
      link.deliver(target, old);
    }
    return ours;
  }

  #serve(target: Node, handler: { run: Handler; streamsMax: number }, stream: MessageStream, key: string): void {
    const open = (target.serving.get(key) ?? 0) + 1;
    if (open > handler.streamsMax) {
      stream.abort(new Error('too many streams'));
      return;
    }
    target.serving.set(key, open);
    handler
      .run(stream)
      .then(
        () => stream.close(),
        (error: unknown) => stream.abort(error as Error),
      )
      .finally(() => target.serving.set(key, (target.serving.get(key) ?? 1) - 1));
  }

  #isLost(from: Node, to: Node): boolean {
    const isGone = this.#nodes.get(from.peer) !== from || this.#nodes.get(to.peer) !== to;
    if (isGone || !this.#isOpen(from.peer, to.peer)) return true;
    if (!this.#init.chance.happens(this.lossRate)) return false;
    this.#init.count('messagesLost');
    return true;
  }
}
