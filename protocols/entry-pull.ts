// Owns the messages of /parley/ledger/1: a peer that pulls its entries follows the ledger over one stream, from the entry after
// its own last one, on a voter or on another member alike. What comes is worth nothing until a certificate covers it. Hashes
// that the other side computes by itself are left out, so that catching up costs little more than the entries.

import * as v from 'valibot';
import { certificateSchema, configurationProofSchema } from './certificate.ts';
import { configurationSizeMax, positionSchema, raftIdSchema, snapshotBytesMax } from './consensus-record.ts';
import { entryBytesMax, messageBytesMax } from './limits.ts';
import { bytesSchema, countSchema, errorRecordSchema, hashSchema, signatureSchema } from './primitives.ts';

export const entryPullProtocol = '/parley/ledger/1';

export const entryPullRequestBytesMax = 256;
/** A page is closed at this many bytes of data: one more entry of the largest size still fits a message. */
export const entryPageBytes = messageBytesMax / 2;
/** Entries of one page: bounds what a decoder builds from many small entries. */
export const entryPageEntriesMax = 1_024;
/** Configuration proofs of one message, each at most an entry and its certificate. */
export const entryProofsMax = 8;
export const entrySnapshotPartBytes = 256 * 1024;
/** Entries without a certificate that a follower keeps aside, and their bytes: a server that has no certificate within them sends a checkpoint. */
export const uncertifiedEntriesMax = 8 * entryPageEntriesMax;
export const uncertifiedBytesMax = 16 * entryPageBytes;
/** A sender that has nothing to send says so this often; three silent periods end the stream. The mesh notices a dead peer sooner: this is for one that hangs, and a thousand followers make it dear. */
export const entryPullIdleMs = 60_000;

const dataSchema = v.pipe(
  bytesSchema,
  v.check((bytes) => bytes.byteLength <= entryBytesMax, `expected at most ${entryBytesMax} bytes`),
);

/** The only message of the side that follows. */
export const entryPullRequestSchema = v.object({
  version: v.literal(1),
  /** Index of the first entry that is wanted. */
  from: v.pipe(positionSchema, v.minValue(2)),
  /** Chain hash of the entry before it, in bytes: it stands for the whole ledger so far, and for the fleet. */
  previous: v.pipe(
    bytesSchema,
    v.check((bytes) => bytes.byteLength === 32, 'expected 32 bytes'),
  ),
});
export type EntryPullRequest = v.InferOutput<typeof entryPullRequestSchema>;

/** Entries of one term that follow on what was sent before. */
export const entryPageSchema = v.object({
  kind: v.literal('entries'),
  term: positionSchema,
  /** Their data. All are normal ones, but for the last where `endsWithConfiguration` says so. */
  entries: v.pipe(v.array(dataSchema), v.minLength(1), v.maxLength(entryPageEntriesMax)),
  endsWithConfiguration: v.optional(v.literal(true)),
  /** A certificate of the page's last entry by the voters in force before it: raft ids and signatures. A configuration entry never comes without one. */
  signatures: v.optional(
    v.pipe(v.array(v.strictTuple([raftIdSchema, signatureSchema])), v.minLength(1), v.maxLength(configurationSizeMax)),
  ),
});
export type EntryPage = v.InferOutput<typeof entryPageSchema>;

/** The entry that made a checkpoint, with what is needed to check it. */
export const checkpointProofSchema = v.object({
  entry: v.object({ index: positionSchema, term: positionSchema, data: dataSchema }),
  /** Chain hash of the entry before it. */
  previous: hashSchema,
  /** By the voters in force before it. */
  certificate: certificateSchema,
});
export type CheckpointProof = v.InferOutput<typeof checkpointProofSchema>;

export const entryPullAnswerSchema = v.variant('kind', [
  entryPageSchema,
  /** The changes of voters since the asked entry, in order: a checkpoint follows. */
  v.object({
    kind: v.literal('configurations'),
    proofs: v.pipe(v.array(configurationProofSchema), v.minLength(1), v.maxLength(entryProofsMax)),
  }),
  /** Parts with the state of the checkpoint follow, then entries from the one after it on. */
  v.object({
    kind: v.literal('checkpoint'),
    ...checkpointProofSchema.entries,
    bytes: v.pipe(countSchema, v.minValue(1), v.maxValue(snapshotBytesMax)),
  }),
  v.object({
    kind: v.literal('checkpoint-part'),
    data: v.pipe(
      bytesSchema,
      v.check(
        (bytes) => bytes.byteLength > 0 && bytes.byteLength <= entrySnapshotPartBytes,
        `expected 1 to ${entrySnapshotPartBytes} bytes`,
      ),
    ),
  }),
  /** Nothing new; `index` is the sender's newest certified entry. */
  v.object({ kind: v.literal('idle'), index: positionSchema }),
  /** Ends the stream: `chain-mismatch`, `checkpoint-missing`, `behind`, `busy`. */
  v.object({ kind: v.literal('refused'), error: errorRecordSchema }),
]);
export type EntryPullAnswer = v.InferOutput<typeof entryPullAnswerSchema>;
