// Owns how peers give each other commits of the project: a pack over a stream, asked for by commit id.

import { check, decode, encode } from '../../protocols/codec.ts';
import { fromErrorRecord, ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import {
  packAnswerSchema,
  packFrameBytesMax,
  packRequestSchema,
  projectProtocol,
} from '../../protocols/project-exchange.ts';
import type { Mesh, MessageStream } from '../interfaces.ts';
import type { Repository } from './repository.ts';

/** Answers requests for packs; `want` must be reachable from our own `main`. */
export function serveProject(mesh: Pick<Mesh, 'handle'>, repository: Repository): void {
  mesh.handle(projectProtocol, (stream) => answer(stream, repository), {
    messageBytesMax: packFrameBytesMax,
    inboundStreamsMax: 2,
  });
}

async function answer(stream: MessageStream, repository: Repository): Promise<void> {
  const bytes = await stream.receive();
  if (!bytes) return;
  let pack: Uint8Array;
  try {
    const request = decode(packRequestSchema, bytes, 1_024, 'request for a pack');
    if (!(await repository.has(request.want))) {
      throw new ParleyError('revision-unknown', `this peer does not have the commit '${request.want}'`, {
        retryable: true,
      });
    }
    pack = await repository.packOf(request.want, request.have);
    await stream.send(encode(check(packAnswerSchema, { kind: 'pack', bytes: pack.byteLength })));
  } catch (error) {
    await stream.send(encode({ kind: 'error', error: toErrorRecord(error) }));
    return stream.close();
  }
  for (let at = 0; at < pack.byteLength; at += packFrameBytesMax) {
    await stream.send(pack.subarray(at, Math.min(at + packFrameBytesMax, pack.byteLength)));
  }
  await stream.close();
}

/** Gets a pack from one peer. @throws ParleyError of the other side, `stream-closed`, or `malformed`. */
export async function fetchPack(
  mesh: Pick<Mesh, 'open'>,
  peer: string,
  request: { readonly want: string; readonly have: string | null },
  signal: AbortSignal,
): Promise<Uint8Array> {
  const stream = await mesh.open(peer, projectProtocol, { signal });
  try {
    await stream.send(encode({ version: 1, ...request }));
    const first = await stream.receive({ signal });
    if (!first) throw new ParleyError('stream-closed', `'${peer}' closed before it answered`, { retryable: true });
    const header = decode(packAnswerSchema, first, 16 * 1024, 'answer to a request for a pack');
    if (header.kind === 'error') throw fromErrorRecord(header.error);
    return await collect(stream, header.bytes, signal);
  } finally {
    stream.abort(new ParleyError('stream-closed', 'the request is over'));
  }
}

async function collect(stream: MessageStream, byteCount: number, signal: AbortSignal): Promise<Uint8Array> {
  const frames: Uint8Array[] = [];
  let received = 0;
  while (received < byteCount) {
    const frame = await stream.receive({ signal });
    if (!frame)
      throw new ParleyError('stream-closed', `a pack ended after ${received} of ${byteCount} bytes`, {
        retryable: true,
      });
    received += frame.byteLength;
    if (received > byteCount)
      throw new ParleyError('malformed', `a pack is longer than the ${byteCount} bytes announced`);
    frames.push(frame);
  }
  return Buffer.concat(frames);
}
