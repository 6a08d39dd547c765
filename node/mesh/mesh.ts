// Owns the mesh: one libp2p host, connections to all wanted members, streams of messages over them. The parts beside this
// file each do one thing; here they are joined behind the Mesh interface.

import type { Libp2p } from 'libp2p';
import { ParleyError } from '../../protocols/errors.ts';
import { livenessBytesMax, livenessProtocol } from '../../protocols/liveness.ts';
import type { Clock, Logger, Mesh, MessageStream, RandomBytes } from '../interfaces.ts';
import { createAddressBook } from './address-book-core.ts';
import { createDialer } from './dialer.ts';
import { createHandlers, outboundStreamsMax } from './handlers.ts';
import type { Connection } from './host.ts';
import { identityFromSeed } from './identity.ts';
import { createLinks } from './links.ts';
import { answerWhileAlive, askWhileAlive, type LivenessEvents } from './liveness.ts';
import { createTraffic } from './traffic.ts';

/** Who belongs to the mesh; the ledger knows. */
export interface MeshMembers {
  isMember(peer: string): boolean;
  /** True while an invite is open: strangers may connect, for the join protocol only. */
  joinsOpen(): boolean;
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
  return ({ clock, logger, random, members }) => {
    const self = identityFromSeed(init.privateKey).peer;
    const isMember = (peer: string) => members.isMember(peer);
    const book = createAddressBook();
    const traffic = createTraffic();
    const handlers = createHandlers({ clock, logger, traffic, isMember });
    const listeners = new Set<(peer: string, connected: boolean) => void>();
    const dials = new Map<string, Promise<void>>();
    let host: Libp2p | undefined;
    let unsubscribe: (() => void) | undefined;

    const links = createLinks(
      { self, clock, logger, isMember, joinsOpen: () => members.joinsOpen() },
      {
        onLink: (connection, signal, setRtt) => {
          const peer = connection.remotePeer.toString();
          if (connection.direction === 'outbound') book.worked(peer, connection.remoteAddr.toString());
          if (self < peer) void keepAsking(connection, signal, setRtt);
          else rttSetters.set(connection, setRtt);
          signal.addEventListener('abort', () => rttSetters.delete(connection), { once: true });
        },
        onPeer: (peer, connected) => {
          logger.info({ peer, connected }, connected ? 'peer connected' : 'peer disconnected');
          if (!connected) dialer.lost(peer);
          for (const listener of listeners) listener(peer, connected);
        },
      },
    );
    const rttSetters = new Map<Connection, (rttMs: number) => void>();
    const dialer = createDialer({ self, clock, random, isConnected: links.isConnected, dial: dialOnce });
    const liveness = { clock, addresses, connectionCount: () => links.list().length };

    function addresses(): string[] {
      const all = (host?.getMultiaddrs() ?? []).map(String);
      const beyondLoopback = all.filter((address) => !/^\/(ip4\/127\.|ip6\/::1\/)/.test(address));
      return beyondLoopback.length > 0 ? beyondLoopback : all;
    }

    function livenessEvents(connection: Connection, setRtt: (rttMs: number) => void): LivenessEvents {
      const peer = connection.remotePeer.toString();
      return { onRtt: setRtt, onAddresses: (told) => book.tell(peer, told) };
    }

    async function keepAsking(connection: Connection, signal: AbortSignal, setRtt: (rttMs: number) => void) {
      try {
        const stream = await openOn(connection, livenessProtocol, signal);
        await askWhileAlive(stream, liveness, livenessEvents(connection, setRtt), signal);
      } catch (error) {
        if (!signal.aborted) links.drop(connection, error instanceof Error ? error : new Error(String(error)));
      }
    }

    handlers.add(
      livenessProtocol,
      async (stream, connection) => {
        const ended = new AbortController();
        const setRtt = rttSetters.get(connection) ?? (() => {});
        try {
          await answerWhileAlive(stream, liveness, livenessEvents(connection, setRtt), ended.signal);
        } catch (error) {
          links.drop(connection, error instanceof Error ? error : new Error(String(error)));
          throw error;
        }
      },
      { inboundStreamsMax: 2, messageBytesMax: livenessBytesMax },
    );

    /** One attempt at all known addresses of a peer, shared by all who wait for it. */
    function dialOnce(peer: string): Promise<void> {
      let dial = dials.get(peer);
      if (dial === undefined) {
        dial = dialAll(peer).finally(() => dials.delete(peer));
        dials.set(peer, dial);
      }
      return dial;
    }

    async function dialAll(peer: string): Promise<void> {
      if (host === undefined) throw unreachable(peer, 'the mesh is not started');
      if (!members.isMember(peer)) throw unreachable(peer, 'it is no member of the fleet');
      const candidates = book.candidates(peer);
      try {
        const { dialAddresses } = await import('./host.ts');
        await dialAddresses(host, candidates);
      } catch (cause) {
        throw unreachable(peer, `tried '${candidates.join("', '")}': ${(cause as Error).message}`, cause);
      }
    }

    async function openOn(connection: Connection, protocol: string, signal: AbortSignal): Promise<MessageStream> {
      const stream = await connection.newStream([protocol], { signal, maxOutboundStreams: outboundStreamsMax });
      return handlers.wrapOutbound(stream, connection.remotePeer.toString());
    }

    function review(): void {
      links.review();
      book.keepOnly(isMember);
      traffic.keepOnly((peer) => peer === 'stranger' || members.isMember(peer));
      const wanted = members.wanted();
      for (const { peer, addresses: recorded } of wanted) book.record(peer, recorded);
      dialer.want(wanted.map(({ peer }) => peer));
    }

    function onFound(peer: string, found: string[]): void {
      if (peer === self || !members.isMember(peer)) return;
      const fresh = found.filter((address) => book.claim(peer, address));
      if (fresh.length > 0 && !links.isConnected(peer)) dialer.nudge(peer);
    }

    return {
      self,
      addresses,
      async start() {
        if (host !== undefined) return;
        // libp2p takes 40 MiB and a third of a second to load: only what runs a mesh pays for it, not every command.
        const { createHost, startHost } = await import('./host.ts');
        const { privateKey, listen, announce = [], discovery } = init;
        const gate = {
          admitsOutbound: isMember,
          admitsInbound: (peer: string) => members.isMember(peer) || links.hasRoomForStranger(),
        };
        const found = discovery === 'mdns' ? { discovery: { onFound } } : {};
        host = await createHost({ privateKey, listen, announce, gate, ...found });
        links.watch(host);
        await handlers.serve(host);
        await startHost(host, listen);
        unsubscribe = members.onChange(review);
        review();
      },
      async stop() {
        const stopping = host;
        if (stopping === undefined) return;
        host = undefined;
        unsubscribe?.();
        dialer.stop();
        links.dropAll(new Error('the mesh stops'));
        await stopping.stop();
      },
      handle: (protocol, handler, options) => handlers.add(protocol, handler, options),
      async open(peer, protocol, { signal }) {
        try {
          if (links.newest(peer) === undefined) await abortable(dialOnce(peer), signal);
          const connection = links.newest(peer);
          if (connection === undefined) throw unreachable(peer, 'the connection closed at once');
          return await openOn(connection, protocol, signal);
        } catch (cause) {
          if (cause instanceof ParleyError) throw cause;
          if (cause instanceof Error && cause.name === 'UnsupportedProtocolError') {
            throw new ParleyError('protocol-unsupported', `'${peer}' does not serve ${protocol}`, { cause });
          }
          throw unreachable(peer, `cannot open ${protocol}: ${(cause as Error).message}`, cause);
        }
      },
      connectedPeers: links.list,
      onPeerChange(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      traffic: traffic.records,
    };
  };
}

function unreachable(peer: string, state: string, cause?: unknown): ParleyError {
  const hint =
    "Check that the peer runs and that one of its addresses can be reached from here; 'parley peers' lists them.";
  return new ParleyError('peer-unreachable', `cannot reach '${peer}': ${state}`, { hint, retryable: true, cause });
}

async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', onAbort));
}
