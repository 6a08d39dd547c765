// Owns what the ledger room keeps in its own database: how it began, heads of snapshots, entries that a member pulled. Beside
// them lie certificates, and proofs of changes of voters and of checkpoints, in the form in which they travel.

import * as v from 'valibot';
import { voterSetSchema } from './certificate.ts';
import { positionSchema, raftEntrySchema, snapshotBytesMax, snapshotPartBytesMax } from './consensus-record.ts';
import { joinContactSchema } from './join.ts';
import { countSchema, hashSchema } from './primitives.ts';

/** Members to talk to while the own ledger is still behind the own joining. */
export const ledgerContactsSchema = v.pipe(v.array(joinContactSchema), v.maxLength(64));
export const ledgerContactsBytesMax = 1024 * 1024;

/** The parts of the snapshot, in order, have `bytes` bytes with this hash. `seal` is the hash of the other fields. */
export const ledgerSnapshotHeadSchema = v.object({
  version: v.literal(1),
  index: positionSchema,
  term: positionSchema,
  chainHash: hashSchema,
  bytes: v.pipe(countSchema, v.maxValue(snapshotBytesMax)),
  parts: v.pipe(countSchema, v.maxValue(snapshotBytesMax / snapshotPartBytesMax)),
  hash: hashSchema,
  seal: hashSchema,
});
export const ledgerSnapshotHeadBytesMax = 1024;

/** A certified entry as members keep it. */
export const pulledEntrySchema = v.object({ ...raftEntrySchema.entries, chainHash: hashSchema });

/** Changes of voters whose proofs a snapshot did not bring: those after `after`, up to the one that `voterSet` follows from. */
export const missingProofsSchema = v.object({ version: v.literal(1), after: positionSchema, voterSet: voterSetSchema });
export const missingProofsBytesMax = 16 * 1024;
export type MissingProofs = v.InferOutput<typeof missingProofsSchema>;
