// Owns the two ways of waiting by the clock that rooms share: a pause that a signal ends, and a step that may not take longer
// than it should.

import type { Clock } from './interfaces.ts';

/** Resolves after a time; rejects with the signal's reason. */
export function pause(clock: Pick<Clock, 'after'>, delayMs: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  if (signal.aborted) {
    reject(signal.reason);
    return promise;
  }
  const onAbort = (): void => {
    cancel();
    reject(signal.reason);
  };
  const cancel = clock.after(delayMs, () => {
    signal.removeEventListener('abort', onAbort);
    resolve();
  });
  signal.addEventListener('abort', onAbort, { once: true });
  return promise;
}

export interface Limit {
  readonly clock: Pick<Clock, 'after'>;
  readonly limitMs: number;
  /** The reason that the step's signal then has. */
  readonly late: () => Error;
  /** Ends the step sooner. */
  readonly outer?: AbortSignal | undefined;
}

/** Runs one step; its signal fires when the step takes longer than its limit, or with the outer one. */
export async function within<T>(
  { clock, limitMs, late, outer }: Limit,
  step: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const cancel = clock.after(limitMs, () => controller.abort(late()));
  try {
    return await step(outer === undefined ? controller.signal : AbortSignal.any([outer, controller.signal]));
  } finally {
    cancel();
  }
}
