// Owns liveness: on each connection the peer with the smaller id asks at a regular pace and the other answers at once. Both
// thereby know that the other is alive, how far away it is, and under which addresses it can be dialled now.

import * as v from 'valibot';
import { addressSchema, countSchema } from './primitives.ts';

export const livenessProtocol = '/parley/liveness/1';
export const livenessBytesMax = 16 * 1024;
/** Between two questions on one connection, at the largest fleet: less than the two minutes after which a silent connection is closed. */
export const livenessPauseMsMax = 100_000;

const addressesSchema = v.pipe(v.array(addressSchema), v.maxLength(16));

export const livenessAskSchema = v.object({
  sequence: countSchema,
  /** The next question comes within this time; silence beyond it means that the asker is gone. */
  nextWithinMs: v.pipe(countSchema, v.maxValue(10 * 60 * 1000)),
  /** Round-trip time of the question before, for the peer that answers. */
  rttMs: v.optional(v.pipe(v.number(), v.minValue(0))),
  /** Present in the first message and whenever they have changed. */
  addresses: v.optional(addressesSchema),
});
export type LivenessAsk = v.InferOutput<typeof livenessAskSchema>;

export const livenessAnswerSchema = v.object({
  sequence: countSchema,
  /** One that has many connections wants to be asked no sooner than this; the asker keeps the longer pause of the two. */
  pauseMs: v.optional(v.pipe(countSchema, v.maxValue(livenessPauseMsMax))),
  addresses: v.optional(addressesSchema),
});
export type LivenessAnswer = v.InferOutput<typeof livenessAnswerSchema>;
