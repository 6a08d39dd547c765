// Owns the table of open connections: which peer has which, which of two survives, how long strangers stay, and when a peer
// counts as connected. A connection is gone for us when we drop it, whatever libp2p still does with it.

import type { Libp2p } from 'libp2p';
import type { Clock, ConnectedPeer, Logger } from '../interfaces.ts';
import { cutConnection } from './cut-connection.ts';
import type { Connection } from './host.ts';

/** Strangers with a connection at once: each is somebody who joins, or tries to. */
const strangersMax = 8;
/** A join takes about a second; longer is somebody who holds the place. */
const strangerStayMs = 30_000;

/** Removed peers that hear of it at once, and strangers that are asked. */
const informedMax = 4;
/** A voter that was removed asks others once it has heard no leader for 5 s; the proofs take a moment. */
const informedStayMs = 15_000;
/** It comes once to hear that it votes no more, and once as a member to hear that it is none; once more for bad luck. */
const informedVisitsMax = 3;
const informedPeriodMs = 600_000;
/** Strangers come without end: so many are remembered. */
const visitorsMax = 1_024;

/** Of two connections the older stays if it gives a sign of life within this time. */
const duelMs = 3_000;
/** What the newer one was opened for (a fresh dial's question) may end first; shorter than a duel. */
const lingerMs = 2_000;

/** The entry that removes a peer, and its certificate, reach it in this time. */
const farewellMs = 5_000;

interface Link {
  readonly connection: Connection;
  readonly ended: AbortController;
  rttMs: number | undefined;
  /** Called at the next sign of life while a newer connection waits for the decision. */
  onAlive: (() => void) | undefined;
}

export interface LinksComponents {
  readonly self: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly isMember: (peer: string) => boolean;
  readonly wasRemoved: (peer: string) => boolean;
  readonly joinsOpen: () => boolean;
  readonly asksStrangers: () => boolean;
}

export interface LinksEvents {
  /** A connection of a member, of one that was, or of a stranger to be asked is up, until the signal says that it is gone. `onRtt` takes what is measured on it. */
  readonly onLink: (connection: Connection, onRtt: (rttMs: number) => void, signal: AbortSignal) => void;
  /** Asks the connection's other side for a sign of life now. */
  readonly probe: (connection: Connection) => void;
  /** A member's first connection opened or its last one closed. */
  readonly onPeer: (peer: string, connected: boolean) => void;
  /** A stranger has come in to be asked: for a moment best() gives its connection. */
  readonly onStranger: (peer: string) => void;
}

export interface Links {
  /** Follows a host that is about to start. */
  watch(host: Libp2p): void;
  /** True while this peer, which is no member, may come in: to join, to be asked, or to hear that it was removed. */
  hasRoomFor(peer: string): boolean;
  /** The connection that new streams to a member, or to a stranger that is asked, go over. */
  best(peer: string): Connection | undefined;
  isConnected(peer: string): boolean;
  list(): ConnectedPeer[];
  /** How many peers list() would name. */
  count(): number;
  /**
   * Membership changed: drops who left, after a moment. A stranger that has become a member stays one on this connection, over which it
   * still reads its grant; its mesh comes with a connection of its own.
   */
  review(): void;
  /** The other side runs no mesh: a member that joins once more, or one that was and comes back with an invite. */
  demote(connection: Connection): void;
  drop(connection: Connection, reason: Error): void;
  /** What it was opened for is over: it goes unless it is the peer's only one. */
  release(connection: Connection): void;
  dropAll(reason: Error): void;
}

export function createLinks(components: LinksComponents, events: LinksEvents): Links {
  const { self, clock, logger, isMember, wasRemoved, joinsOpen, asksStrangers } = components;
  const members = new Map<string, Link[]>();
  const strangers = new Map<Connection, () => void>();
  /** Connections of peers that are no members any more: they end in a moment. */
  const dismissed = new Map<Connection, () => void>();
  /** Connections of peers that were removed while they were away, and of strangers that are asked. */
  const informed = new Map<Connection, () => void>();
  const visitsAtMs = new Map<string, readonly number[]>();
  let host: Libp2p | undefined;

  function opened(connection: Connection): void {
    const peer = connection.remotePeer.toString();
    if (isMember(peer)) addLink(peer, connection);
    else if (mayBeInformed(peer)) inform(peer, connection);
    else if (mayJoin()) addStranger(connection);
    else drop(connection, new Error('not a member'));
  }

  const mayJoin = (): boolean => joinsOpen() && strangers.size < strangersMax;

  function mayBeInformed(peer: string): boolean {
    if (!(wasRemoved(peer) || asksStrangers()) || informed.size >= informedMax) return false;
    return visitsOf(peer).length < informedVisitsMax;
  }

  function visitsOf(peer: string): readonly number[] {
    return (visitsAtMs.get(peer) ?? []).filter((atMs) => clock.monotonicMs() - atMs < informedPeriodMs);
  }

  /** It takes part in nothing, but its own mesh wants a sign of life. */
  function inform(peer: string, connection: Connection): void {
    const ended = new AbortController();
    const cancel = clock.after(informedStayMs, () => drop(connection, new Error('no longer a member')));
    informed.set(connection, () => {
      cancel();
      ended.abort(new Error('the connection is gone'));
    });
    const visits = [...visitsOf(peer), clock.monotonicMs()];
    visitsAtMs.delete(peer);
    visitsAtMs.set(peer, visits);
    const [longestAgo] = visitsAtMs.keys();
    if (visitsAtMs.size > visitorsMax && longestAgo !== undefined) visitsAtMs.delete(longestAgo);
    events.onLink(connection, () => undefined, ended.signal);
    if (!wasRemoved(peer)) events.onStranger(peer);
  }

  function addStranger(connection: Connection): void {
    const cancel = clock.after(strangerStayMs, () => drop(connection, new Error('stayed too long without joining')));
    strangers.set(connection, cancel);
  }

  function addLink(peer: string, connection: Connection): void {
    const link: Link = { connection, ended: new AbortController(), rttMs: undefined, onAlive: undefined };
    const [older] = members.get(peer) ?? [];
    members.set(peer, [...(members.get(peer) ?? []), link]);
    const onRtt = (rttMs: number) => {
      link.rttMs = rttMs;
      link.onAlive?.();
    };
    events.onLink(connection, onRtt, link.ended.signal);
    if (older === undefined) events.onPeer(peer, true);
    else decide(peer, older, link);
  }

  /**
   * After a simultaneous dial both connections live: the older stays, its streams with it. When the peer lost its power and
   * came back, the older is dead: it goes. The side with the smaller id asks and decides; the other side has a dead
   * connection that the decider knows nothing of if it is left with two.
   */
  function decide(peer: string, older: Link, newer: Link): void {
    const decides = self < peer;
    let cancel = clock.after(decides ? duelMs : 2 * duelMs, () => {
      older.onAlive = undefined;
      drop(older.connection, new Error('silent while a newer connection is up'));
    });
    for (const { ended } of [older, newer]) ended.signal.addEventListener('abort', () => cancel(), { once: true });
    if (!decides) return;
    older.onAlive = () => {
      older.onAlive = undefined;
      cancel();
      cancel = clock.after(lingerMs, () => drop(newer.connection, new Error('one connection is enough')));
    };
    events.probe(older.connection);
  }

  function closed(connection: Connection): void {
    for (const passing of [strangers, dismissed, informed]) {
      passing.get(connection)?.();
      passing.delete(connection);
    }
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
    cutConnection(connection, reason);
  }

  /** A peer that was removed may still read that it was, over the streams that are open; it opens no more. */
  function dismiss(peer: string, links: readonly Link[]): void {
    members.delete(peer);
    for (const { connection, ended } of links) {
      ended.abort(new Error('no longer a member'));
      dismissed.set(
        connection,
        clock.after(farewellMs, () => drop(connection, new Error('no longer a member'))),
      );
    }
    events.onPeer(peer, false);
  }

  function stranger(peer: string): Connection | undefined {
    if (!asksStrangers() || wasRemoved(peer)) return undefined;
    return [...informed.keys()].find(({ remotePeer, status }) => remotePeer.toString() === peer && status === 'open');
  }

  /** libp2p remembers every peer that it has met; strangers come without end. */
  function forget({ remotePeer }: Connection): void {
    host?.peerStore.delete(remotePeer).catch((error) => logger.debug({ error: String(error) }, 'cannot forget a peer'));
  }

  function allConnections(): Connection[] {
    return [
      ...strangers.keys(),
      ...dismissed.keys(),
      ...informed.keys(),
      ...[...members.values()].flat().map(({ connection }) => connection),
    ];
  }

  return {
    watch(next) {
      host = next;
      next.addEventListener('connection:open', ({ detail }) => opened(detail));
      next.addEventListener('connection:close', ({ detail }) => closed(detail));
    },
    hasRoomFor: (peer) => mayBeInformed(peer) || mayJoin(),
    best: (peer) =>
      members.get(peer)?.find(({ connection }) => connection.status === 'open')?.connection ?? stranger(peer),
    isConnected: (peer) => members.has(peer),
    list: () => [...members].map(([peer, links]) => describe(peer, links)),
    count: () => members.size,
    review() {
      for (const [peer, links] of [...members]) if (!isMember(peer)) dismiss(peer, links);
      for (const connection of [...informed.keys()]) {
        if (isMember(connection.remotePeer.toString())) drop(connection, new Error('it comes back as a member'));
      }
    },
    demote(connection) {
      if (informed.has(connection) && !mayJoin()) return drop(connection, new Error('it runs no mesh'));
      closed(connection);
      addStranger(connection);
    },
    drop,
    release(connection) {
      const links = members.get(connection.remotePeer.toString()) ?? [];
      if (links.length > 1) drop(connection, new Error('what it was opened for is over'));
    },
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
