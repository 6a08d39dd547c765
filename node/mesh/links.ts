// Owns the table of open connections: which peer has which, which of two survives, how long strangers stay, and when a peer
// counts as connected. A connection is gone for us when we drop it, whatever libp2p still does with it.

import type { Libp2p } from 'libp2p';
import type { Clock, ConnectedPeer, Logger } from '../interfaces.ts';
import type { Connection } from './host.ts';

/** Strangers with a connection at once: each is somebody who joins, or tries to. */
const strangersMax = 8;
/** A join takes about a second; longer is somebody who holds the place. */
const strangerStayMs = 30_000;
/** A WebSocket closes by a handshake; after this it is dropped. */
const closeTimeoutMs = 1_000;

interface Link {
  readonly connection: Connection;
  readonly ended: AbortController;
  rttMs: number | undefined;
}

export interface LinksComponents {
  readonly self: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly isMember: (peer: string) => boolean;
  readonly joinsOpen: () => boolean;
}

export interface LinksEvents {
  /** A member's connection is up; runs until the signal says that it is gone. `setRtt` takes what is measured on it. */
  readonly onLink: (connection: Connection, signal: AbortSignal, setRtt: (rttMs: number) => void) => void;
  /** A member's first connection opened or its last one closed. */
  readonly onPeer: (peer: string, connected: boolean) => void;
}

export interface Links {
  /** Follows a host that is about to start. */
  watch(host: Libp2p): void;
  /** True while another stranger may come in. */
  hasRoomForStranger(): boolean;
  /** The newest open connection of a member. */
  newest(peer: string): Connection | undefined;
  isConnected(peer: string): boolean;
  list(): ConnectedPeer[];
  /** Membership changed: drops who left, takes up who came. */
  review(): void;
  drop(connection: Connection, reason: Error): void;
  dropAll(reason: Error): void;
}

export function createLinks({ self, clock, logger, isMember, joinsOpen }: LinksComponents, events: LinksEvents): Links {
  const members = new Map<string, Link[]>();
  const strangers = new Map<Connection, () => void>();
  let host: Libp2p | undefined;

  function opened(connection: Connection): void {
    const peer = connection.remotePeer.toString();
    if (isMember(peer)) addLink(peer, connection);
    else if (joinsOpen() && strangers.size < strangersMax) addStranger(connection);
    else drop(connection, new Error('not a member'));
  }

  function addStranger(connection: Connection): void {
    const cancel = clock.after(strangerStayMs, () => drop(connection, new Error('stayed too long without joining')));
    strangers.set(connection, cancel);
  }

  function addLink(peer: string, connection: Connection): void {
    const link: Link = { connection, ended: new AbortController(), rttMs: undefined };
    const older = members.get(peer) ?? [];
    members.set(peer, [...older, link]);
    events.onLink(connection, link.ended.signal, (rttMs) => {
      link.rttMs = rttMs;
    });
    if (older.length === 0) events.onPeer(peer, true);
    // After a simultaneous dial, or when the peer came back before its old connection was noticed to be dead, one of the
    // two sides decides: the newest stays.
    if (self < peer) for (const { connection: old } of older) drop(old, new Error('replaced by a newer connection'));
  }

  function closed(connection: Connection): void {
    strangers.get(connection)?.();
    strangers.delete(connection);
    const peer = connection.remotePeer.toString();
    if (!isMember(peer)) forget(connection);
    const links = members.get(peer);
    const link = links?.find((candidate) => candidate.connection === connection);
    if (links === undefined || link === undefined) return;
    const rest = links.filter((candidate) => candidate !== link);
    if (rest.length > 0) members.set(peer, rest);
    else members.delete(peer);
    link.ended.abort(new Error('the connection is gone'));
    if (rest.length === 0) events.onPeer(peer, false);
  }

  function drop(connection: Connection, reason: Error): void {
    closed(connection);
    logger.debug({ peer: connection.remotePeer.toString(), reason: reason.message }, 'connection dropped');
    for (const stream of [...connection.streams]) stream.abort(reason);
    if (!connection.remoteAddr.toString().includes('/ws')) {
      connection.abort(reason);
      return;
    }
    // libp2p's WebSocket connection cannot be aborted: it closes with a status code that the standard forbids.
    connection.close({ signal: AbortSignal.timeout(closeTimeoutMs) }).catch(() => connection.abort(reason));
  }

  /** libp2p remembers every peer that it has met; strangers come without end. */
  function forget({ remotePeer }: Connection): void {
    host?.peerStore.delete(remotePeer).catch((error) => logger.debug({ error: String(error) }, 'cannot forget a peer'));
  }

  function allConnections(): Connection[] {
    return [...strangers.keys(), ...[...members.values()].flat().map(({ connection }) => connection)];
  }

  return {
    watch(next) {
      host = next;
      next.addEventListener('connection:open', ({ detail }) => opened(detail));
      next.addEventListener('connection:close', ({ detail }) => closed(detail));
    },
    hasRoomForStranger: () => joinsOpen() && strangers.size < strangersMax,
    newest: (peer) => members.get(peer)?.findLast(({ connection }) => connection.status === 'open')?.connection,
    isConnected: (peer) => members.has(peer),
    list: () => [...members].map(([peer, links]) => describe(peer, links)),
    review() {
      for (const connection of strangers.keys()) {
        const peer = connection.remotePeer.toString();
        if (!isMember(peer)) continue;
        strangers.get(connection)?.();
        strangers.delete(connection);
        addLink(peer, connection);
      }
      for (const [peer, links] of [...members]) {
        if (isMember(peer)) continue;
        for (const { connection } of links) drop(connection, new Error('no longer a member'));
      }
    },
    drop,
    dropAll(reason) {
      for (const connection of allConnections()) drop(connection, reason);
    },
  };
}

function describe(peer: string, links: readonly Link[]): ConnectedPeer {
  const addresses = links.map(({ connection }) => connection.remoteAddr.toString());
  const rttMs = links.findLast((link) => link.rttMs !== undefined)?.rttMs;
  return rttMs === undefined ? { peer, addresses } : { peer, addresses, rttMs };
}
