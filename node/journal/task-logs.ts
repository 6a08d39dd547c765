// Owns the logs of the tasks that ran on this peer: written soon, not synced, bounded for each task and in all. Programs
// write without end; a log keeps its beginning and its end and says what was cut.

import * as codec from '../../protocols/codec.ts';
import {
  logChunkBytesMax,
  logChunkSchema,
  logIndexSchema,
  logLinesPerPageMax,
  taskLogBytesMax,
  taskLogHeadBytesMax,
  taskLogsBytesMax,
} from '../../protocols/journal.ts';
import { logLineCharactersMax, tasksKeptMax } from '../../protocols/limits.ts';
import type { LogLine } from '../../protocols/views.ts';
import type { Clock, KeyValueStore, Logger, StoreOperation } from '../interfaces.ts';
import type { LogInput, TaskLog } from './journal-types.ts';
import { type Chunk, chunkAt, chunksToCut } from './log-core.ts';

/** Lines wait this long, so that a chatty program causes few writes and a reader still sees them come. */
const flushDelayMs = 100;
/** Lines that wait while the disk is slow; beyond it they are dropped and the log says so. */
const waitingBytesMax = 1024 * 1024;
const indexBytesMax = 256 * 1024;
const chunkBytesMax = 2 * logChunkBytesMax;

interface LogState {
  readonly task: string;
  readonly startedAtMs: number;
  chunks: Chunk[];
  /** Lines of the last chunk while it is small: the next lines join it, so that a slow log does not become a thousand chunks. */
  joinable: LogLine[];
  waiting: LogLine[];
  waitingBytes: number;
  dropped: number;
  writing: Promise<void>;
  isScheduled: boolean;
}

export interface LogPage {
  readonly lines: LogLine[];
  readonly next: number;
}

export interface TaskLogs {
  start(): Promise<void>;
  stop(): Promise<void>;
  taskLog(task: string): TaskLog;
  /** The lines from a line number on; none at the end of what is on disk. */
  readPage(task: string, from: number): Promise<LogPage>;
  /** False once the log was ended, or never written to by this process: nothing more will come. */
  isOpen(task: string): boolean;
  /** Called when the task's log has grown or ended. */
  onGrown(task: string, listener: () => void): () => void;
}

export interface TaskLogsComponents {
  readonly store: KeyValueStore;
  readonly clock: Clock;
  readonly logger: Logger;
}

export function createTaskLogs(init: { readonly name: string }, components: TaskLogsComponents): TaskLogs {
  const { store, clock, logger } = components;
  /** Every log on disk, oldest first. */
  const logs = new Map<string, LogState>();
  const open = new Set<string>();
  const listeners = new Map<string, Set<() => void>>();

  function stateOf(task: string): LogState {
    let log = logs.get(task);
    if (log === undefined) {
      log = newState(task, clock.nowMs(), []);
      logs.set(task, log);
    }
    return log;
  }

  function tell(task: string): void {
    for (const listener of listeners.get(task) ?? []) listener();
  }

  function append(log: LogState, inputs: readonly LogInput[]): void {
    const atMs = clock.nowMs();
    for (const { stream, level, text, program } of inputs) {
      const cut = text.length > logLineCharactersMax ? text.slice(0, logLineCharactersMax) : text;
      if (log.waitingBytes > waitingBytesMax) {
        log.dropped += 1;
        continue;
      }
      const plain: LogLine = { atMs, peer: init.name, task: log.task, stream, level, text: cut };
      const line = program === undefined ? plain : { ...plain, program };
      log.waiting.push(line);
      log.waitingBytes += bytesOf(line);
    }
    schedule(log, log.waitingBytes >= logChunkBytesMax ? 0 : flushDelayMs);
  }

  function schedule(log: LogState, delayMs: number): void {
    if (log.isScheduled) return;
    log.isScheduled = true;
    clock.after(delayMs, () => {
      void flush(log);
    });
  }

  function flush(log: LogState): Promise<void> {
    log.isScheduled = false;
    log.writing = log.writing.then(async () => {
      try {
        while (log.waiting.length > 0) await writeChunk(log);
      } catch (error) {
        log.dropped += log.waiting.length;
        log.waiting = [];
        log.waitingBytes = 0;
        logger.warn({ error, task: log.task }, 'lines of a task were lost');
      }
      tell(log.task);
    });
    return log.writing;
  }

  async function writeChunk(log: LogState): Promise<void> {
    const fresh = takeLines(log, init.name);
    const isJoining = log.joinable.length > 0 && log.joinable.length + fresh.length <= logLinesPerPageMax;
    const kept = isJoining ? log.chunks.slice(0, -1) : log.chunks;
    const lines = isJoining ? [...log.joinable, ...fresh] : fresh;
    const previous = kept.at(-1);
    const first = previous === undefined ? 0 : previous.first + previous.count;
    const value = codec.encode({ lines });
    const chunk = { first, count: lines.length, bytes: value.byteLength };
    const cut = chunksToCut([...kept, chunk], taskLogBytesMax, taskLogHeadBytesMax);
    const chunks = [...kept, chunk].filter((one) => !cut.includes(one));
    const operations: StoreOperation[] = [
      { type: 'put', key: chunkKey(log.task, first), value },
      { type: 'put', key: indexKey(log.task), value: codec.encode({ startedAtMs: log.startedAtMs, chunks }) },
      ...cut.map((gone) => ({ type: 'del' as const, key: chunkKey(log.task, gone.first) })),
    ];
    await store.batch(operations, { sync: false });
    log.chunks = chunks;
    log.joinable = value.byteLength < logChunkBytesMax / 2 ? lines : [];
    await makeRoom();
  }

  /** Removes the oldest logs that nobody writes to. */
  async function makeRoom(): Promise<void> {
    let bytes = 0;
    for (const log of logs.values()) bytes += log.chunks.reduce((sum, chunk) => sum + chunk.bytes, 0);
    for (const log of [...logs.values()]) {
      if (logs.size <= tasksKeptMax && bytes <= taskLogsBytesMax) return;
      if (open.has(log.task)) continue;
      logs.delete(log.task);
      bytes -= log.chunks.reduce((sum, chunk) => sum + chunk.bytes, 0);
      const keys = [indexKey(log.task), ...log.chunks.map((chunk) => chunkKey(log.task, chunk.first))];
      await store.batch(
        keys.map((key) => ({ type: 'del', key })),
        { sync: false },
      );
    }
  }

  return {
    async start() {
      const pairs = await store.range({ gte: indexKey(''), lt: indexKey('\u{10ffff}') });
      for (const [key, value] of pairs) {
        const task = key.slice(indexKey('').length);
        try {
          const index = codec.decode(logIndexSchema, value, indexBytesMax, key);
          logs.set(task, newState(task, index.startedAtMs, index.chunks));
        } catch (error) {
          logger.warn({ error, task }, 'a log is damaged and left out');
        }
      }
      const byAge = [...logs.values()].sort((left, right) => left.startedAtMs - right.startedAtMs);
      logs.clear();
      for (const log of byAge) logs.set(log.task, log);
    },
    async stop() {
      for (const task of [...open]) {
        await flush(stateOf(task));
        open.delete(task);
        tell(task);
      }
    },
    taskLog: (task) => ({
      append(lines) {
        open.add(task);
        append(stateOf(task), lines);
      },
      end() {
        const log = logs.get(task);
        if (!open.has(task) || log === undefined) return;
        void flush(log).then(() => {
          open.delete(task);
          tell(task);
        });
      },
    }),
    async readPage(task, from) {
      const found = chunkAt(logs.get(task)?.chunks ?? [], from);
      if (found === undefined) return { lines: [], next: from };
      const { chunk, cutLines } = found;
      const value = await store.get(chunkKey(task, chunk.first));
      // Cut while this was being read: go on behind it.
      if (value === undefined) return { lines: [], next: chunk.first + chunk.count };
      const { lines } = codec.decode(logChunkSchema, value, chunkBytesMax, `log of '${task}'`);
      const wanted = lines.slice(Math.max(0, from - chunk.first));
      const mark =
        cutLines === 0
          ? []
          : [parleyLine(init.name, task, wanted[0]?.atMs ?? 0, `… ${cutLines} lines were cut here …`)];
      return { lines: [...mark, ...wanted], next: chunk.first + lines.length };
    },
    isOpen: (task) => open.has(task),
    onGrown(task, listener) {
      const all = listeners.get(task) ?? new Set();
      listeners.set(task, all.add(listener));
      return () => {
        all.delete(listener);
        if (all.size === 0) listeners.delete(task);
      };
    },
  };
}

function newState(task: string, startedAtMs: number, chunks: readonly Chunk[]): LogState {
  return {
    ...{ task, startedAtMs, chunks: [...chunks], joinable: [], waiting: [], waitingBytes: 0, dropped: 0 },
    ...{ writing: Promise.resolve(), isScheduled: false },
  };
}

/** The lines of the next chunk, in front of them a word about those that were dropped before. */
function takeLines(log: LogState, name: string): LogLine[] {
  const lines: LogLine[] = [];
  if (log.dropped > 0) {
    lines.push(
      parleyLine(name, log.task, log.waiting[0]?.atMs ?? 0, `… ${log.dropped} lines came too fast and were dropped …`),
    );
    log.dropped = 0;
  }
  let bytes = 0;
  while (bytes < logChunkBytesMax && lines.length < logLinesPerPageMax - 1) {
    const line = log.waiting.shift();
    if (line === undefined) break;
    bytes += bytesOf(line);
    lines.push(line);
  }
  log.waitingBytes -= bytes;
  return lines;
}

/** What a line takes on disk, names of its fields included. */
function bytesOf({ text, program }: LogLine): number {
  return Buffer.byteLength(text) + Buffer.byteLength(program?.command ?? '') + 100;
}

function parleyLine(peer: string, task: string, atMs: number, text: string): LogLine {
  return { atMs, peer, task, stream: 'parley', level: 'warning', text };
}

function indexKey(task: string): string {
  return `log-index/${task}`;
}

function chunkKey(task: string, first: number): string {
  return `log/${task}#${String(first).padStart(12, '0')}`;
}
