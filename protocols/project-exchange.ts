// Owns how a peer that lacks commits of the project gets them from another one: one request, then a git pack in frames.

import * as v from 'valibot';
import { countSchema, errorRecordSchema, revisionSchema } from './primitives.ts';

export const projectProtocol = '/parley/project/1';
export const packFrameBytesMax = 256 * 1024;
/** A whole project with its history; more belongs into an input of the flake. */
export const projectPackBytesMax = 256 * 1024 * 1024;

export const packRequestSchema = v.object({
  version: v.literal(1),
  want: revisionSchema,
  /** The asker's own head: the pack leaves out what that reaches. */
  have: v.nullable(revisionSchema),
});

/** First frame of the answer; the pack's bytes follow in frames until `bytes` have come. */
export const packAnswerSchema = v.variant('kind', [
  v.object({ kind: v.literal('pack'), bytes: v.pipe(countSchema, v.maxValue(projectPackBytesMax)) }),
  v.object({ kind: v.literal('error'), error: errorRecordSchema }),
]);
