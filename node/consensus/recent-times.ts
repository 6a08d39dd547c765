// Owns a small window of measured durations: the newest ones, none of them old.

import type { Clock } from '../interfaces.ts';

/** Enough for a p99 that is not the one slowest. */
const samplesMax = 256;
/** Fewer say little about the slowest. */
const samplesMin = 32;
/** What was slow minutes ago says nothing about now. */
const keptMs = 300_000;

export class RecentTimes {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #samples: { readonly atMs: number; readonly tookMs: number }[] = [];

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  add(tookMs: number): void {
    this.#samples.push({ atMs: this.#clock.monotonicMs(), tookMs });
    if (this.#samples.length > 2 * samplesMax) this.#samples = this.#samples.slice(-samplesMax);
  }

  /**
   * The duration that this share of the samples does not exceed, or half of them while they are too few to tell more: a start
   * is slow by itself. 0 when nothing was measured lately.
   */
  quantileMs(share: number): number {
    const oldestMs = this.#clock.monotonicMs() - keptMs;
    const recent = this.#samples.slice(-samplesMax).filter(({ atMs }) => atMs >= oldestMs);
    const sorted = recent.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
    const believed = sorted.length < samplesMin ? Math.min(share, 0.5) : share;
    return sorted[Math.floor(believed * (sorted.length - 1))] ?? 0;
  }
}
