// Owns the messages of /parley/generation/1: a peer tells which generations of the fleet it knows and gets the records that it
// lacks. Voters and members ask alike, since a voter that was away may lead others that were.

import * as v from 'valibot';
import { generationRecordSchema } from './generation.ts';
import { countSchema, hashSchema } from './primitives.ts';

export const generationProtocol = '/parley/generation/1';

/**
 * Recoveries in a fleet's life that peers keep the records of; the oldest leave. Nobody needs those once the newest generation
 * has its checkpoint.
 */
export const generationsMax = 64;
export const generationRequestBytesMax = 8 * 1024;

export const generationRequestSchema = v.object({
  version: v.literal(1),
  known: v.pipe(v.array(v.object({ number: countSchema, hash: hashSchema })), v.maxLength(generationsMax)),
});
export type GenerationRequest = v.InferOutput<typeof generationRequestSchema>;

/** Records that the asker did not name, rivals of those that it did among them; by number. */
export const generationAnswerSchema = v.object({
  version: v.literal(1),
  records: v.pipe(v.array(generationRecordSchema), v.maxLength(generationsMax)),
});
