// Owns the bounded queues in front of everything that costs memory or bandwidth: so many at once, so many waiting in
// order of arrival, and everybody else is told to come back later.

import { ParleyError } from '../../protocols/errors.ts';

export interface Slots {
  /**
   * Waits for a slot and returns the function that gives it back.
   * @throws ParleyError `busy` (retryable) when too many wait, and the signal's reason.
   */
  take(signal: AbortSignal): Promise<() => void>;
}

export function createSlots(init: {
  readonly what: string;
  readonly slotsMax: number;
  readonly waitersMax: number;
}): Slots {
  const waiters = new Set<() => void>();
  let taken = 0;

  const giveBack = (): void => {
    const [next] = waiters;
    if (next === undefined) {
      taken -= 1;
      return;
    }
    waiters.delete(next);
    next();
  };

  const once = (): (() => void) => {
    let given = false;
    return () => {
      if (given) return;
      given = true;
      giveBack();
    };
  };

  return {
    async take(signal) {
      signal.throwIfAborted();
      if (taken < init.slotsMax) {
        taken += 1;
        return once();
      }
      if (waiters.size >= init.waitersMax) {
        throw new ParleyError('busy', `no slot for ${init.what}: ${waiters.size} wait already`, { retryable: true });
      }
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const cancel = (): void => {
        if (waiters.delete(resolve)) reject(signal.reason);
      };
      waiters.add(resolve);
      signal.addEventListener('abort', cancel, { once: true });
      try {
        await promise;
      } finally {
        signal.removeEventListener('abort', cancel);
      }
      return once();
    },
  };
}
