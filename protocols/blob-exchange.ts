// Owns the messages of /parley/blob/1: bodies too large for an entry, named by hash. One stream carries one blob, either
// way: `get` asks for it, `put` brings it and is answered once it is on disk.

import * as v from 'valibot';
import { blobBytesMax } from './limits.ts';
import { bytesSchema, countSchema, errorRecordSchema, hashSchema } from './primitives.ts';

export const blobProtocol = '/parley/blob/1';

/** Bytes of a blob in one frame: small beside a stream's credit. */
export const blobPartBytes = 256 * 1024;
/** Largest message: one part with its envelope. */
export const blobMessageBytesMax = blobPartBytes + 4 * 1024;
/** A side that neither sends nor takes a part for this long is given up. */
export const blobStallMs = 20_000;

const sizeSchema = v.pipe(countSchema, v.maxValue(blobBytesMax));

export const blobRequestSchema = v.variant('kind', [
  v.object({ version: v.literal(1), kind: v.literal('get'), hash: hashSchema }),
  v.object({ version: v.literal(1), kind: v.literal('put'), hash: hashSchema, bytes: sizeSchema }),
]);
export type BlobRequest = v.InferOutput<typeof blobRequestSchema>;

export const blobAnswerSchema = v.variant('kind', [
  /** To `get`: parts with so many bytes follow. */
  v.object({ kind: v.literal('found'), bytes: sizeSchema }),
  v.object({ kind: v.literal('absent') }),
  /** To `put`: send the parts. */
  v.object({ kind: v.literal('wanted') }),
  /** To `put`: it is on this disk, now or already. */
  v.object({ kind: v.literal('stored') }),
  /** Ends the stream: `busy`, `too-large`, `malformed`, `disk-full`. */
  v.object({ kind: v.literal('refused'), error: errorRecordSchema }),
]);
export type BlobAnswer = v.InferOutput<typeof blobAnswerSchema>;

export const blobPartSchema = v.object({
  kind: v.literal('part'),
  data: v.pipe(
    bytesSchema,
    v.check(
      (bytes) => bytes.byteLength > 0 && bytes.byteLength <= blobPartBytes,
      `expected 1 to ${blobPartBytes} bytes`,
    ),
  ),
});
