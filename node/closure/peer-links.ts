// Owns our ends of exchange streams to other peers: at most four requests at a time to each, streams kept for a moment
// between requests because opening one costs round trips, and whatever was left in the middle of an answer dropped.

import { type ClosureRequest, closureProtocol } from '../../protocols/closure-exchange.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { membersMax } from '../../protocols/limits.ts';
import type { Clock, Mesh, MessageStream } from '../interfaces.ts';
import { converse, createWatchdog, type Link } from './conversation.ts';
import { createSlots, type Slots } from './slots.ts';

/** Units in flight from one peer: enough to hide a round trip, few enough that a death wastes little. */
const requestsPerPeerMax = 4;
const waitersPerPeerMax = 1_024;
const openTimeoutMs = 5_000;
const idleTimeoutMs = 10_000;

/** `bulk` carries units; `question` has its own stream so that answers do not wait behind bulk. */
export type LaneName = 'bulk' | 'question';

export interface AskRequest {
  readonly peer: string;
  readonly lane: LaneName;
  /** Made when a slot is free, so that an offset is the newest one; what it throws ends the request. */
  readonly request: () => ClosureRequest;
  readonly signal: AbortSignal;
}

export interface PeerLinks {
  /**
   * Sends a request when a slot is free and hands the answers to `read`, which must read to the end of the answer.
   * @throws ParleyError `peer-unreachable`, `busy`, those of Link.next, and the signal's reason.
   */
  ask<T>(ask: AskRequest, read: (link: Link) => Promise<T>): Promise<T>;
  stop(): void;
}

interface IdleStream {
  readonly stream: MessageStream;
  readonly cancelTimer: () => void;
}

interface Lane {
  readonly slots: Slots;
  readonly idle: Set<IdleStream>;
}

export interface PeerLinksComponents {
  readonly mesh: Pick<Mesh, 'open'>;
  readonly clock: Clock;
}

export function createPeerLinks(components: PeerLinksComponents): PeerLinks {
  const { clock } = components;
  const lanes = new Map<string, Lane>();
  const lives = new Map<string, { heardMs: number }>();

  function laneOf({ peer, lane }: AskRequest): Lane {
    const key = `${lane} ${peer}`;
    const known = lanes.get(key);
    if (known !== undefined) return known;
    const slotsMax = lane === 'bulk' ? requestsPerPeerMax : 1;
    const slots = createSlots({ what: `a request to ${peer}`, slotsMax, waitersMax: waitersPerPeerMax });
    if (lanes.size >= 2 * membersMax) lanes.clear();
    const fresh: Lane = { slots, idle: new Set() };
    lanes.set(key, fresh);
    return fresh;
  }

  function lifeOf(peer: string): { heardMs: number } {
    const life = lives.get(peer) ?? { heardMs: Number.NEGATIVE_INFINITY };
    if (lives.size >= membersMax) lives.clear();
    lives.set(peer, life);
    return life;
  }

  function keep(lane: Lane, stream: MessageStream): void {
    const cancelTimer = clock.after(idleTimeoutMs, () => {
      lane.idle.delete(idle);
      stream.close().catch((error: Error) => stream.abort(error));
    });
    const idle: IdleStream = { stream, cancelTimer };
    lane.idle.add(idle);
  }

  function takeIdle(lane: Lane): MessageStream | undefined {
    const [idle] = lane.idle;
    if (idle === undefined) return undefined;
    lane.idle.delete(idle);
    idle.cancelTimer();
    return idle.stream;
  }

  return {
    async ask(ask, read) {
      const lane = laneOf(ask);
      const life = lifeOf(ask.peer);
      const giveBack = await lane.slots.take(ask.signal);
      try {
        for (;;) {
          const request = ask.request();
          const reused = takeIdle(lane);
          const stream = reused ?? (await openStream(components, ask.peer, ask.signal));
          const outcome = await converse({ stream, request, clock, signal: ask.signal, life }, read);
          if (outcome.ended) keep(lane, stream);
          else stream.abort(new Error('the request was dropped'));
          if (!('error' in outcome)) return outcome.value;
          const wasStale = reused !== undefined && !outcome.answered && isClosed(outcome.error);
          if (!wasStale) throw outcome.error;
        }
      } finally {
        giveBack();
      }
    },

    stop() {
      for (const lane of lanes.values()) {
        for (const { stream, cancelTimer } of lane.idle) {
          cancelTimer();
          stream.abort(new Error('the peer is stopping'));
        }
        lane.idle.clear();
      }
    },
  };
}

async function openStream(
  { mesh, clock }: PeerLinksComponents,
  peer: string,
  signal: AbortSignal,
): Promise<MessageStream> {
  const watch = createWatchdog(clock, signal);
  try {
    watch.feed(openTimeoutMs);
    return await mesh.open(peer, closureProtocol, { signal: watch.signal });
  } catch (cause) {
    signal.throwIfAborted();
    if (!watch.signal.aborted) throw cause;
    const message = `no stream to ${peer}: none within ${openTimeoutMs} ms`;
    throw new ParleyError('peer-unreachable', message, { retryable: true, cause });
  } finally {
    watch.stop();
  }
}

function isClosed(error: unknown): boolean {
  return error instanceof ParleyError && error.code === 'stream-closed';
}
