// Owns the asking side: another peer's builder behind the interface of the local one.

import {
  type BuildAsk,
  type BuildJob,
  buildEventSchema,
  buildPartBytesMax,
  buildProtocol,
  buildResultBytesMax,
  buildResultSchema,
  buildSilenceMsMax,
  evaluationSchema,
  updateResultSchema,
} from '../../protocols/build-job.ts';
import { decode, encode, type Schema } from '../../protocols/codec.ts';
import { fromErrorRecord, ParleyError } from '../../protocols/errors.ts';
import type { Clock, Mesh, MessageStream } from '../interfaces.ts';
import type { BuildJobs, JobOptions } from './index.ts';

/** One event: a part of a result with its envelope, or a log line. */
const eventBytesMax = buildPartBytesMax + 4 * 1024;

export interface BuildClientComponents {
  readonly mesh: Pick<Mesh, 'open'>;
  readonly clock: Clock;
}

/**
 * The builder of another peer. Besides the codes of BuildJobs its calls reject with `peer-unreachable`, `stream-closed` or
 * `builder-silent`, all retryable: the job may go on there and is joined when it is asked for again in time.
 */
export function createBuildClient(components: BuildClientComponents): (peer: string) => BuildJobs {
  return (peer) => ({
    evaluate: (request, options) => ask(components, peer, { kind: 'evaluate', ...request }, evaluationSchema, options),
    build: (request, options) => ask(components, peer, { kind: 'build', ...request }, buildResultSchema, options),
    update: (request, options) => ask(components, peer, { kind: 'update', ...request }, updateResultSchema, options),
  });
}

async function ask<T>(
  { mesh, clock }: BuildClientComponents,
  peer: string,
  job: BuildJob,
  schema: Schema<T>,
  options: JobOptions,
): Promise<T> {
  const stream = await mesh.open(peer, buildProtocol, { signal: options.signal });
  const { task } = options;
  const request: BuildAsk = { kind: 'job', version: 1, ...(task === undefined ? {} : { task }), job };
  try {
    await stream.send(encode(request));
    const bytes = await receiveResult(stream, clock, peer, options);
    await stream.close();
    return decode(schema, bytes, buildResultBytesMax, "a builder's result");
  } catch (error) {
    if (options.signal.aborted) {
      await cancel(stream);
      throw new ParleyError('cancelled', 'the job was cancelled by who asked for it', { cause: options.signal.reason });
    }
    if (!(error instanceof ParleyError) || error.code === 'malformed') stream.abort(error as Error);
    throw error;
  }
}

async function receiveResult(
  stream: MessageStream,
  clock: Clock,
  peer: string,
  options: JobOptions,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let byteCount = 0;
  for (;;) {
    const message = await receiveInTime(stream, clock, peer, options.signal);
    const event = decode(buildEventSchema, message, eventBytesMax, "a builder's event");
    if (event.kind === 'log') options.onLog?.(event.line);
    else if (event.kind === 'progress') options.onProgress?.(event.progress);
    else if (event.kind === 'error') throw fromErrorRecord({ ...event.error });
    else if (event.kind === 'result') return Buffer.concat(parts, byteCount);
    else if (event.kind === 'part') {
      parts.push(event.bytes);
      byteCount += event.bytes.byteLength;
      if (byteCount > buildResultBytesMax)
        throw new ParleyError('malformed', `a builder's result has over ${byteCount} bytes`);
    }
  }
}

async function receiveInTime(
  stream: MessageStream,
  clock: Clock,
  peer: string,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const silence = new AbortController();
  const stopTimer = clock.after(buildSilenceMsMax, () => silence.abort());
  try {
    const message = await stream.receive({ signal: AbortSignal.any([signal, silence.signal]) });
    if (message !== undefined) return message;
    throw new ParleyError('stream-closed', `the builder '${peer}' closed the stream before its result`, {
      retryable: true,
    });
  } catch (error) {
    if (!silence.signal.aborted) throw error;
    stream.abort(new Error('silent'));
    throw new ParleyError('builder-silent', `the builder '${peer}' said nothing for ${buildSilenceMsMax} ms`, {
      retryable: true,
      cause: error,
    });
  } finally {
    stopTimer();
  }
}

/** Tells the builder, and drops the stream where that is not possible any more. */
async function cancel(stream: MessageStream): Promise<void> {
  const message: BuildAsk = { kind: 'cancel' };
  try {
    await stream.send(encode(message));
    await stream.close();
  } catch (error) {
    stream.abort(error as Error);
  }
}
