// Owns how long and how often a command looks for a controller.

import type { Clock } from '../interfaces.ts';
import type { Leadership } from './control-types.ts';

/** Between two looks for a controller; a change of leadership is noticed at once. */
const searchPeriodMs = 250;

export interface Search {
  attempts: number;
  isOver(): boolean;
  /** Somebody answered: the time begins anew. */
  restart(): void;
  /** Waits a moment, or until leadership changes. */
  pause(leadership: Leadership, signal: AbortSignal): Promise<void>;
}

export function createSearch(lengthMs: number, clock: Clock): Search {
  let endsAtMs = clock.monotonicMs() + lengthMs;
  return {
    attempts: 0,
    isOver: () => clock.monotonicMs() >= endsAtMs,
    restart() {
      endsAtMs = clock.monotonicMs() + lengthMs;
    },
    async pause(leadership, signal) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const stops = [clock.after(searchPeriodMs, resolve), leadership.onChange(resolve)];
      const onAbort = () => resolve();
      signal.addEventListener('abort', onAbort);
      await promise;
      signal.removeEventListener('abort', onAbort);
      for (const stop of stops) stop();
      if (signal.aborted) throw signal.reason;
    },
  };
}
