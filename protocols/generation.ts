// Owns generations: how a fleet that lost the majority of its voters goes on. A record names the point that the fleet goes
// on from and its new voters, and is signed with the recovery key that `init` wrote; the ledger's entries that followed on
// that point in older generations never count again.

import * as v from 'valibot';
import { type VoterSet, voterIdentitySchema } from './certificate.ts';
import { encode, hashOf } from './codec.ts';
import { positionSchema } from './consensus-record.ts';
import { countSchema, hashSchema, signatureSchema } from './primitives.ts';

/** Raft ids of generation g start at g times this: no id that a lost part of the ledger allotted is ever used again. */
export const raftIdsPerGeneration = 1_000_000;
/** The last one whose raft ids are numbers that consensus takes. */
const generationNumberMax = 2_000;

export const generationRecordSchema = v.object({
  version: v.literal(1),
  fleet: hashSchema,
  /** 1 for the first recovery; genesis begins generation 0. */
  number: v.pipe(countSchema, v.minValue(1), v.maxValue(generationNumberMax)),
  /** The last entry that the new generation keeps. */
  baseIndex: positionSchema,
  baseTerm: positionSchema,
  baseHash: hashSchema,
  voters: v.pipe(v.array(voterIdentitySchema), v.minLength(1), v.maxLength(7)),
  /** By the recovery key; null where that key is lost: then root on each device must trust the record by its hash. */
  signature: v.nullable(signatureSchema),
});
export type GenerationRecord = v.InferOutput<typeof generationRecordSchema>;

/** The bytes under the recovery key's signature. */
export function generationStatement(record: Omit<GenerationRecord, 'signature'>): Uint8Array {
  return encode({ purpose: 'parley-generation', ...unsigned(record) });
}

/** What people compare and `parley trust` takes: the hash of the record without its signature. */
export function generationHash(record: Omit<GenerationRecord, 'signature'>): string {
  return hashOf(unsigned(record));
}

/** The voters that a generation begins with: in force after its first entry. */
export function generationVoters({ number, baseIndex, voters }: GenerationRecord): VoterSet {
  const sorted = [...voters].sort((a, b) => a.raftId - b.raftId);
  return { generation: number, index: baseIndex + 1, voters: sorted, votersOutgoing: [] };
}

/** Those that count still, by number: others begin after a place that a newer one went back behind. */
export function standingGenerations(records: readonly GenerationRecord[]): GenerationRecord[] {
  const byNumber = records.toSorted((a, b) => a.number - b.number);
  return byNumber.filter((record) => !isOverruled(records, generationVoters(record)));
}

/** True for what an older generation has at a place that a newer one went on without. */
export function isOverruled(
  records: readonly GenerationRecord[],
  place: { readonly generation: number; readonly index: number },
): boolean {
  return records.some(({ number, baseIndex }) => number > place.generation && place.index > baseIndex);
}

function unsigned(record: Omit<GenerationRecord, 'signature'>): Omit<GenerationRecord, 'signature'> {
  const { version, fleet, number, baseIndex, baseTerm, baseHash, voters } = record;
  return { version, fleet, number, baseIndex, baseTerm, baseHash, voters };
}
