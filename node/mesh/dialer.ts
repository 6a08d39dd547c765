// Owns the wish to be connected: every wanted peer that is not connected is dialled again and again, with a pause that
// grows, and at once when something new is known about it.

import type { Clock, RandomBytes } from '../interfaces.ts';

const pauseMsMin = 250;
const pauseMsMax = 10_000;
/** The peer with the larger id waits this much longer, so that two peers seldom dial each other at the same moment. */
const politenessMs = 400;
/** A connection that ends sooner counts as a failure: the other side may not know yet that we are a member. */
const steadyMs = 5_000;

export interface DialerComponents {
  readonly self: string;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly isConnected: (peer: string) => boolean;
  /** One attempt; rejects when it fails. */
  readonly dial: (peer: string) => Promise<void>;
}

export interface Dialer {
  /** The peers to be connected to from now on. */
  want(peers: readonly string[]): void;
  /** The peer's first connection is up. */
  gained(peer: string): void;
  /** The peer's last connection is gone. */
  lost(peer: string): void;
  /** Something new is known about the peer: try soon instead of waiting. */
  nudge(peer: string): void;
  stop(): void;
}

interface Effort {
  failures: number;
  gainedAtMs: number;
  running: boolean;
  cancel: (() => void) | undefined;
}

export function createDialer({ self, clock, random, isConnected, dial }: DialerComponents): Dialer {
  const efforts = new Map<string, Effort>();

  function schedule(peer: string, effort: Effort): void {
    if (effort.running || effort.cancel !== undefined || isConnected(peer)) return;
    const base = Math.min(pauseMsMax, pauseMsMin * 2 ** effort.failures);
    const first = effort.failures === 0 ? 0 : base / 2;
    const politeness = self < peer ? 0 : politenessMs;
    const delayMs = first + politeness + (base / 2) * fraction(random);
    effort.cancel = clock.after(delayMs, () => {
      effort.cancel = undefined;
      void attempt(peer, effort);
    });
  }

  async function attempt(peer: string, effort: Effort): Promise<void> {
    if (isConnected(peer)) return;
    effort.running = true;
    try {
      await dial(peer);
    } catch {
      effort.failures += 1;
    } finally {
      effort.running = false;
    }
    if (efforts.get(peer) === effort) schedule(peer, effort);
  }

  function restart(peer: string, effort: Effort, failures: number): void {
    effort.failures = failures;
    effort.cancel?.();
    effort.cancel = undefined;
    schedule(peer, effort);
  }

  return {
    want(peers) {
      const wanted = new Set(peers);
      wanted.delete(self);
      for (const [peer, effort] of efforts) {
        if (wanted.has(peer)) continue;
        effort.cancel?.();
        efforts.delete(peer);
      }
      for (const peer of wanted) {
        const effort = efforts.get(peer) ?? { failures: 0, gainedAtMs: 0, running: false, cancel: undefined };
        efforts.set(peer, effort);
        schedule(peer, effort);
      }
    },
    gained(peer) {
      const effort = efforts.get(peer);
      if (effort !== undefined) effort.gainedAtMs = clock.monotonicMs();
    },
    lost(peer) {
      const effort = efforts.get(peer);
      if (effort === undefined) return;
      const steady = clock.monotonicMs() - effort.gainedAtMs >= steadyMs;
      restart(peer, effort, steady ? 0 : effort.failures + 1);
    },
    nudge(peer) {
      const effort = efforts.get(peer);
      if (effort !== undefined) restart(peer, effort, 0);
    },
    stop() {
      for (const effort of efforts.values()) effort.cancel?.();
      efforts.clear();
    },
  };
}

/** A number from 0 up to 1. */
function fraction(random: RandomBytes): number {
  const [low = 0, high = 0] = random(2);
  return (low + 256 * high) / 65_536;
}
