// Owns what this peer knows about who is there: connections and beats of the members. Volatile, never proof of anything:
// it only decides whom it is worth asking, and what views say about reachability.

import { type Beat, beatBytesMax, beatPeriodMs, beatProtocol, beatSchema } from '../../protocols/beat.ts';
import { decode } from '../../protocols/codec.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';

/** A beat older than three periods counts as absence. */
const beatAgeMsMax = 3 * beatPeriodMs;
/** Connections drop and come back; a peer that is gone for longer is offline, whatever its last beat said. */
const reconnectGraceMs = 5_000;
/** A peer's beats come over one stream that it keeps; a few more while it opens a new one. */
const beatStreamsMax = 4;

export interface PeerPresence {
  readonly online: boolean;
  /** Wall clock of the last sign of life; null when there was none since this peer started. */
  readonly lastSeenMs: number | null;
  readonly beat: Beat | null;
}

export interface Presence {
  of(peer: string): PeerPresence;
  /**
   * Called with the peer when a beat came, or when it came online or went offline; `turned` says that it did. Returns the
   * function that unsubscribes.
   */
  onChange(listener: (peer: string, turned: boolean) => void): () => void;
  /** Takes this peer's own beat, which never crosses the mesh. */
  recordOwn(beat: Beat): void;
  start(): void;
  stop(): void;
}

export interface PresenceComponents {
  readonly mesh: Pick<Mesh, 'self' | 'handle' | 'connectedPeers' | 'onPeerChange'>;
  readonly ledger: { state(): LedgerState };
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Sighting {
  beat: Beat | null;
  beatMonotonicMs: number;
  seenMs: number;
  /** When the newest connection came up; it may be gone since `lostAtMs`. */
  connectedAtMs: number | undefined;
  lostAtMs: number | undefined;
}

export function createPresence(components: PresenceComponents): Presence {
  const { mesh, ledger, clock, logger } = components;
  const sightings = new Map<string, Sighting>();
  const listeners = new Set<(peer: string, turned: boolean) => void>();
  const graceTimers = new Map<string, () => void>();
  let unsubscribe: (() => void) | undefined;
  let stopSweep: (() => void) | undefined;
  const lastOnline = new Map<string, boolean>();

  function sightingOf(peer: string): Sighting {
    let sighting = sightings.get(peer);
    if (sighting === undefined) {
      sighting = { beat: null, beatMonotonicMs: 0, seenMs: 0, connectedAtMs: undefined, lostAtMs: undefined };
      sightings.set(peer, sighting);
    }
    return sighting;
  }

  function tell(peer: string): void {
    const online = isOnline(peer);
    const turned = online !== (lastOnline.get(peer) ?? false);
    lastOnline.set(peer, online);
    for (const listener of listeners) listener(peer, turned);
  }

  function isOnline(peer: string): boolean {
    if (peer === mesh.self) return true;
    const sighting = sightings.get(peer);
    if (sighting === undefined) return false;
    const now = clock.monotonicMs();
    if (sighting.connectedAtMs === undefined) return false;
    const isHere = sighting.lostAtMs === undefined || now - sighting.lostAtMs < reconnectGraceMs;
    return isHere && now - Math.max(sighting.beatMonotonicMs, sighting.connectedAtMs) < beatAgeMsMax;
  }

  function onConnection(peer: string, connected: boolean): void {
    const sighting = sightingOf(peer);
    sighting.seenMs = clock.nowMs();
    graceTimers.get(peer)?.();
    graceTimers.delete(peer);
    if (connected) {
      sighting.connectedAtMs = clock.monotonicMs();
      sighting.lostAtMs = undefined;
    } else {
      sighting.lostAtMs = clock.monotonicMs();
      graceTimers.set(
        peer,
        clock.after(reconnectGraceMs + 1, () => onGraceOver(peer)),
      );
    }
    tell(peer);
  }

  function onGraceOver(peer: string): void {
    graceTimers.delete(peer);
    tell(peer);
  }

  /** Frozen peers keep their connections: their beats stop. Also forgets peers that are no members (any more). */
  function sweep(): void {
    const { members } = ledger.state();
    for (const [peer, sighting] of sightings) {
      if (members[peer] === undefined && isGone(sighting)) {
        sightings.delete(peer);
        lastOnline.delete(peer);
      } else if (lastOnline.get(peer) !== isOnline(peer)) tell(peer);
    }
  }

  function isGone({ connectedAtMs, lostAtMs }: Sighting): boolean {
    return (
      connectedAtMs === undefined || (lostAtMs !== undefined && clock.monotonicMs() - lostAtMs >= reconnectGraceMs)
    );
  }

  function record(peer: string, beat: Beat): void {
    const sighting = sightingOf(peer);
    sighting.beat = beat;
    sighting.beatMonotonicMs = clock.monotonicMs();
    sighting.seenMs = clock.nowMs();
    tell(peer);
  }

  async function receiveBeats(stream: MessageStream): Promise<void> {
    for (let bytes = await stream.receive(); bytes !== undefined; bytes = await stream.receive()) {
      const beat = decode(beatSchema, bytes, beatBytesMax, 'beat');
      if (ledger.state().members[stream.peer] !== undefined) record(stream.peer, beat);
    }
    await stream.close();
  }

  return {
    of(peer) {
      const sighting = sightings.get(peer);
      const online = isOnline(peer);
      if (peer === mesh.self) return { online, lastSeenMs: clock.nowMs(), beat: sighting?.beat ?? null };
      return { online, lastSeenMs: sighting === undefined ? null : sighting.seenMs, beat: sighting?.beat ?? null };
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    recordOwn: (beat) => record(mesh.self, beat),
    start() {
      if (unsubscribe !== undefined) return;
      unsubscribe = mesh.onPeerChange(onConnection);
      for (const { peer } of mesh.connectedPeers()) onConnection(peer, true);
      mesh.handle(beatProtocol, receiveBeats, { inboundStreamsMax: beatStreamsMax, messageBytesMax: beatBytesMax });
      stopSweep = clock.every(beatPeriodMs, sweep);
      logger.debug({ protocol: beatProtocol }, 'beats are taken');
    },
    stop() {
      unsubscribe?.();
      unsubscribe = undefined;
      stopSweep?.();
      for (const cancel of graceTimers.values()) cancel();
      graceTimers.clear();
    },
  };
}
