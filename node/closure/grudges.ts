// Owns what a peer holds against others for a while: wrong content for a path, so that the sender is not asked for it
// again, and silence, so that not every path waits for the same dead neighbour.

import type { Clock } from '../interfaces.ts';

const wrongContentKeptMs = 10 * 60 * 1000;
const silenceKeptMs = 10_000;
/** Remembered grudges: the oldest are forgotten first, which costs a second transfer at most. */
const grudgesMax = 4_096;

export interface Grudges {
  /** This peer sent wrong content for the unit. */
  blame(peer: string, unit: string): void;
  isBlamed(peer: string, unit: string): boolean;
  /** This peer could not be reached or fell silent. */
  suspect(peer: string): void;
  isSuspect(peer: string): boolean;
}

export function createGrudges(clock: Pick<Clock, 'monotonicMs'>): Grudges {
  const untilMs = new Map<string, number>();

  function remember(key: string, keptMs: number): void {
    untilMs.delete(key);
    untilMs.set(key, clock.monotonicMs() + keptMs);
    for (const oldest of untilMs.keys()) {
      if (untilMs.size <= grudgesMax) break;
      untilMs.delete(oldest);
    }
  }

  const holds = (key: string): boolean => (untilMs.get(key) ?? 0) > clock.monotonicMs();

  return {
    blame: (peer, unit) => remember(`${peer}\n${unit}`, wrongContentKeptMs),
    isBlamed: (peer, unit) => holds(`${peer}\n${unit}`),
    suspect: (peer) => remember(peer, silenceKeptMs),
    isSuspect: (peer) => holds(peer),
  };
}
