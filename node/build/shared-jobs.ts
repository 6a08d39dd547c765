// Owns the sharing of work: whoever asks for a job that runs already gets its events and its result, and so does the log of
// the task that it is for. A job that nobody waits for is ended, at once when the last one cancelled, after a grace when lost.

import type { BuildLogLine, BuildProgress } from '../../protocols/build-job.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Clock } from '../interfaces.ts';

/** A new controller asks again within this time; a lost deploy must not build for hours. */
const lostGraceMs = 60_000;
/** Log lines that somebody who joins late is told. */
const replayLinesMax = 200;

/** Abort reason of a watcher that is lost but whose work may still be wanted by its successor. */
export const lost: unique symbol = Symbol('lost');

export interface Watcher {
  readonly signal: AbortSignal;
  /** The task whose log takes the job's lines, each once, also while nobody watches. */
  readonly task?: string | undefined;
  readonly onLog?: ((line: BuildLogLine) => void) | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

export type Work<T> = (watcher: Required<Omit<Watcher, 'task'>>) => Promise<T>;

/** Takes a line into a task's log. */
export type KeepLine = (task: string, line: BuildLogLine) => void;

export interface SharedJobs<T> {
  /** Starts the work under a key, or joins the one that runs. Rejects when the watcher's own signal aborts. */
  run(key: string, watcher: Watcher, work: Work<T>): Promise<T>;
}

interface RunningJob<T> {
  readonly watchers: Set<Watcher>;
  readonly tasks: Set<string>;
  readonly abort: AbortController;
  readonly replay: readonly BuildLogLine[];
  readonly lastProgress: () => BuildProgress | undefined;
  readonly result: Promise<T>;
  cancelGrace: (() => void) | undefined;
}

/** @returns an empty table of jobs. */
export function createSharedJobs<T>(clock: Clock, keepLine: KeepLine): SharedJobs<T> {
  const jobs = new Map<string, RunningJob<T>>();

  function start(key: string, work: Work<T>): RunningJob<T> {
    const watchers = new Set<Watcher>();
    const tasks = new Set<string>();
    const abort = new AbortController();
    const replay: BuildLogLine[] = [];
    let lastProgress: BuildProgress | undefined;
    const result = work({
      signal: abort.signal,
      onLog(line) {
        replay.push(line);
        if (replay.length > replayLinesMax) replay.shift();
        for (const watcher of watchers) watcher.onLog?.(line);
        for (const task of tasks) keepLine(task, line);
      },
      onProgress(progress) {
        lastProgress = progress;
        for (const watcher of watchers) watcher.onProgress?.(progress);
      },
    });
    const job: RunningJob<T> = {
      watchers,
      tasks,
      abort,
      replay,
      lastProgress: () => lastProgress,
      result,
      cancelGrace: undefined,
    };
    jobs.set(key, job);
    const forget = () => {
      job.cancelGrace?.();
      if (jobs.get(key) === job) jobs.delete(key);
    };
    result.then(forget, forget);
    return job;
  }

  function leave(key: string, job: RunningJob<T>, reason: unknown): void {
    if (job.watchers.size > 0 || jobs.get(key) !== job) return;
    const end = () => {
      jobs.delete(key);
      job.abort.abort();
    };
    if (reason === lost) job.cancelGrace = clock.after(lostGraceMs, end);
    else end();
  }

  function joinLog(job: RunningJob<T>, task: string | undefined): void {
    if (task === undefined || job.tasks.has(task)) return;
    job.tasks.add(task);
    for (const line of job.replay) keepLine(task, line);
  }

  return {
    async run(key, watcher, work) {
      if (watcher.signal.aborted) throw cancelled(watcher.signal);
      const running = jobs.get(key);
      const job = running ?? start(key, work);
      job.cancelGrace?.();
      job.cancelGrace = undefined;
      job.watchers.add(watcher);
      joinLog(job, watcher.task);
      const lastProgress = job.lastProgress();
      if (running !== undefined) {
        for (const line of job.replay) watcher.onLog?.(line);
        if (lastProgress !== undefined) watcher.onProgress?.(lastProgress);
      }
      const aborted = Promise.withResolvers<never>();
      const onAbort = () => aborted.reject(cancelled(watcher.signal));
      watcher.signal.addEventListener('abort', onAbort, { once: true });
      try {
        return await Promise.race([job.result, aborted.promise]);
      } finally {
        watcher.signal.removeEventListener('abort', onAbort);
        job.watchers.delete(watcher);
        if (watcher.signal.aborted) leave(key, job, watcher.signal.reason);
      }
    },
  };
}

function cancelled(signal: AbortSignal): ParleyError {
  return new ParleyError('cancelled', 'the job was cancelled by who asked for it', { cause: signal.reason });
}
