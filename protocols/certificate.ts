// Owns certificates: voters' signatures that prove an entry committed, the voter sets that they are judged by, and what a
// configuration entry says about the voters that follow from it. Whoever knows the fleet's first entry can follow the voters
// from set to set like a light client and trusts nobody's word on the way.

import * as v from 'valibot';
import { decode, encode } from './codec.ts';
import {
  type Configuration,
  configurationChangeSchema,
  configurationSchema,
  configurationSizeMax,
  plainConfiguration,
  positionSchema,
  type RaftEntry,
  raftIdSchema,
} from './consensus-record.ts';
import { entryBytesMax } from './limits.ts';
import { bytesSchema, countSchema, hashSchema, peerIdSchema, signatureSchema } from './primitives.ts';

/** Certificates travel with pages of entries: 14 signatures, for a joint set of 7 and 7 voters, and their heads. */
export const certificateBytesMax = 2 * 1024;

/** A voter as certificates know it. `key` is the Ed25519 key that it signs with, in the text form of peer ids; it is another one than the peer's own and is given up with the raft id. */
export const voterIdentitySchema = v.object({ raftId: raftIdSchema, peer: peerIdSchema, key: peerIdSchema });
export type VoterIdentity = v.InferOutput<typeof voterIdentitySchema>;

const voterIdentitiesSchema = v.pipe(v.array(voterIdentitySchema), v.maxLength(configurationSizeMax));

/** The voters in force after the entry at `index`. While joint, a majority of both halves is needed. Sorted by raft id. */
export const voterSetSchema = v.object({
  generation: countSchema,
  index: positionSchema,
  voters: v.pipe(voterIdentitiesSchema, v.minLength(1)),
  votersOutgoing: voterIdentitiesSchema,
});
export type VoterSet = v.InferOutput<typeof voterSetSchema>;

/** What a voter signs once it has applied the entry. */
export interface CertifiedPlace {
  readonly generation: number;
  readonly index: number;
  readonly chainHash: string;
}

export const certificateSchema = v.object({
  version: v.literal(1),
  generation: countSchema,
  index: positionSchema,
  chainHash: hashSchema,
  signatures: v.pipe(
    v.array(v.object({ raftId: raftIdSchema, signature: signatureSchema })),
    v.minLength(1),
    v.maxLength(configurationSizeMax),
  ),
});
export type Certificate = v.InferOutput<typeof certificateSchema>;

/** The bytes under a voter's signature. The first word keeps them apart from everything else that peers sign. */
export function certificateStatement(fleet: string, { generation, index, chainHash }: CertifiedPlace): Uint8Array {
  return encode({ purpose: 'parley-certificate', version: 1, fleet, generation, index, chainHash });
}

/** The voters of both halves, those of the new one first; who is in both comes twice. Also the raft ids of a configuration. */
export function allVoters<Voter>(set: {
  readonly voters: readonly Voter[];
  readonly votersOutgoing: readonly Voter[];
}): Voter[] {
  return [...set.voters, ...set.votersOutgoing];
}

/** True when these voters are a majority of the set, of both halves while it is joint. */
export function isVoterMajority(set: VoterSet, raftIds: ReadonlySet<number>): boolean {
  const holds = (voters: readonly VoterIdentity[]): boolean =>
    voters.filter(({ raftId }) => raftIds.has(raftId)).length * 2 > voters.length;
  return holds(set.voters) && (set.votersOutgoing.length === 0 || holds(set.votersOutgoing));
}

/** True when the voters on these peers are a majority of the set. */
export function isPeerMajority(set: VoterSet, peers: ReadonlySet<string>): boolean {
  const having = allVoters(set).filter(({ peer }) => peers.has(peer));
  return isVoterMajority(set, new Set(having.map(({ raftId }) => raftId)));
}

/** The key of a voter of the set; undefined for a stranger. */
export function voterKeyOf(set: VoterSet, raftId: number): string | undefined {
  return allVoters(set).find((voter) => voter.raftId === raftId)?.key;
}

/**
 * True when the certificate proves its entry to whoever trusts `set`: the voters in force just before that entry. Signatures
 * of strangers, repeated and wrong ones do not count. `verify(key, bytes, signature)` checks Ed25519.
 */
export function isCertified(
  set: VoterSet,
  fleet: string,
  certificate: Certificate,
  verify: (key: string, bytes: Uint8Array, signature: Uint8Array) => boolean,
): boolean {
  if (certificate.generation !== set.generation || certificate.index <= set.index) return false;
  const statement = certificateStatement(fleet, certificate);
  const signers = new Set<number>();
  for (const { raftId, signature } of certificate.signatures) {
    const key = voterKeyOf(set, raftId);
    if (key === undefined || signers.has(raftId)) continue;
    if (verify(key, statement, signature)) signers.add(raftId);
  }
  return isVoterMajority(set, signers);
}

/** What the context of a configuration entry says: the configuration that follows from it and who its voters are, both halves. Frozen. */
export const configurationContextSchema = v.object({
  version: v.literal(1),
  configuration: configurationSchema,
  voters: voterIdentitiesSchema,
});
export type ConfigurationContext = v.InferOutput<typeof configurationContextSchema>;

export function encodeConfigurationContext(context: Omit<ConfigurationContext, 'version'>): Uint8Array {
  return encode({ version: 1, ...context });
}

/**
 * What a configuration entry puts in force, read from the entry alone; undefined for one that leaves a joint configuration,
 * which says nothing. @throws ParleyError `malformed` when it enters a configuration without saying which.
 */
export function configurationContextOf({ data }: Pick<RaftEntry, 'data'>): ConfigurationContext | undefined {
  if (data.byteLength === 0) return undefined;
  const change = decode(configurationChangeSchema, data, entryBytesMax, 'change of voters');
  if (change.steps.length === 0) return undefined;
  return decode(configurationContextSchema, change.context, entryBytesMax, 'context of a change of voters');
}

/** The set in force after a configuration entry at `index`, given the one before it and what the entry says. */
export function nextVoterSet(before: VoterSet, index: number, context: ConfigurationContext | undefined): VoterSet {
  if (context === undefined) return { ...before, index, votersOutgoing: [] };
  const { configuration, voters } = context;
  return {
    generation: before.generation,
    index,
    voters: identitiesOf(configuration.voters, voters),
    votersOutgoing: identitiesOf(configuration.votersOutgoing, voters),
  };
}

/** The configuration in force after a configuration entry, given the one before it. */
export function nextConfiguration(before: Configuration, context: ConfigurationContext | undefined): Configuration {
  if (context !== undefined) return context.configuration;
  const learners = [...new Set([...before.learners, ...before.learnersNext])].sort((a, b) => a - b);
  return { ...plainConfiguration(before.voters), learners };
}

function identitiesOf(raftIds: readonly number[], voters: readonly VoterIdentity[]): VoterIdentity[] {
  return voters.filter(({ raftId }) => raftIds.includes(raftId)).sort((a, b) => a.raftId - b.raftId);
}

/** One configuration entry with what is needed to check it: kept for ever by every peer. */
export const configurationProofSchema = v.object({
  entry: v.object({ index: positionSchema, term: positionSchema, type: v.literal('configuration'), data: bytesSchema }),
  /** Chain hash of the entry before it. */
  previous: hashSchema,
  /** By the voters in force before it. */
  certificate: certificateSchema,
});
export type ConfigurationProof = v.InferOutput<typeof configurationProofSchema>;
