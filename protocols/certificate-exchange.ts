// Owns the messages of /parley/certificate/1: whoever opens the stream asks a voter for its signatures of places in the
// ledger, hands over certificates, or asks for some that it lacks. Everything in them is checked by who receives it; the
// stream itself proves nothing.

import * as v from 'valibot';
import { certificateBytesMax, certificateSchema } from './certificate.ts';
import { positionSchema, raftIdSchema } from './consensus-record.ts';
import { countSchema, hashSchema, signatureSchema } from './primitives.ts';

export const certificateProtocol = '/parley/certificate/1';

/** Places or certificates in one message: some 10 ms of signing or checking. */
export const certificatePlacesMax = 64;
export const certificateMessageBytesMax = (certificatePlacesMax + 2) * certificateBytesMax;

const placeSchema = v.object({ generation: countSchema, index: positionSchema, chainHash: hashSchema });
const someCertificatesSchema = v.pipe(v.array(certificateSchema), v.maxLength(certificatePlacesMax + 1));

export const certificateQuestionSchema = v.variant('kind', [
  /** A voter answers for each place as soon as it has applied it, if it finds the same there; else not at all. */
  v.object({
    version: v.literal(1),
    kind: v.literal('sign'),
    fleet: hashSchema,
    places: v.pipe(v.array(placeSchema), v.minLength(1), v.maxLength(certificatePlacesMax)),
  }),
  v.object({
    version: v.literal(1),
    kind: v.literal('take'),
    fleet: hashSchema,
    certificates: v.pipe(someCertificatesSchema, v.minLength(1)),
  }),
  /** Certificates of these places, and the newest one if it is of a later place than `after`. */
  v.object({
    version: v.literal(1),
    kind: v.literal('give'),
    fleet: hashSchema,
    indexes: v.pipe(v.array(positionSchema), v.maxLength(certificatePlacesMax)),
    after: positionSchema,
  }),
]);
export type CertificateQuestion = v.InferOutput<typeof certificateQuestionSchema>;

export const certificateShareSchema = v.object({
  raftId: raftIdSchema,
  index: positionSchema,
  signature: signatureSchema,
});
/** One voter's signature of a place that it was asked about. */
export type CertificateShare = v.InferOutput<typeof certificateShareSchema>;

export const certificateAnswerSchema = v.variant('kind', [
  v.object({
    kind: v.literal('shares'),
    shares: v.pipe(v.array(certificateShareSchema), v.minLength(1), v.maxLength(certificatePlacesMax)),
  }),
  v.object({ kind: v.literal('certificates'), certificates: someCertificatesSchema }),
]);
export type CertificateAnswer = v.InferOutput<typeof certificateAnswerSchema>;
