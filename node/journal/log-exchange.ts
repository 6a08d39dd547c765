// Owns how task logs travel: pages of lines from the peer that ran the task, as long as they come where the reader follows.

import * as codec from '../../protocols/codec.ts';
import {
  logsPageBytesMax,
  logsPageSchema,
  logsProtocol,
  logsRequestBytesMax,
  logsRequestSchema,
} from '../../protocols/journal.ts';
import type { LogLine } from '../../protocols/views.ts';
import type { Mesh, MessageStream } from '../interfaces.ts';
import type { ReadLogsRequest } from './journal-types.ts';
import type { LogPage, TaskLogs } from './task-logs.ts';

/** Followers wait with a stream for each part of a task, also for parts that have not begun. */
const inboundStreamsMax = 256;

/** Answers `/parley/logs/1` from now on. */
export function serveLogs(mesh: Pick<Mesh, 'handle'>, logs: TaskLogs): void {
  const handler = async (stream: MessageStream) => {
    const message = await stream.receive();
    if (message === undefined) return;
    const { task, from, follow } = codec.decode(logsRequestSchema, message, logsRequestBytesMax, 'logs request');
    const gone = new AbortController();
    // The reader says nothing more: whatever comes means that it has left.
    void stream
      .receive()
      .catch(() => undefined)
      .then(() => gone.abort());
    for await (const page of readPages(logs, task, { from, follow, signal: gone.signal })) {
      await stream.send(codec.encode(page));
    }
    await stream.close();
  };
  mesh.handle(logsProtocol, handler, { messageBytesMax: logsPageBytesMax, inboundStreamsMax });
}

/**
 * The pages of a log on this peer. Ends when the log does, at its present end without `follow`, or with the signal; a log
 * that has not begun is waited for.
 */
export async function* readPages(
  logs: TaskLogs,
  task: string,
  { from, follow, signal }: { readonly from: number; readonly follow: boolean; readonly signal: AbortSignal },
): AsyncGenerator<LogPage> {
  let next = from;
  while (!signal.aborted) {
    const grown = nextGrowth(logs, task, signal);
    try {
      const isOpen = logs.isOpen(task);
      const page = await logs.readPage(task, next);
      const isAtEnd = page.next === next;
      next = page.next;
      if (page.lines.length > 0) yield page;
      if (!isAtEnd) continue;
      if (!follow || (!isOpen && next > 0)) return;
      await grown.promise;
    } finally {
      grown.cancel();
    }
  }
}

/** The lines of a task's log on another peer. */
export async function* readRemoteLines(mesh: Pick<Mesh, 'open'>, request: ReadLogsRequest): AsyncGenerator<LogLine> {
  const { peer, task, follow, signal } = request;
  const stream = await mesh.open(peer, logsProtocol, { signal });
  let isDone = false;
  try {
    await stream.send(codec.encode({ version: 1, task, from: 0, follow }));
    for (;;) {
      const message = await stream.receive({ signal });
      if (message === undefined) break;
      yield* codec.decode(logsPageSchema, message, logsPageBytesMax, `log of '${task}' on '${peer}'`).lines;
    }
    isDone = true;
    await stream.close();
  } finally {
    if (!isDone) stream.abort(new Error('the reader of a log has left'));
  }
}

function nextGrowth(
  logs: TaskLogs,
  task: string,
  signal: AbortSignal,
): { readonly promise: Promise<void>; readonly cancel: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const forget = logs.onGrown(task, resolve);
  const onAbort = () => resolve();
  signal.addEventListener('abort', onAbort);
  const cancel = () => {
    forget();
    signal.removeEventListener('abort', onAbort);
  };
  return { promise, cancel };
}
