// Gives tests a clock that moves only when they say so.

import type { Clock } from '../../node/interfaces.ts';

export interface ManualClock extends Clock {
  /** Moves time on and makes the calls that fall due, in order. */
  advance(byMs: number): void;
}

interface Timer {
  dueMs: number;
  readonly periodMs: number | undefined;
  readonly call: () => void;
}

/** A clock that stands at startMs. */
export function createManualClock(startMs = 1_700_000_000_000): ManualClock {
  let nowMs = 0;
  const timers = new Set<Timer>();

  function add(delayMs: number, periodMs: number | undefined, call: () => void): () => void {
    const timer: Timer = { dueMs: nowMs + delayMs, periodMs, call };
    timers.add(timer);
    return () => {
      timers.delete(timer);
    };
  }

  return {
    nowMs: () => startMs + nowMs,
    monotonicMs: () => nowMs,
    after: (delayMs, call) => add(delayMs, undefined, call),
    every: (periodMs, call) => add(periodMs, periodMs, call),
    advance(byMs) {
      const endMs = nowMs + byMs;
      for (;;) {
        const next = [...timers].sort((left, right) => left.dueMs - right.dueMs)[0];
        if (next === undefined || next.dueMs > endMs) break;
        nowMs = next.dueMs;
        if (next.periodMs === undefined) timers.delete(next);
        else next.dueMs += next.periodMs;
        next.call();
      }
      nowMs = endMs;
    },
  };
}
