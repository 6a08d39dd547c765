// Owns the spreading of seeds over threads, one for each core: each seed runs alone in its thread, so that it ends there as
// it would anywhere.

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { RunResult } from './run.ts';

const threadFile = new URL('./thread.ts', import.meta.url);

/** Runs seeds in threads and hands their results on as they come, until `onResult` says that it is enough. */
export async function runInThreads(
  seeds: readonly number[],
  onResult: (result: RunResult) => 'go on' | 'enough',
): Promise<void> {
  const left = [...seeds];
  const threads = Array.from({ length: Math.min(seeds.length, availableParallelism()) }, () => new Worker(threadFile));
  const work = (thread: Worker): Promise<void> =>
    new Promise((resolve, reject) => {
      const next = (): void => {
        const seed = left.shift();
        if (seed === undefined) resolve();
        else thread.postMessage(seed);
      };
      thread.on('error', reject);
      thread.on('message', (result: RunResult) => {
        if (onResult(result) === 'enough') left.length = 0;
        next();
      });
      next();
    });
  try {
    await Promise.all(threads.map(work));
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}
