// Owns what this peer keeps to prove the ledger to others and to itself: each change of voters with its certificate, for ever;
// certificates of the newest orders, of the checkpoints that snapshots hang on, and of the newest entry. Each was checked before
// it is kept. What was certain once stays so: entries that contradict it are refused, after a restart too.

import {
  type Certificate,
  type ConfigurationProof,
  certificateBytesMax,
  certificateSchema,
  configurationProofSchema,
  isCertified,
  type VoterSet,
} from '../../protocols/certificate.ts';
import { decode, encode, type Schema } from '../../protocols/codec.ts';
import { type CheckpointProof, checkpointProofSchema, entryProofsMax } from '../../protocols/entry-pull.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { type GenerationRecord, generationVoters, isOverruled } from '../../protocols/generation.ts';
import { type MissingProofs, missingProofsBytesMax, missingProofsSchema } from '../../protocols/ledger-record.ts';
import { entryBytesMax } from '../../protocols/limits.ts';
import type { KeyValueStore, Logger, StoreOperation } from '../interfaces.ts';
import { endOf, numberedKey } from '../keys.ts';
import type { Genesis } from './genesis-core.ts';
import type { CertificateKeeper, LedgerComponents } from './ledger-types.ts';
import {
  type Place,
  type Proven,
  type Trust,
  takeCheckpoint,
  takeConfiguration,
  trustIn,
  trustUpTo,
  voterSetBefore,
  withVoterSet,
} from './trust-core.ts';

/** Of certificates that only say how far the ledger is, the newest stays and one in so many entries: pages for members end there. */
const entriesBetween = 256;
/** Such certificates at most: they reach further back than any log. */
const milestonesMax = 256;
const proofBytesMax = entryBytesMax + certificateBytesMax + 1024;
const missingKey = 'proofs-missing';
const families = { certificate: 'certificate/', configuration: 'configuration/', checkpoint: 'checkpoint/' } as const;

/** A checked certificate, with what its entry is beside an entry where that is kept by itself. */
export type Certified = Pick<Proven, 'certificate' | 'configuration' | 'checkpoint'>;

export interface Checkpoint {
  readonly proof: CheckpointProof;
  readonly stateHash: string;
}

export interface Prepared {
  /** For a batch of the caller, who calls believe() once that is on the disk. */
  readonly operations: readonly StoreOperation[];
  readonly believe: () => void;
}

export interface Certificates extends CertificateKeeper {
  /** Reads what is kept; what is damaged is left out and logged, and what is overruled is deleted. Called once, before all others. */
  load(): Promise<void>;
  /** Deletes what is kept of the entries after an index: the fleet may have gone on from there with others. */
  goBack(index: number): Promise<void>;
  /** Deletes what older generations have certified: a state of this one stands for all of it. */
  forgetBefore(generation: number): Promise<void>;
  /** The voters as far as they are known here, from genesis on. */
  trust(): Trust;
  /** The kept certificate nearest to an index from below, `from` at the least. */
  nearest(from: number, to: number): Certificate | undefined;
  /** Chain hash of an entry that is known to be certified. */
  certainHash(index: number): string | undefined;
  /** Proofs of the changes of voters from an index on, in order and without a gap; as many as a message holds. */
  proofs(from: number): Promise<ConfigurationProof[]>;
  /** Where proofs of changes of voters are missing, and who votes by those before them; undefined while all are here. */
  missing(): { readonly place: Place; readonly trust: Trust } | undefined;
  /** True when all changes of voters between two entries are proven here. */
  hasProofs(from: number, to: number): boolean;
  /** Takes proofs that follow without a gap on those that are here, as the trust of missing() judged them. */
  takeProofs(proofs: readonly ConfigurationProof[]): Promise<void>;
  /** A state is about to take the place of entries: the proofs of the changes among them will be missing, after a crash too. */
  leap(state: { readonly voterSet: VoterSet }): Promise<void>;
  /** Kept checkpoints, by the index of the state that they speak of. */
  checkpoints(): ReadonlyMap<number, Checkpoint>;
  /** Takes note of the applied index and of the voters in force after it. */
  applied(state: { readonly index: number; readonly voterSet: VoterSet }): void;
  /** Gets something checked ready for the disk and for the memory: what it makes needless leaves both. */
  prepare(certified: Certified): Prepared;
  /** Lets go of checkpoints below an index: their snapshots have left. */
  forgetCheckpoints(below: number): Promise<void>;
}

export function createCertificates(init: {
  readonly store: KeyValueStore;
  readonly logger: Logger;
  readonly verifySignature: LedgerComponents['verifySignature'];
  readonly genesis: Genesis;
  readonly generations: readonly GenerationRecord[];
  /** What the own ledger has at an index; undefined where it has nothing any more. */
  readonly certifiedOf: (certificate: Certificate) => Promise<Certified | undefined>;
  /** Entries whose certificates stay: the newest orders. */
  readonly keeps: () => ReadonlySet<number>;
  readonly onCertified: (certificate: Certificate) => void;
}): Certificates {
  const { store, logger, verifySignature, genesis, generations, keeps } = init;
  let trust = trustIn(genesis.fleet, genesis.state.voterSet, generations);
  let appliedIndex = genesis.state.index;
  const kept = new Map<number, Certificate>();
  /** Of those kept, ascending. */
  const indexes: number[] = [];
  let turn: Promise<unknown> = Promise.resolve();
  /** Of changes of voters. */
  const proven = new Map<number, Certificate>();
  let missing: MissingProofs | undefined;
  const checkpoints = new Map<number, Checkpoint>();
  const serving = { server: 'own disk', verify: verifySignature, certainHash: () => undefined };

  /** Reads a family of records; `take` throws for what is not sound. */
  async function read<T extends Certificate | Pick<ConfigurationProof | CheckpointProof, 'certificate'>>(
    prefix: string,
    schema: Schema<T>,
    bytesMax: number,
    take: (record: T) => void,
  ): Promise<void> {
    const overruled: StoreOperation[] = [];
    for (const [key, value] of await store.range({ gte: prefix, lt: endOf(prefix) })) {
      try {
        const record: T = decode(schema, value, bytesMax, key);
        const certificate: Certificate = 'certificate' in record ? record.certificate : record;
        if (isOverruled(generations, certificate)) overruled.push({ type: 'del', key });
        else take(record);
      } catch (error) {
        logger.error({ key, error: String(error) }, 'a stored proof is damaged and left out');
      }
    }
    if (overruled.length > 0) await store.batch(overruled, { sync: true });
  }

  /** From the disk first: what is left in memory only is gone at the next start. */
  async function forget(isGone: (certificate: Certificate) => boolean): Promise<void> {
    const ends = [...kept.values()].filter(isGone).map(({ index }) => index);
    const changes = [...proven.values()].filter(isGone).map(({ index }) => index);
    const made = [...checkpoints].filter(([, { proof }]) => isGone(proof.certificate));
    const operations = [
      ...ends.map((index) => numberedKey(families.certificate, index)),
      ...changes.map((index) => numberedKey(families.configuration, index)),
      ...made.map(([, { proof }]) => numberedKey(families.checkpoint, proof.entry.index)),
    ].map((key) => ({ type: 'del', key }) as const);
    if (operations.length > 0) await store.batch(operations, { sync: true });
    for (const index of ends) removeKept(index);
    for (const index of changes) proven.delete(index);
    for (const [index] of made) checkpoints.delete(index);
  }

  function removeKept(index: number): void {
    if (kept.delete(index)) indexes.splice(indexes.indexOf(index), 1);
  }

  function place(certificate: Certificate): void {
    const { index } = certificate;
    if (!kept.has(index)) indexes.splice(indexes.findLastIndex((each) => each < index) + 1, 0, index);
    kept.set(index, certificate);
  }

  function placeConfiguration(proof: ConfigurationProof): void {
    trust = takeConfiguration(trust, proof, serving);
    proven.set(proof.entry.index, proof.certificate);
  }

  /** What lies before a newer generation's beginning its record vouches for. */
  async function readMissing(): Promise<void> {
    const bytes = await store.get(missingKey);
    if (bytes === undefined) return;
    const record = decode(missingProofsSchema, bytes, missingProofsBytesMax, missingKey);
    if (generations.some(({ number }) => number > record.voterSet.generation)) return;
    missing = record;
    trust = withVoterSet(trust, record.voterSet);
  }

  /** What is missing once everything up to a change is proven. */
  function stillMissing(index: number): MissingProofs | undefined {
    if (missing === undefined || index >= missing.voterSet.index) return undefined;
    return { ...missing, after: Math.max(missing.after, index) };
  }

  function missingOperation(record: MissingProofs | undefined): StoreOperation {
    return record === undefined
      ? { type: 'del', key: missingKey }
      : { type: 'put', key: missingKey, value: encode(record) };
  }

  /** Known without a proof: the first voters, and those that a generation's record names. */
  const isGiven = ({ index }: VoterSet): boolean =>
    index === genesis.state.voterSet.index || generations.some((record) => generationVoters(record).index === index);

  /** The last set of voters up to which every change is proven here. */
  function lastProven(): VoterSet {
    const [first, ...rest] = trust.sets.slice(trust.sets.findLastIndex(isGiven));
    const end = rest.findIndex(({ index }) => !proven.has(index));
    return (end < 0 ? rest : rest.slice(0, end)).at(-1) ?? first ?? genesis.state.voterSet;
  }

  /** What a proof of a later change shows to have passed this peer by: proofs of changes that its own ledger has. */
  function passedBy(index: number): MissingProofs | undefined {
    const voterSet = trust.sets.findLast((set) => set.index < index && !proven.has(set.index) && !isGiven(set));
    return voterSet === undefined ? undefined : { version: 1, after: lastProven().index, voterSet };
  }

  /** The entry that a set of voters follows from; the last one before it where that is a generation's. */
  function placeOf(index: number): Place {
    const record = generations.find((each) => generationVoters(each).index === index);
    if (record !== undefined) return { index: record.baseIndex, term: record.baseTerm, chainHash: record.baseHash };
    const certificate = proven.get(index);
    return certificate === undefined ? genesis.state : { index, term: 0, chainHash: certificate.chainHash };
  }

  function placeCheckpoint(proof: CheckpointProof): void {
    const { index, stateHash } = takeCheckpoint(trust, proof, serving);
    checkpoints.set(index, { proof, stateHash });
  }

  function ofCheckpoint(index: number): Certificate | undefined {
    return [...checkpoints.values()].find(({ proof }) => proof.entry.index === index)?.proof.certificate;
  }

  /** Which certificates a newer one at this index makes needless. */
  function needless(index: number): number[] {
    const newest = indexes.at(-1) ?? index;
    if (newest >= index || keeps().has(newest)) return [];
    const milestones = indexes.filter((each) => each < newest && !keeps().has(each));
    if (newest - (milestones.at(-1) ?? 1) < entriesBetween) return [newest];
    // A milestone is passed: time to look through the older ones.
    return spacedOut(milestones);
  }

  /** Those of old orders that lie too close together now, and milestones of long ago. */
  function spacedOut(milestones: readonly number[]): number[] {
    let last = 1;
    const tooClose = milestones.filter((index) => {
      if (index - last < entriesBetween) return true;
      last = index;
      return false;
    });
    const apart = milestones.filter((index) => !tooClose.includes(index));
    return [...tooClose, ...apart.slice(0, -milestonesMax)];
  }

  function believe({ certificate, configuration, checkpoint }: Certified, leaving: readonly number[]): void {
    for (const index of leaving) removeKept(index);
    place(certificate);
    if (configuration !== undefined) placeConfiguration(configuration);
    if (checkpoint !== undefined) placeCheckpoint(checkpoint);
    init.onCertified(certificate);
  }

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = turn.then(work);
    turn = done.catch(() => undefined);
    return done;
  }

  async function takeInTurn(certificate: Certificate): Promise<void> {
    const { index } = certificate;
    const set = api.voterSetBefore(index);
    if (set === undefined || index > appliedIndex) {
      const text = `a certificate of entry ${index} cannot be judged: this ledger is at ${appliedIndex}`;
      throw new ParleyError('certificate-early', text, { retryable: true });
    }
    if (isOverruled(generations, certificate) || !isCertified(set, genesis.fleet, certificate, verifySignature)) {
      throw new ParleyError('certificate-invalid', `a certificate of entry ${index} lacks a majority of the voters`);
    }
    const certified = await init.certifiedOf(certificate);
    if (certified === undefined) return;
    const isSynced = certified.configuration !== undefined || certified.checkpoint !== undefined || keeps().has(index);
    const { operations, believe } = api.prepare(certified);
    const gap = missing === undefined && certified.configuration !== undefined ? passedBy(index) : undefined;
    await store.batch(gap === undefined ? operations : [...operations, missingOperation(gap)], { sync: isSynced });
    missing ??= gap;
    believe();
  }

  const api: Certificates = {
    async load() {
      await readMissing();
      await read(families.configuration, configurationProofSchema, proofBytesMax, placeConfiguration);
      await read(families.checkpoint, checkpointProofSchema, proofBytesMax, placeCheckpoint);
      await read(families.certificate, certificateSchema, certificateBytesMax, place);
    },
    async goBack(index) {
      await forget((certificate) => certificate.index > index);
      trust = trustUpTo(trust, index);
    },
    forgetBefore: (generation) => forget((certificate) => certificate.generation < generation),
    trust: () => trust,
    voterSetBefore: (index) => (index > appliedIndex + 1 || index < 2 ? undefined : voterSetBefore(trust, index)),
    certifiedIndex: () => indexes.at(-1) ?? 0,
    certificateAt: (index) => kept.get(index) ?? proven.get(index) ?? ofCheckpoint(index),
    nearest(from, to) {
      const index = indexes.findLast((each) => each <= to);
      return index === undefined || index < from ? undefined : kept.get(index);
    },
    certainHash: (index) => api.certificateAt(index)?.chainHash,
    async proofs(from) {
      const prefix = families.configuration;
      const gap = missing !== undefined && from <= missing.voterSet.index ? missing : undefined;
      if (gap !== undefined && from > gap.after) return [];
      const end = gap === undefined ? endOf(prefix) : numberedKey(prefix, gap.after + 1);
      const range = { gte: numberedKey(prefix, from), lt: end, limit: entryProofsMax };
      return (await store.range(range)).map(([key, value]) =>
        decode(configurationProofSchema, value, proofBytesMax, key),
      );
    },
    checkpoints: () => checkpoints,
    applied({ index, voterSet }) {
      appliedIndex = index;
      if (trust.sets.some((set) => set.index === voterSet.index)) return;
      trust = withVoterSet(trust, voterSet);
    },
    take: (certificate) => inTurn(() => takeInTurn(certificate)),
    missing: () => missing && { place: placeOf(missing.after), trust: trustUpTo(trust, missing.after) },
    hasProofs: (from, to) => missing === undefined || from > missing.voterSet.index || to <= missing.after,
    takeProofs: (proofs) =>
      inTurn(async () => {
        const all = proofs.map((proof) => api.prepare({ certificate: proof.certificate, configuration: proof }));
        const left = stillMissing(proofs.at(-1)?.entry.index ?? 0);
        const operations = all.flatMap((each) => each.operations);
        await store.batch([...operations, missingOperation(left)], { sync: true });
        missing = left;
        for (const { believe } of all) believe();
      }),
    leap: ({ voterSet }) =>
      inTurn(async () => {
        if (proven.has(voterSet.index) || isGiven(voterSet)) return;
        const left: MissingProofs = { version: 1, after: missing?.after ?? lastProven().index, voterSet };
        await store.batch([missingOperation(left)], { sync: true });
        missing = left;
        trust = withVoterSet(trust, voterSet);
      }),
    prepare(certified) {
      const { certificate, configuration, checkpoint } = certified;
      const { index } = certificate;
      const leaving = needless(index);
      const put = (prefix: string, at: number, record: object) =>
        ({ type: 'put', key: numberedKey(prefix, at), value: encode(record) }) as const;
      const operations = [
        ...leaving.map((old) => ({ type: 'del', key: numberedKey(families.certificate, old) }) as const),
        put(families.certificate, index, certificate),
        ...(configuration === undefined ? [] : [put(families.configuration, index, configuration)]),
        ...(checkpoint === undefined ? [] : [put(families.checkpoint, index, checkpoint)]),
      ];
      return { operations, believe: () => believe(certified, leaving) };
    },
    async forgetCheckpoints(below) {
      const leaving = [...checkpoints].filter(([index]) => index < below);
      const operations = leaving.map(
        ([, { proof }]) => ({ type: 'del', key: numberedKey(families.checkpoint, proof.entry.index) }) as const,
      );
      if (operations.length > 0) await store.batch(operations, { sync: false });
      for (const [index] of leaving) checkpoints.delete(index);
    },
  };
  return api;
}
