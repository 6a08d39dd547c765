// Owns the messages of /parley/ledger/1: a member follows the ledger over one stream, from the entry after its own last
// one. The other side sends what is committed and goes on sending as entries commit; a member that is too far behind gets
// a snapshot first. The hash chain ties everything to what the member has.

import * as v from 'valibot';
import { positionSchema, raftEntrySchema, snapshotBytesMax } from './consensus-record.ts';
import { messageBytesMax } from './limits.ts';
import { bytesSchema, countSchema, errorRecordSchema, hashSchema } from './primitives.ts';

export const entryPullProtocol = '/parley/ledger/1';

export const entryPullRequestBytesMax = 1024;
/** A page is closed at this many bytes of data: one more entry of the largest size still fits a message. */
export const entryPageBytes = messageBytesMax / 2;
/** Entries of one page: bounds what a decoder builds from many small entries. */
export const entryPageEntriesMax = 1_024;
export const entrySnapshotPartBytes = 256 * 1024;
/** A sender that has nothing to send says so this often; three silent periods end the stream. */
export const entryPullIdleMs = 5_000;

/** The only message of the side that follows. */
export const entryPullRequestSchema = v.object({
  version: v.literal(1),
  fleet: hashSchema,
  /** Index of the first entry that is wanted. */
  from: v.pipe(positionSchema, v.minValue(2)),
  /** Chain hash of the entry before it. */
  previous: hashSchema,
});
export type EntryPullRequest = v.InferOutput<typeof entryPullRequestSchema>;

export const pulledEntrySchema = v.object({
  ...raftEntrySchema.entries,
  chainHash: hashSchema,
});
export type PulledEntry = v.InferOutput<typeof pulledEntrySchema>;

const certificateSchema = v.pipe(
  bytesSchema,
  v.check((bytes) => bytes.byteLength <= 4 * 1024, 'expected at most 4096 bytes'),
);

export const entryPullAnswerSchema = v.variant('kind', [
  v.object({
    kind: v.literal('entries'),
    entries: v.pipe(v.array(pulledEntrySchema), v.minLength(1), v.maxLength(entryPageEntriesMax)),
    /** Room for the voters' signatures over the page's last entry. */
    certificate: v.optional(certificateSchema),
  }),
  /** Parts with the state follow, then entries from `index + 1` on. */
  v.object({
    kind: v.literal('snapshot'),
    index: positionSchema,
    term: positionSchema,
    chainHash: hashSchema,
    bytes: v.pipe(countSchema, v.maxValue(snapshotBytesMax)),
    hash: hashSchema,
    certificate: v.optional(certificateSchema),
  }),
  v.object({
    kind: v.literal('snapshot-part'),
    data: v.pipe(
      bytesSchema,
      v.check(
        (bytes) => bytes.byteLength <= entrySnapshotPartBytes,
        `expected at most ${entrySnapshotPartBytes} bytes`,
      ),
    ),
  }),
  /** Nothing new; `index` is the sender's last entry. */
  v.object({ kind: v.literal('idle'), index: positionSchema }),
  /** Ends the stream: `wrong-fleet`, `chain-mismatch`, `busy`. */
  v.object({ kind: v.literal('refused'), error: errorRecordSchema }),
]);
export type EntryPullAnswer = v.InferOutput<typeof entryPullAnswerSchema>;
