// Owns the sending of this peer's own beat: to every voter that it is connected to, each period and at once on a change.
// One stream per voter is kept open; a slow voter gets the newest beat when it has room, never a queue of old ones.

import { type Beat, beatPeriodMs, beatProtocol } from '../../protocols/beat.ts';
import { encode } from '../../protocols/codec.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Clock, Logger, Mesh, MessageStream, Startable } from '../interfaces.ts';

/** Between two beats: a fetch changes its progress far more often than anybody looks. */
const beatSpacingMs = 250;
/** To open a stream to a connected peer; a voter that needs longer gets the next beat. */
const openTimeoutMs = 5_000;

/** What the peer says about itself; the rest of the beat is added here. */
export type BeatFacts = Omit<Beat, 'version' | 'atMs' | 'release' | 'ledgerIndex'>;

export interface BeatsInit {
  /** This program's version. */
  readonly release: string;
}

export interface BeatsComponents {
  readonly mesh: Pick<Mesh, 'self' | 'open' | 'connectedPeers' | 'onPeerChange'>;
  readonly ledger: { state(): LedgerState };
  readonly clock: Clock;
  readonly logger: Logger;
  readonly facts: () => BeatFacts;
  /** Takes the peer's own beat as well, so that its own views show it. */
  readonly recordOwn: (beat: Beat) => void;
}

export interface Beats extends Startable {
  /** Something in the facts changed: beats soon, at most once in 250 ms. */
  changed(): void;
}

interface Line {
  stream: MessageStream | undefined;
  busy: boolean;
  /** A beat is due as soon as the line is free. */
  due: boolean;
}

export const createBeats =
  (init: BeatsInit) =>
  (components: BeatsComponents): Beats => {
    const { mesh, ledger, clock, logger } = components;
    const lines = new Map<string, Line>();
    let running: AbortController | undefined;
    let stopTimers: (() => void)[] = [];
    let cancelSoon: (() => void) | undefined;
    let lastBeatMs = Number.NEGATIVE_INFINITY;

    function compose(): Beat {
      const facts = components.facts();
      return { version: 1, atMs: clock.nowMs(), release: init.release, ledgerIndex: ledger.state().index, ...facts };
    }

    const isVoter = (peer: string): boolean => ledger.state().members[peer]?.roles.includes('voter') ?? false;

    function connectedVoters(): string[] {
      const connected = mesh.connectedPeers().map(({ peer }) => peer);
      return connected.filter((peer) => peer !== mesh.self && isVoter(peer));
    }

    function beat(): void {
      if (running === undefined) return;
      lastBeatMs = clock.monotonicMs();
      components.recordOwn(compose());
      for (const peer of connectedVoters()) sendTo(peer, running.signal);
    }

    function sendTo(peer: string, signal: AbortSignal): void {
      const line = lines.get(peer) ?? { stream: undefined, busy: false, due: false };
      lines.set(peer, line);
      line.due = true;
      if (line.busy) return;
      line.busy = true;
      drain(peer, line, signal)
        .catch((error: unknown) => {
          logger.debug({ peer, error: (error as Error).message }, 'a beat did not reach a voter');
          line.stream = undefined;
        })
        .finally(() => {
          line.busy = false;
        });
    }

    async function drain(peer: string, line: Line, signal: AbortSignal): Promise<void> {
      while (line.due && !signal.aborted) {
        line.due = false;
        const opening = AbortSignal.any([signal, AbortSignal.timeout(openTimeoutMs)]);
        line.stream ??= await mesh.open(peer, beatProtocol, { signal: opening });
        await line.stream.send(encode(compose()));
      }
    }

    function drop(peer: string): void {
      lines.get(peer)?.stream?.abort(new Error('the beat line is closed'));
      lines.delete(peer);
    }

    function soon(): void {
      if (running === undefined || cancelSoon !== undefined) return;
      const delayMs = Math.max(0, lastBeatMs + beatSpacingMs - clock.monotonicMs());
      cancelSoon = clock.after(delayMs, () => {
        cancelSoon = undefined;
        beat();
      });
    }

    return {
      async start() {
        if (running !== undefined) return;
        running = new AbortController();
        stopTimers = [
          clock.every(beatPeriodMs, beat),
          mesh.onPeerChange((peer, connected) => {
            if (!connected) drop(peer);
            // Others are sent none: a storm of members is no reason to beat.
            else if (isVoter(peer)) soon();
          }),
        ];
        soon();
      },
      async stop() {
        running?.abort();
        running = undefined;
        cancelSoon?.();
        cancelSoon = undefined;
        for (const stop of stopTimers) stop();
        for (const peer of [...lines.keys()]) drop(peer);
      },
      changed: soon,
    };
  };
