// Owns the real clock. Its timers never keep the process alive and take delays beyond the 24.8 days of setTimeout.

import type { Clock } from '../interfaces.ts';

/** setTimeout fires at once for longer delays, so that longer ones are waited for in parts. */
export const timerDelayMsMax = 2 ** 31 - 1;

/** The machine's wall clock, monotonic clock and timers. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after,
  every(periodMs, call) {
    const timer = setInterval(call, Math.min(periodMs, timerDelayMsMax)).unref();
    return () => clearInterval(timer);
  },
};

function after(delayMs: number, call: () => void): () => void {
  const dueMs = performance.now() + delayMs;
  let timer = arm();
  return () => clearTimeout(timer);

  function arm(): NodeJS.Timeout {
    const restMs = dueMs - performance.now();
    return setTimeout(fire, Math.min(Math.max(0, restMs), timerDelayMsMax)).unref();
  }

  function fire(): void {
    if (dueMs - performance.now() > 1) timer = arm();
    else call();
  }
}
