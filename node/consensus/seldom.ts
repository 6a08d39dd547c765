// Owns how often something is said about others in the log: about each of them once a minute, so that nobody can fill it.

import type { Clock } from '../interfaces.ts';

/** Those that are remembered. */
const rememberedMax = 256;
const quietMs = 60_000;

export class Seldom<Key extends string | number> {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #saidAtMs = new Map<Key, number>();

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  /** True when it is time to say something about this one; it counts as said then. */
  isDue(key: Key): boolean {
    const now = this.#clock.monotonicMs();
    if (now - (this.#saidAtMs.get(key) ?? Number.NEGATIVE_INFINITY) < quietMs) return false;
    this.#saidAtMs.delete(key);
    this.#saidAtMs.set(key, now);
    const oldest = this.#saidAtMs.keys().next();
    if (this.#saidAtMs.size > rememberedMax && !oldest.done) this.#saidAtMs.delete(oldest.value);
    return true;
  }
}
