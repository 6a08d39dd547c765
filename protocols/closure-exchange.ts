// Owns the messages by which peers hand each other the contents of closures: `/parley/closure/1`. A stream carries one
// request after another; each is answered in full before the next. A unit is addressed by (manifest hash, ordinal in the
// manifest, byte offset); version 1 knows the unit `path`, the NAR of one store path. Chunks and batches become further units.

import * as v from 'valibot';
import { countSchema, errorRecordSchema, hashSchema } from './primitives.ts';

export const closureProtocol = '/parley/closure/1';

/** NAR bytes in one frame: replies below 256 KiB cost libp2p half its throughput, larger ones only add memory. */
export const closureFrameBytes = 256 * 1024;
/** Largest message: one frame with its envelope; a `have` over every path of the largest manifest needs 6 KiB. */
export const closureMessageBytesMax = closureFrameBytes + 4 * 1024;
/** Largest request: a bitmap over every path of the largest manifest, with its envelope. */
export const closureRequestBytesMax = 8 * 1024;
/** Bytes of a bitmap over 50,000 paths, the most that a manifest lists. */
export const closureBitmapBytesMax = 50_000 / 8;
/** A sender that has nothing to send yet says so this often; a silent one is taken for dead after two seconds. */
export const closureWaitingPeriodMs = 500;
/** Times a sender may start a unit again within one answer, after content that failed its check. */
export const closureRestartsMax = 8;
/** Partly held units told in one `have`: only what is in flight, so that it can be taken over where it stands. */
export const closurePartialsMax = 64;

const unitSchema = v.literal('path');
const bitmapSchema = bytesAtMost(closureBitmapBytesMax);

/** Which of these units can you serve now? Bit n of `ordinals` (byte n >> 3, value 1 << (n & 7)) stands for unit n. */
export const closureHaveRequestSchema = v.object({
  kind: v.literal('have'),
  unit: unitSchema,
  manifest: hashSchema,
  ordinals: bitmapSchema,
});

/**
 * Send a unit from a byte offset on. `fetch`: only what the asked peer has or is receiving across the uplink now, with
 * `partial` what it holds of an unfinished unit. `gather`: peers of one site only; the asked one brings the unit across
 * the uplink if nobody at the site has it, and streams it on as it arrives.
 */
export const closureSendRequestSchema = v.object({
  kind: v.picklist(['fetch', 'gather']),
  unit: unitSchema,
  manifest: hashSchema,
  ordinal: countSchema,
  offset: countSchema,
  partial: v.boolean(),
});

export const closureRequestSchema = v.variant('kind', [closureHaveRequestSchema, closureSendRequestSchema]);
export type ClosureHaveRequest = v.InferOutput<typeof closureHaveRequestSchema>;
export type ClosureSendRequest = v.InferOutput<typeof closureSendRequestSchema>;
export type ClosureRequest = v.InferOutput<typeof closureRequestSchema>;

/** Answer to `have`: whole units; those on their way across the uplink to this peer; and unfinished ones with their bytes. */
export const closureHeldSchema = v.object({
  kind: v.literal('held'),
  ordinals: bitmapSchema,
  arriving: bitmapSchema,
  partials: v.pipe(v.array(v.object({ ordinal: countSchema, bytes: countSchema })), v.maxLength(closurePartialsMax)),
});
export type ClosureHeld = v.InferOutput<typeof closureHeldSchema>;

/** First message about a unit, before its bytes; sent again when the unit starts over at another offset. */
const headerSchema = v.object({ kind: v.literal('header'), size: countSchema, offset: countSchema });
const dataSchema = v.object({ kind: v.literal('data'), bytes: bytesAtMost(closureFrameBytes) });
/** A sign of life of a sender that queues, skips to the offset or is still fetching the unit itself. */
const waitingSchema = v.object({ kind: v.literal('waiting') });
/** Ends an answer. `complete` is false only after a `partial` request: the unit's sender has no more of it. */
const trailerSchema = v.object({ kind: v.literal('trailer'), complete: v.boolean() });
const failureSchema = v.object({ kind: v.literal('error'), error: errorRecordSchema });

/** Everything that a sender answers. An `error` ends the answer; the stream stays usable. */
export const closureAnswerSchema = v.variant('kind', [
  closureHeldSchema,
  headerSchema,
  dataSchema,
  waitingSchema,
  trailerSchema,
  failureSchema,
]);
export type ClosureAnswer = v.InferOutput<typeof closureAnswerSchema>;

/** Marks units in a bitmap that has room for `count` of them. */
export function toBitmap(ordinals: Iterable<number>, count: number): Uint8Array {
  const bitmap = new Uint8Array(Math.ceil(count / 8));
  for (const ordinal of ordinals) bitmap[ordinal >> 3] = (bitmap[ordinal >> 3] ?? 0) | (1 << (ordinal & 7));
  return bitmap;
}

/** The units marked in a bitmap, ascending; those from `count` on are left out. */
export function fromBitmap(bitmap: Uint8Array, count: number): number[] {
  const ordinals: number[] = [];
  for (let ordinal = 0; ordinal < Math.min(count, bitmap.byteLength * 8); ordinal += 1) {
    if (((bitmap[ordinal >> 3] ?? 0) & (1 << (ordinal & 7))) !== 0) ordinals.push(ordinal);
  }
  return ordinals;
}

function bytesAtMost(bytesMax: number) {
  return v.custom<Uint8Array>(
    (value) => value instanceof Uint8Array && value.byteLength <= bytesMax,
    `expected at most ${bytesMax} bytes`,
  );
}
