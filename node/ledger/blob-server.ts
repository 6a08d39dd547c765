// Owns the serving side of /parley/blob/1: gives blobs to any member, and takes them on a voter from those whose work stores
// some. What comes in is bounded, checked against its hash and on the disk before it is acknowledged.

import {
  type BlobAnswer,
  type BlobRequest,
  blobMessageBytesMax,
  blobProtocol,
  blobRequestSchema,
  blobStallMs,
} from '../../protocols/blob-exchange.ts';
import { decode, encode, sha256Hex } from '../../protocols/codec.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import { blobBytesMax } from '../../protocols/limits.ts';
import type { BlobStore, Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';
import type { BlobKeeper } from './blob-keeper.ts';
import { readParts, sendParts, stalled } from './blob-parts.ts';

/** Bytes of blobs in memory at once, both ways: two of the largest. */
const bytesInMemoryMax = 2 * blobBytesMax;

export interface BlobServerComponents {
  readonly mesh: Pick<Mesh, 'handle'>;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** On voters: from whom they take blobs, and what keeps those. */
  readonly taking: { readonly mayBring: (peer: string) => boolean; readonly keeper: BlobKeeper } | undefined;
}

/** Registers the protocol. */
export function serveBlobs({ mesh, blobs, clock, logger, taking }: BlobServerComponents): void {
  let bytesInMemory = 0;

  async function withMemory<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    if (bytesInMemory + bytes > bytesInMemoryMax) {
      throw new ParleyError('busy', `${bytesInMemory} bytes of blobs are under way: no room for ${bytes} more`, {
        retryable: true,
      });
    }
    bytesInMemory += bytes;
    try {
      return await work();
    } finally {
      bytesInMemory -= bytes;
    }
  }

  async function give(stream: MessageStream, hash: string): Promise<void> {
    const size = (await blobs.facts(hash))?.bytes;
    if (size === undefined) return answer(stream, { kind: 'absent' });
    // What is larger than a blob can be is not read.
    await withMemory(Math.min(size, blobBytesMax), async () => {
      const bytes = await blobs.get(hash);
      if (bytes === undefined) return answer(stream, { kind: 'absent' });
      await answer(stream, { kind: 'found', bytes: bytes.byteLength });
      await sendParts(stream, bytes, clock);
    });
  }

  async function take(stream: MessageStream, { hash, bytes }: BlobRequest & { kind: 'put' }): Promise<void> {
    if (taking === undefined) throw new ParleyError('not-voter', 'this peer takes no blobs: it is no voter');
    const { mayBring, keeper } = taking;
    if (!mayBring(stream.peer)) {
      throw new ParleyError(
        'not-allowed',
        `peer ${stream.peer} may store no blobs here: it is no voter and no builder`,
        {
          hint: 'Give the command at a voter or a builder.',
        },
      );
    }
    const receive = async (): Promise<void> => {
      await answer(stream, { kind: 'wanted' });
      const body = await readParts(stream, bytes, clock);
      if (sha256Hex(body) !== hash)
        throw new ParleyError('malformed', `a blob from ${stream.peer} does not have its hash '${hash}'`);
      await blobs.put(body);
    };
    await keeper.take({ sender: stream.peer, hash, bytes }, () => withMemory(bytes, receive));
    await answer(stream, { kind: 'stored' });
  }

  async function serve(stream: MessageStream): Promise<void> {
    try {
      const message = await stalled(clock, blobStallMs, stream.peer, (signal) => stream.receive({ signal }));
      const request = decode(blobRequestSchema, message ?? new Uint8Array(0), blobMessageBytesMax, 'blob request');
      await (request.kind === 'get' ? give(stream, request.hash) : take(stream, request));
    } catch (error) {
      const record = toErrorRecord(error);
      logger.info({ peer: stream.peer, code: record.code, reason: record.message }, 'a blob was not exchanged');
      await answer(stream, { kind: 'refused', error: record });
    }
    await stream.close();
  }

  mesh.handle(blobProtocol, serve, { inboundStreamsMax: 8, messageBytesMax: blobMessageBytesMax });
}

function answer(stream: MessageStream, message: BlobAnswer): Promise<void> {
  return stream.send(encode(message));
}
