// Owns the question of a controller to a peer to keep a built closure: `/parley/closure-keep/1`. A closure that only its
// builder has dies with it; an order may name it only once another peer has it too, where there is one.

import * as v from 'valibot';
import { errorRecordSchema, hashSchema } from './primitives.ts';

export const closureKeepProtocol = '/parley/closure-keep/1';
/** A hash, or an error record. */
export const closureKeepBytesMax = 32 * 1024;

export const closureKeepRequestSchema = v.object({ version: v.literal(1), manifest: hashSchema });

export const closureKeepReplySchema = v.variant('type', [
  /** The closure is valid in the peer's store, and rooted. */
  v.object({ type: v.literal('kept') }),
  v.object({ type: v.literal('refused'), error: errorRecordSchema }),
]);
