// Owns the question that a device asks of voters before it arms an order (`/parley/order-question/1`): is it still the newest
// one? A nonce out, the same nonce back, over a connection that says who answers; a majority of the voters is counted.

import * as v from 'valibot';
import { positionSchema } from './consensus-record.ts';
import { bytesSchema, countSchema, errorRecordSchema, hashSchema, nameSchema } from './primitives.ts';

export const orderQuestionProtocol = '/parley/order-question/1';
export const orderQuestionBytesMax = 2 * 1024;
export const orderNonceBytes = 32;

/** Random and used once, so that an answer cannot be older than its question. */
const nonceSchema = v.pipe(
  bytesSchema,
  v.check((bytes) => bytes.byteLength === orderNonceBytes, `expected ${orderNonceBytes} bytes`),
);

export const orderQuestionSchema = v.object({
  version: v.literal(1),
  nonce: nonceSchema,
  host: nameSchema,
  slot: v.literal('system'),
  generation: countSchema,
  number: countSchema,
  /** Hash of what the order says. */
  hash: hashSchema,
});
export type OrderQuestion = v.InferOutput<typeof orderQuestionSchema>;

export const orderAnswerSchema = v.variant('kind', [
  v.object({
    kind: v.literal('answer'),
    nonce: nonceSchema,
    /** By the answering peer's own ledger: the newest order of the slot, word for word, and not cancelled. */
    isCurrent: v.boolean(),
    /** The newest order that it knows of the slot; zeros for none. */
    generation: countSchema,
    number: countSchema,
    /** How far its ledger is. */
    ledgerIndex: positionSchema,
  }),
  v.object({ kind: v.literal('error'), error: errorRecordSchema }),
]);
export type OrderAnswer = v.InferOutput<typeof orderAnswerSchema>;
