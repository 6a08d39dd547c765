// Owns the mesh: one libp2p host, connections to all wanted members, streams of messages over them. The parts beside this
// file each do one thing; here they are joined behind the Mesh interface.

import type { Libp2p } from 'libp2p';
import { ParleyError } from '../../protocols/errors.ts';
import { livenessBytesMax, livenessProtocol } from '../../protocols/liveness.ts';
import type {
  Clock,
  ConnectedPeer,
  HandleOptions,
  Logger,
  Mesh,
  MessageStream,
  OpenOptions,
  RandomBytes,
  TrafficRecord,
} from '../interfaces.ts';
import { type AddressBook, createAddressBook } from './address-book-core.ts';
import { createDialer, type Dialer } from './dialer.ts';
import { createHandlers, type Handlers, outboundStreamsMax } from './handlers.ts';
import type { Connection } from './host.ts';
import { identityFromSeed } from './identity.ts';
import { createLinks, type Links } from './links.ts';
import { createLiveness, type Liveness } from './liveness.ts';
import type { ManagedStream } from './streams.ts';
import { createTraffic, type Traffic } from './traffic.ts';

/** Own addresses that are told to others: as many as a member's record in the ledger holds. */
const addressesMax = 16;

/** Own addresses are looked up this often for questions of liveness: that costs more than the question itself. */
const addressesAgeMs = 1_000;

/** Who belongs to the mesh; the ledger knows. */
export interface MeshMembers {
  isMember(peer: string): boolean;
  /** True for who was removed: it may come in for a moment to hear of it. */
  wasRemoved(peer: string): boolean;
  /** True while an invite is open: strangers may connect, for the join protocol only. */
  joinsOpen(): boolean;
  /** True while nobody that this peer knows is left: strangers may come in for a moment, to be asked and nothing else. */
  asksStrangers(): boolean;
  /** Such a stranger is there. */
  meet(stranger: string): void;
  /** The members to stay connected to, with the addresses that the ledger records. */
  wanted(): readonly { readonly peer: string; readonly addresses: readonly string[] }[];
  /** Called when any of the answers above may have changed. Returns the function that unsubscribes. */
  onChange(listener: () => void): () => void;
}

export interface MeshInit {
  /** Ed25519 seed of 32 bytes (`Identity.privateKey`). */
  readonly privateKey: Uint8Array;
  /** Multiaddrs to listen on, such as `/ip4/0.0.0.0/tcp/4400` and `/ip4/0.0.0.0/tcp/4401/ws`. */
  readonly listen: readonly string[];
  /** More multiaddrs under which others reach this peer, such as a forwarded port. */
  readonly announce?: readonly string[];
  readonly discovery: 'mdns' | 'none';
}

export interface MeshComponents {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: RandomBytes;
  readonly members: MeshMembers;
}

/** Makes the mesh of a peer. It listens and dials from start() to stop(). */
export function createMesh(init: MeshInit): (components: MeshComponents) => Mesh {
  return (components) => new Libp2pMesh(init, components);
}

class Libp2pMesh implements Mesh {
  readonly self: string;
  readonly #init: MeshInit;
  readonly #members: MeshMembers;
  readonly #logger: Logger;
  readonly #book: AddressBook = createAddressBook();
  readonly #traffic: Traffic = createTraffic();
  readonly #handlers: Handlers;
  readonly #links: Links;
  readonly #liveness: Liveness;
  readonly #dialer: Dialer;
  readonly #dials = new Map<string, Promise<unknown>>();
  readonly #listeners = new Set<(peer: string, connected: boolean) => void>();
  #host: Libp2p | undefined;
  #unsubscribe: (() => void) | undefined;

  constructor(init: MeshInit, { clock, logger, random, members }: MeshComponents) {
    const self = identityFromSeed(init.privateKey).peer;
    const isMember = (peer: string) => members.isMember(peer);
    const wasRemoved = (peer: string) => members.wasRemoved(peer);
    this.self = self;
    this.#init = init;
    this.#members = members;
    this.#logger = logger;
    this.#handlers = createHandlers({ clock, logger, traffic: this.#traffic, isMember, wasRemoved });
    this.#links = createLinks(
      {
        ...{ self, clock, logger, isMember, wasRemoved },
        joinsOpen: () => members.joinsOpen(),
        asksStrangers: () => members.asksStrangers(),
      },
      {
        onLink: (connection, onRtt, signal) => this.#linked(connection, onRtt, signal),
        probe: (connection) => this.#liveness.probe(connection),
        onPeer: (peer, connected) => this.#peerChanged(peer, connected),
        onStranger: (peer) => members.meet(peer),
      },
    );
    this.#dialer = createDialer({
      self,
      clock,
      random,
      isConnected: (peer) => this.#links.isConnected(peer),
      dial: async (peer) => void (await this.#dial(peer)),
    });
    this.#liveness = createLiveness({
      self,
      clock,
      addresses: lately(clock, () => this.addresses()),
      connectionCount: () => this.#links.count(),
      open: (connection, protocol, signal) => this.#openOn(connection, protocol, signal),
      drop: (connection, reason) => this.#links.drop(connection, reason),
      onNoMesh: (connection) => this.#links.demote(connection),
      onAddresses: (peer, addresses) => isMember(peer) && this.#book.tell(peer, addresses),
    });
    // Liveness itself answers nobody but on connections that it watches.
    const limits = { inboundStreamsMax: 2, messageBytesMax: livenessBytesMax, admits: 'anyone' } as const;
    this.#handlers.add(livenessProtocol, (stream, connection) => this.#liveness.serve(stream, connection), limits);
  }

  async start(): Promise<void> {
    if (this.#host !== undefined) return;
    // libp2p takes 30 MiB and a third of a second to load: only what runs a mesh pays for it, not every command.
    const { createHost, startHost } = await import('./host.ts');
    const { privateKey, listen, announce = [], discovery } = this.#init;
    const gate = {
      admitsOutbound: (peer: string) => this.#members.isMember(peer),
      admitsInbound: (peer: string) => this.#members.isMember(peer) || this.#links.hasRoomFor(peer),
    };
    const onFound = (peer: string, addresses: string[]) => this.#found(peer, addresses);
    const host = await createHost({
      privateKey,
      listen,
      announce,
      gate,
      ...(discovery === 'mdns' ? { discovery: { onFound } } : {}),
    });
    this.#links.watch(host);
    await this.#handlers.serve(host);
    await startHost(host, listen);
    this.#host = host;
    this.#unsubscribe = this.#members.onChange(() => this.#review());
    this.#review();
  }

  async stop(): Promise<void> {
    const host = this.#host;
    if (host === undefined) return;
    this.#host = undefined;
    this.#unsubscribe?.();
    this.#dialer.stop();
    this.#links.dropAll(new Error('the mesh stops'));
    const { stopHost } = await import('./host.ts');
    await stopHost(host);
  }

  /** Loopback is left out where there is anything better: at another machine it leads elsewhere. */
  addresses(): string[] {
    const announced = new Set(this.#init.announce);
    const all = (this.#host?.getMultiaddrs() ?? []).map(String);
    const useful = all.filter((address) => !/^\/(ip4\/127\.|ip6\/::1\/)/.test(address));
    const isAnnounced = (address: string) => announced.has(address.replace(/\/p2p\/[^/]*$/, ''));
    const best = useful.length > 0 ? useful : all;
    return [...best.filter(isAnnounced), ...best.filter((address) => !isAnnounced(address))].slice(0, addressesMax);
  }

  handle(protocol: string, handler: (stream: MessageStream) => Promise<void>, options?: HandleOptions): void {
    this.#handlers.add(protocol, handler, options);
  }

  async open(peer: string, protocol: string, { signal, fresh = false }: OpenOptions): Promise<MessageStream> {
    try {
      if (fresh) return await this.#openAfresh(peer, protocol, signal);
      if (this.#links.best(peer) === undefined) await abortable(this.#dial(peer), signal);
      const connection = this.#links.best(peer);
      if (connection === undefined) throw unreachable(peer, 'the connection closed at once');
      return await this.#openOn(connection, protocol, signal);
    } catch (cause) {
      if (cause instanceof ParleyError) throw cause;
      if (cause instanceof Error && cause.name === 'UnsupportedProtocolError') {
        throw new ParleyError('protocol-unsupported', `'${peer}' does not serve ${protocol}`, { cause });
      }
      throw unreachable(peer, `cannot open ${protocol}: ${(cause as Error).message}`, cause);
    }
  }

  connectedPeers(): ConnectedPeer[] {
    return this.#links.list();
  }

  onPeerChange(listener: (peer: string, connected: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  traffic(): TrafficRecord[] {
    return this.#traffic.records();
  }

  #linked(connection: Connection, onRtt: (rttMs: number) => void, signal: AbortSignal): void {
    const peer = connection.remotePeer.toString();
    if (connection.direction === 'outbound') this.#book.worked(peer, connection.remoteAddr.toString());
    this.#liveness.watch(connection, onRtt, signal);
  }

  #peerChanged(peer: string, connected: boolean): void {
    this.#logger.info({ peer }, connected ? 'peer connected' : 'peer disconnected');
    if (connected) this.#dialer.gained(peer);
    else this.#dialer.lost(peer);
    for (const listener of this.#listeners) listener(peer, connected);
  }

  /** Follows the ledger: who may stay, who is to be dialled, and where. */
  #review(): void {
    const isMember = (peer: string) => this.#members.isMember(peer);
    this.#links.review();
    this.#book.keepOnly(isMember);
    this.#traffic.keepOnly(isMember);
    const wanted = this.#members.wanted().filter(({ peer }) => peer !== this.self);
    for (const { peer, addresses } of wanted) this.#book.record(peer, addresses);
    this.#dialer.want(wanted.map(({ peer }) => peer));
  }

  #found(peer: string, addresses: string[]): void {
    if (peer === this.self || !this.#members.isMember(peer)) return;
    const fresh = addresses.filter((address) => this.#book.claim(peer, address));
    if (fresh.length > 0 && !this.#links.isConnected(peer)) this.#dialer.nudge(peer);
  }

  /** One attempt at all known addresses of a peer, shared by all who wait for it. */
  #dial(peer: string): Promise<unknown> {
    let dial = this.#dials.get(peer);
    if (dial === undefined) {
      dial = this.#dialKnown(peer).finally(() => this.#dials.delete(peer));
      // All who waited may have given up before it fails.
      dial.catch(() => undefined);
      this.#dials.set(peer, dial);
    }
    return dial;
  }

  async #dialKnown(
    peer: string,
    options: { readonly signal?: AbortSignal; readonly force?: boolean } = {},
  ): Promise<Connection> {
    if (this.#host === undefined) throw unreachable(peer, 'the mesh is not started');
    if (!this.#members.isMember(peer)) throw unreachable(peer, 'it is no member of the fleet');
    const candidates = this.#book.candidates(peer);
    try {
      const { dialAddresses } = await import('./host.ts');
      return await dialAddresses(this.#host, candidates, options);
    } catch (cause) {
      throw unreachable(peer, `tried '${candidates.join("', '")}': ${(cause as Error).message}`, cause);
    }
  }

  /** A stream on a connection of its own, which ends with it. */
  async #openAfresh(peer: string, protocol: string, signal: AbortSignal): Promise<MessageStream> {
    const connection = await this.#dialKnown(peer, { signal, force: true });
    const release = () => this.#links.release(connection);
    try {
      const stream = await this.#openOn(connection, protocol, signal);
      void stream.ended.then(release);
      return stream;
    } catch (error) {
      release();
      throw error;
    }
  }

  async #openOn(connection: Connection, protocol: string, signal: AbortSignal): Promise<ManagedStream> {
    const stream = await connection.newStream([protocol], { signal, maxOutboundStreams: outboundStreamsMax });
    return this.#handlers.wrapOutbound(stream, connection.remotePeer.toString());
  }
}

/** Keeps an answer for a moment. */
function lately<T>(clock: Pick<Clock, 'monotonicMs'>, look: () => T): () => T {
  let kept: { readonly value: T; readonly untilMs: number } | undefined;
  return () => {
    const nowMs = clock.monotonicMs();
    if (kept === undefined || kept.untilMs <= nowMs) kept = { value: look(), untilMs: nowMs + addressesAgeMs };
    return kept.value;
  };
}

function unreachable(peer: string, state: string, cause?: unknown): ParleyError {
  const hint = 'Check that the peer runs and that one of its addresses can be reached from here.';
  return new ParleyError('peer-unreachable', `cannot reach '${peer}': ${state}`, { hint, retryable: true, cause });
}

async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', onAbort));
}
