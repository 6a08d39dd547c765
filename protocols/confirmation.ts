// Owns the confirmation of a switch by another peer (`/parley/confirm/1`): one nonce out, one signed answer back. It proves
// that the device can still be reached over the network with its new system, and binds that to order, closure and boot.

import * as v from 'valibot';
import { encode } from './codec.ts';
import {
  bytesSchema,
  countSchema,
  errorRecordSchema,
  peerIdSchema,
  signatureSchema,
  storePathSchema,
  timeMsSchema,
} from './primitives.ts';

export const confirmationProtocol = '/parley/confirm/1';
export const confirmationBytesMax = 2 * 1024;

/** Random and used once, so that an answer cannot be older than its question. */
const nonceSchema = v.pipe(
  bytesSchema,
  v.check((bytes) => bytes.byteLength === 32, 'expected 32 bytes'),
);

export const confirmationRequestSchema = v.object({
  version: v.literal(1),
  nonce: nonceSchema,
  order: countSchema,
  closure: storePathSchema,
  bootId: v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
});
export type ConfirmationRequest = v.InferOutput<typeof confirmationRequestSchema>;

export const confirmationAnswerSchema = v.variant('kind', [
  v.object({ kind: v.literal('confirmed'), atMs: timeMsSchema, signature: signatureSchema }),
  v.object({ kind: v.literal('error'), error: errorRecordSchema }),
]);
export type ConfirmationAnswer = v.InferOutput<typeof confirmationAnswerSchema>;

export const confirmationSchema = v.object({
  confirmer: peerIdSchema,
  device: peerIdSchema,
  request: confirmationRequestSchema,
  atMs: timeMsSchema,
});
export type Confirmation = v.InferOutput<typeof confirmationSchema>;

/** The bytes that the confirming peer signs. */
export function confirmationSigningBytes(confirmation: Confirmation): Uint8Array {
  return encode({ context: 'parley/confirmation/1', ...confirmation });
}
