// Owns work that is done strictly in order beside the event loop's other work: the storage and apply threads of the core.
// What fails is tried again until it succeeds, since nothing behind it may overtake it.

import type { Clock } from '../interfaces.ts';

/** A disk that fills up or a state machine that is held up is looked at four times a second. */
const retryDelayMs = 250;

export interface WorkerInit<Item> {
  /** Does some of the items at the head of the queue and removes those. Safe to call again after it failed. */
  readonly work: (queue: Item[]) => Promise<void>;
  readonly onFailure: (error: unknown) => void;
  readonly onRecovery: () => void;
  readonly clock: Pick<Clock, 'after'>;
}

export interface Worker<Item> {
  push(item: Item): void;
  /** Resolves when nothing is left to do, or after stop(). */
  idle(): Promise<void>;
  /** Lets the running work end and starts no more. */
  stop(): void;
}

export function createWorker<Item>(init: WorkerInit<Item>): Worker<Item> {
  const queue: Item[] = [];
  let stopped = false;
  let running: Promise<void> | undefined;
  let wake: (() => void) | undefined;

  async function drain(): Promise<void> {
    let failed = false;
    while (queue.length > 0 && !stopped) {
      try {
        await init.work(queue);
        if (failed) init.onRecovery();
        failed = false;
      } catch (error) {
        failed = true;
        init.onFailure(error);
        await pause();
      }
    }
    running = undefined;
  }

  function pause(): Promise<void> {
    return new Promise((resolve) => {
      const cancel = init.clock.after(retryDelayMs, resolve);
      wake = () => {
        cancel();
        resolve();
      };
      if (stopped) wake();
    });
  }

  return {
    push(item) {
      if (stopped) return;
      queue.push(item);
      running ??= drain();
    },
    async idle() {
      while (running) await running;
    },
    stop() {
      stopped = true;
      wake?.();
    },
  };
}
