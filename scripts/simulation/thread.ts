// Runs seeds in a thread of its own, one at a time, as it is told them.

import { parentPort } from 'node:worker_threads';
import { runSeed } from './run.ts';

parentPort?.on('message', (seed: number) => {
  runSeed({ seed }).then(
    (result) => parentPort?.postMessage(result),
    // An error that nobody catches ends the thread, and is told to whoever started it.
    (error: unknown) => queueMicrotask(() => Promise.reject(error)),
  );
});
