// Owns what consensus stores and others verify: log entries with their hash chain, configuration changes, snapshots and
// the tail. Bounds of a voter group are here too, since every table of consensus is bounded by them.

import * as v from 'valibot';
import { encode, hashOf, sha256Hex } from './codec.ts';
import { entryBytesMax } from './limits.ts';
import { bytesSchema, hashSchema } from './primitives.ts';

/** Voters and learners that one configuration may name: 7 voters (design §5), twice while joint, and learners beside them. */
export const configurationSizeMax = 32;
/** Bytes of one snapshot body, a fleet's state at every limit: kept whole in memory once on each side while it travels. */
export const snapshotBytesMax = 16 * 1024 * 1024;
/** Bytes of one part of a snapshot body, on the wire and in the store: small beside a stream's credit. */
export const snapshotPartBytesMax = 256 * 1024;

/** A voter's number, allotted by the ledger and never used again. Zero means nobody and never appears in records. */
export const raftIdSchema = v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(2 ** 31));
/** Terms and indexes; the bound leaves room to add to them exactly. */
export const positionSchema = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(2 ** 48));

/** Stated as the plain type, since an instance check infers a narrower one. */
const payloadSchema: v.GenericSchema<unknown, Uint8Array> = v.pipe(
  bytesSchema,
  v.check((data) => data.byteLength <= entryBytesMax, `expected at most ${entryBytesMax} bytes`),
);

const raftIdsSchema = v.pipe(v.array(raftIdSchema), v.maxLength(configurationSizeMax));

/** Who votes. While joint, a majority of `voters` and one of `votersOutgoing` are both needed. Lists are sorted. */
export const configurationSchema = v.object({
  voters: raftIdsSchema,
  votersOutgoing: raftIdsSchema,
  learners: raftIdsSchema,
  /** Voters of the outgoing half that become learners when the joint configuration is left. */
  learnersNext: raftIdsSchema,
  /** The leader leaves the joint configuration by itself once it is committed. */
  autoLeave: v.boolean(),
});
export type Configuration = v.InferOutput<typeof configurationSchema>;

/** These voters, sorted, and nobody else. */
export function plainConfiguration(voters: number[]): Configuration {
  return { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
}

export const configurationStepSchema = v.object({
  kind: v.picklist(['add-voter', 'add-learner', 'remove', 'update']),
  raftId: raftIdSchema,
});
export type ConfigurationStep = v.InferOutput<typeof configurationStepSchema>;

/**
 * The data of a configuration entry. Several steps, or a joint transition, enter a joint configuration; no steps leave
 * it. `joint-explicit` stays joint until such a leaving entry is proposed.
 */
export const configurationChangeSchema = v.object({
  version: v.literal(1),
  transition: v.picklist(['automatic', 'joint-implicit', 'joint-explicit']),
  steps: v.pipe(v.array(configurationStepSchema), v.maxLength(configurationSizeMax)),
  /** What the proposer wants the state machine to see; consensus does not read it. */
  context: payloadSchema,
});
export type ConfigurationChange = v.InferOutput<typeof configurationChangeSchema>;

/** One log entry. A configuration entry without data leaves the joint configuration (the leader's own automatic step). */
export const raftEntrySchema = v.object({
  index: positionSchema,
  term: positionSchema,
  type: v.picklist(['normal', 'configuration']),
  data: payloadSchema,
});
export type RaftEntry = v.InferOutput<typeof raftEntrySchema>;

/** An entry and the hash that ties it to all before it. */
export interface ChainedEntry extends RaftEntry {
  readonly chainHash: string;
}

/** An entry that a majority of voters has on disk. One without data is delivered too, so that the chain can be followed. */
export interface CommittedEntry extends ChainedEntry {
  /** What is in force after an entry of type `configuration`, where consensus itself delivers it. */
  readonly configuration?: Configuration;
}

/** One entry as stored: `previous` and `chainHash` tie it to the entry before it. */
export const entryRecordSchema = v.object({
  version: v.literal(1),
  ...raftEntrySchema.entries,
  previous: hashSchema,
  chainHash: hashSchema,
});
export type EntryRecord = v.InferOutput<typeof entryRecordSchema>;

/** The last batch that was written: what the log must end with, and the vote. `seal` is the hash of the other fields. */
export const tailRecordSchema = v.object({
  version: v.literal(1),
  batch: positionSchema,
  term: positionSchema,
  /** Whom this peer voted for in `term`; 0 for nobody. */
  vote: positionSchema,
  commit: positionSchema,
  lastIndex: positionSchema,
  lastHash: hashSchema,
  seal: hashSchema,
});
export type TailRecord = v.InferOutput<typeof tailRecordSchema>;

/** Bytes of a witness record; it is some 130. */
export const witnessBytesMax = 472;

/** What a file outside the database says about the last batch that was acknowledged, or may have been. */
export const witnessRecordSchema = v.object({
  version: v.literal(1),
  batch: positionSchema,
  term: positionSchema,
  vote: positionSchema,
  lastHash: hashSchema,
});
export type WitnessRecord = v.InferOutput<typeof witnessRecordSchema>;

/** Where the log starts: everything up to `index` lives in the state machine. */
export const snapshotMetadataSchema = v.object({
  index: positionSchema,
  term: positionSchema,
  chainHash: hashSchema,
  configuration: configurationSchema,
});
export type SnapshotMetadata = v.InferOutput<typeof snapshotMetadataSchema>;

/** The stored start of the log. `parts` > 0 while a body that came from the leader still waits to be restored. */
export const snapshotRecordSchema = v.object({
  version: v.literal(1),
  ...snapshotMetadataSchema.entries,
  parts: v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(snapshotBytesMax / snapshotPartBytesMax)),
  bodyHash: hashSchema,
  seal: hashSchema,
});
export type SnapshotRecord = v.InferOutput<typeof snapshotRecordSchema>;

/** `chainHash` of an entry, given that of the entry before it. */
export function entryChainHash(previous: string, entry: RaftEntry): string {
  const { index, term, type } = entry;
  return hashOf({ previous, index, term, type, payloadHash: sha256Hex(entry.data) });
}

/** The seal of a record: the hash of all its fields but `seal`. */
export function sealOf(record: object): string {
  return hashOf({ ...record, seal: undefined });
}

/** The bytes of a configuration change as an entry carries them. */
export function encodeConfigurationChange(change: Omit<ConfigurationChange, 'version'>): Uint8Array {
  return encode({ version: 1, ...change });
}
