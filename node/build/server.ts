// Owns the serving of this peer's builder to other peers. A slow reader never holds up a build: log lines wait in a bounded
// queue, of progress only the newest. A lost asker's job goes on for a grace, so that its successor finds it running.

import {
  type BuildEvent,
  type BuildJob,
  type BuildLogLine,
  type BuildProgress,
  buildAlivePeriodMs,
  buildAskSchema,
  buildLogQueueMax,
  buildPartBytesMax,
  buildProtocol,
  buildRequestBytesMax,
  buildStreamsPerPeerMax,
} from '../../protocols/build-job.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import { textCharactersMax } from '../../protocols/limits.ts';
import type { Clock, Mesh, MessageStream } from '../interfaces.ts';
import type { TaskLog } from '../journal/index.ts';
import type { BuildJobs, JobOptions } from './index.ts';
import { lost } from './shared-jobs.ts';

export interface BuildServerComponents {
  readonly mesh: Pick<Mesh, 'handle'>;
  readonly builder: BuildJobs;
  /** The log of a task on this peer, which the builder writes; it ends with the job. */
  readonly taskLog: (task: string) => Pick<TaskLog, 'end'>;
  readonly clock: Clock;
}

/** Registers the protocol: from now on members can have jobs done here. */
export function serveBuildJobs({ mesh, ...components }: BuildServerComponents): void {
  mesh.handle(buildProtocol, (stream) => serveJob(stream, components), {
    inboundStreamsMax: buildStreamsPerPeerMax,
  });
}

async function serveJob(
  stream: MessageStream,
  { builder, taskLog, clock }: Omit<BuildServerComponents, 'mesh'>,
): Promise<void> {
  const first = await stream.receive();
  if (first === undefined) return;
  const ask = decode(buildAskSchema, first, buildRequestBytesMax, 'a build request');
  if (ask.kind !== 'job')
    throw new ParleyError('malformed', `a build request starts with '${ask.kind}': expected 'job'`);
  const { task } = ask;
  const abort = new AbortController();
  const outbox = createOutbox(stream, (reason) => abort.abort(reason));
  const stopAlive = clock.every(buildAlivePeriodMs, () => outbox.alive());
  const ended = watchAsker(stream, abort);
  try {
    const result = await runJob(builder, ask.job, {
      signal: abort.signal,
      ...(task === undefined ? { onLog: (line: BuildLogLine) => outbox.log(line) } : { task }),
      onProgress: (progress) => outbox.progress(progress),
    });
    await outbox.finish(resultEvents(result));
  } catch (error) {
    await outbox.finish([{ kind: 'error', error: shortened(error) }]);
  } finally {
    stopAlive();
    if (task !== undefined && abort.signal.reason !== lost) taskLog(task).end();
  }
  await stream.close();
  await ended;
}

function runJob(builder: BuildJobs, job: BuildJob, options: JobOptions): Promise<unknown> {
  if (job.kind === 'evaluate') return builder.evaluate(withoutKind(job), options);
  if (job.kind === 'build') return builder.build(withoutKind(job), options);
  return builder.update(withoutKind(job), options);
}

function withoutKind<T extends { readonly kind: string }>({ kind: _, ...request }: T): Omit<T, 'kind'> {
  return request;
}

/** Until the stream ends: a cancellation ends the job, a lost stream leaves it to a successor. */
async function watchAsker(stream: MessageStream, abort: AbortController): Promise<void> {
  try {
    for (;;) {
      const message = await stream.receive();
      if (message === undefined) return;
      const ask = decode(buildAskSchema, message, buildRequestBytesMax, 'a message to a builder');
      if (ask.kind === 'cancel') abort.abort(new Error('cancelled by who asked for it'));
    }
  } catch {
    abort.abort(lost);
  }
}

interface Outbox {
  log(line: BuildLogLine): void;
  progress(progress: BuildProgress): void;
  alive(): void;
  /** Sends what waits, then the last events. Resolves also when the stream is gone. */
  finish(events: Iterable<BuildEvent>): Promise<void>;
}

function createOutbox(stream: MessageStream, onLost: (reason: symbol) => void): Outbox {
  const lines: BuildLogLine[] = [];
  let leftOut = 0;
  let progress: BuildProgress | undefined;
  let alive = false;
  let sending: Promise<void> | undefined;

  function next(): BuildEvent | undefined {
    if (leftOut > 0) {
      const text = `${leftOut} lines are left out here: the reader was too slow`;
      leftOut = 0;
      return { kind: 'log', line: { level: 'warning', text } };
    }
    const line = lines.shift();
    if (line !== undefined) return { kind: 'log', line };
    if (progress !== undefined) {
      const event: BuildEvent = { kind: 'progress', progress };
      progress = undefined;
      return event;
    }
    if (!alive) return undefined;
    alive = false;
    return { kind: 'alive' };
  }

  async function drain(): Promise<void> {
    try {
      for (let event = next(); event !== undefined; event = next()) await stream.send(encode(event));
    } catch {
      lines.length = 0;
      onLost(lost);
    } finally {
      sending = undefined;
    }
  }

  function wake(): void {
    sending ??= drain();
  }

  return {
    log(line) {
      lines.push(line);
      if (lines.length > buildLogQueueMax) {
        lines.shift();
        leftOut += 1;
      }
      wake();
    },
    progress(newest) {
      progress = newest;
      wake();
    },
    alive() {
      alive = true;
      wake();
    },
    async finish(events) {
      await sending;
      await drain();
      try {
        for (const event of events) await stream.send(encode(event));
      } catch {
        onLost(lost);
      }
    },
  };
}

function* resultEvents(result: unknown): Iterable<BuildEvent> {
  const bytes = encode(result);
  for (let start = 0; start < bytes.byteLength; start += buildPartBytesMax) {
    yield { kind: 'part', bytes: bytes.slice(start, start + buildPartBytesMax) };
  }
  yield { kind: 'result' };
}

function shortened(error: unknown): ReturnType<typeof toErrorRecord> {
  const record = toErrorRecord(error);
  return { ...record, message: record.message.slice(0, 4 * textCharactersMax) };
}
