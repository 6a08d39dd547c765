// The pure light client: which voters were in force when, and what their signatures prove about entries that somebody serves.
// Whoever serves is believed nothing: an entry counts once a majority of the voters in force before it has signed its place in
// the chain, and an entry that changes the voters counts only by its own certificate.

import {
  type Certificate,
  type ConfigurationProof,
  configurationContextOf,
  isCertified,
  nextVoterSet,
  type VoterSet,
} from '../../protocols/certificate.ts';
import { hashOf, sha256HexSteps } from '../../protocols/codec.ts';
import { type ChainedEntry, entryChainHash } from '../../protocols/consensus-record.ts';
import {
  type CheckpointProof,
  type EntryPage,
  uncertifiedBytesMax,
  uncertifiedEntriesMax,
} from '../../protocols/entry-pull.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { type GenerationRecord, generationVoters, isOverruled } from '../../protocols/generation.ts';
import { decodeEntry, readEntry } from '../../protocols/ledger-entries.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { decodeStateInSteps } from './state-decoding-core.ts';

export interface Place {
  readonly index: number;
  readonly term: number;
  readonly chainHash: string;
}

/** The voters in force, from genesis on: each set begins to count after its index. Oldest first, never empty. */
export interface Trust {
  readonly fleet: string;
  readonly sets: readonly [VoterSet, ...VoterSet[]];
  /** The generations that this peer has accepted: no older one's word counts after their bases. */
  readonly generations: readonly GenerationRecord[];
}

/** Ed25519: true when the signature is that key's. */
export type Verify = (key: string, bytes: Uint8Array, signature: Uint8Array) => boolean;

export interface Serving {
  /** Who served what is judged: named in every error. */
  readonly server: string;
  readonly verify: Verify;
  /** Chain hash of an entry that is certain already; undefined where it is not known. */
  readonly certainHash: (index: number) => string | undefined;
}

/** Where a follower stands: its last proven entry, and what came after it without a certificate so far. */
export interface Following {
  readonly place: Place;
  readonly pending: readonly ChainedEntry[];
}

export interface Proven {
  /** All that were kept aside and those of the page: they may be applied. */
  readonly entries: readonly ChainedEntry[];
  readonly certificate: Certificate;
  /** Where the page ended with a change of voters. */
  readonly configuration?: ConfigurationProof;
  /** Where the page ended with a checkpoint. */
  readonly checkpoint?: CheckpointProof;
}

/** Trust in a fleet's first voters, and in those that each accepted generation begins with. */
export function trustIn(fleet: string, first: VoterSet, generations: readonly GenerationRecord[]): Trust {
  const trust: Trust = { fleet, sets: [first], generations };
  return generations.map(generationVoters).reduce(withVoterSet, trust);
}

/** The set that judges the entry at an index: after the newest change of voters before it. @throws Error for the genesis and before it, a bug. */
export function voterSetBefore({ sets }: Trust, index: number): VoterSet {
  const set = sets.findLast((each) => each.index < index);
  if (set === undefined) throw new Error(`nobody judges entry ${index}`);
  return set;
}

/** The trust that knows one set more, in force after the set's index. One that a newer generation went on without is none. */
export function withVoterSet(trust: Trust, set: VoterSet): Trust {
  const [first, ...rest] = trust.sets;
  if (set.index <= first.index || isOverruled(trust.generations, set)) return trust;
  const others = rest.filter(({ index }) => index !== set.index);
  return { ...trust, sets: [first, ...[...others, set].sort((a, b) => a.index - b.index)] };
}

/** The trust of who has gone back to an index: what voters changed after it counts no more, what generations begin with does. */
export function trustUpTo({ fleet, sets: [first, ...rest], generations }: Trust, index: number): Trust {
  return rest.filter((set) => set.index <= index).reduce(withVoterSet, trustIn(fleet, first, generations));
}

/**
 * Takes one more page. Entries without a certificate are kept aside, bounded in number and bytes; with one, all so far is proven.
 * @returns what is kept aside, or what is proven now.
 * @throws ParleyError `chain-mismatch`, `uncertified`, `overruled`, `contradiction` or `too-much-uncertified`, each naming who
 * served it.
 */
export function takePage(
  trust: Trust,
  following: Following,
  page: EntryPage,
  serving: Serving,
): { readonly pending: readonly ChainedEntry[] } | { readonly proven: Proven } {
  const entries = [...following.pending];
  let last = entries.at(-1) ?? following.place;
  let previous = last.chainHash;
  if (page.term < last.term) {
    throw refused('chain-mismatch', serving, `entries of term ${page.term} after entry ${last.index} of ${last.term}`);
  }
  for (const [place, data] of page.entries.entries()) {
    const isConfiguration = page.endsWithConfiguration === true && place === page.entries.length - 1;
    const type = isConfiguration ? ('configuration' as const) : ('normal' as const);
    const entry = { index: last.index + 1, term: page.term, type, data };
    previous = last.chainHash;
    last = { ...entry, chainHash: entryChainHash(previous, entry) };
    refuseContradiction(last, serving);
    entries.push(last as ChainedEntry);
  }
  if (page.signatures === undefined) return { pending: keptAside(entries, page, serving) };
  const certificate = certificateOf(trust, last, page.signatures);
  proveCertificate(trust, certificate, serving);
  const newest = entries.at(-1);
  if (newest === undefined) throw new Error('a page without entries');
  return { proven: { entries, certificate, ...recordsOf(newest, previous, certificate) } };
}

/**
 * Follows a change of voters that somebody proves. One that leaves a joint set names no voters: it says something only to
 * whoever knows that set.
 * @throws ParleyError `chain-mismatch`, `uncertified`, `overruled`, `contradiction`, `malformed` or `proof-missing` (retryable).
 */
export function takeConfiguration(trust: Trust, proof: ConfigurationProof, serving: Serving): Trust {
  const { entry, previous, certificate } = proof;
  proveEntry(trust, { ...entry, chainHash: entryChainHash(previous, entry) }, certificate, serving);
  const before = voterSetBefore(trust, entry.index);
  const context = configurationContextOf(entry);
  if (context === undefined && before.votersOutgoing.length === 0) {
    const text = `peer ${serving.server} left out the change of voters that entry ${entry.index} ends`;
    throw new ParleyError('proof-missing', text, { retryable: true });
  }
  return withVoterSet(trust, nextVoterSet(before, entry.index, context));
}

/**
 * Checks that voters made a checkpoint.
 * @returns of which entry's state, and that state's hash.
 * @throws ParleyError as takeConfiguration().
 */
export function takeCheckpoint(
  trust: Trust,
  { entry, previous, certificate }: CheckpointProof,
  serving: Serving,
): { readonly index: number; readonly stateHash: string } {
  const chainHash = entryChainHash(previous, { ...entry, type: 'normal' });
  proveEntry(trust, { index: entry.index, term: entry.term, chainHash }, certificate, serving);
  const made = decodeEntry(entry.data);
  if (made?.kind !== 'checkpoint-made' || made.body.index >= entry.index) {
    throw refused('malformed', serving, `entry ${entry.index} as a checkpoint, which it is not`);
  }
  return made.body;
}

/**
 * The state of a checkpoint that takeCheckpoint() has checked, judged in steps.
 * @throws ParleyError `checkpoint-mismatch` when the bytes are not that state or the voters of it are others than were proven.
 */
export function* takeState(
  trust: Trust,
  checkpoint: { readonly index: number; readonly stateHash: string },
  data: Uint8Array,
  serving: Serving,
): Generator<undefined, LedgerState> {
  const hash = yield* sha256HexSteps(data);
  if (hash !== checkpoint.stateHash) {
    const text = `a state with hash ${hash.slice(0, 8)} for checkpoint ${checkpoint.index}, which has ${checkpoint.stateHash.slice(0, 8)}`;
    throw refused('checkpoint-mismatch', serving, text);
  }
  const state = yield* decodeStateInSteps(data);
  const voters = voterSetBefore(trust, state.index + 1);
  const isWhole = hashOf(state.voterSet) === hashOf(voters);
  if (state.fleet !== trust.fleet || state.index !== checkpoint.index || !isWhole) {
    throw refused(
      'checkpoint-mismatch',
      serving,
      `a state of entry ${state.index} that is not checkpoint ${checkpoint.index}, or not all changes of voters before it`,
    );
  }
  return state;
}

/** The certificate that a page's signatures make. */
function certificateOf(
  trust: Trust,
  { index, chainHash }: Place,
  pairs: NonNullable<EntryPage['signatures']>,
): Certificate {
  const { generation } = voterSetBefore(trust, index);
  const signatures = pairs.map(([raftId, signature]) => ({ raftId, signature }));
  return { version: 1, generation, index, chainHash, signatures };
}

function proveEntry(trust: Trust, place: Place, certificate: Certificate, serving: Serving): void {
  refuseContradiction(place, serving);
  if (certificate.index !== place.index || certificate.chainHash !== place.chainHash) {
    throw refused(
      'chain-mismatch',
      serving,
      `entry ${place.index} with the certificate of another one, ${certificate.index}`,
    );
  }
  proveCertificate(trust, certificate, serving);
}

function proveCertificate(trust: Trust, certificate: Certificate, serving: Serving): void {
  if (isOverruled(trust.generations, certificate)) {
    const text = `entry ${certificate.index} of generation ${certificate.generation}, which ended before it`;
    throw refused('overruled', serving, text);
  }
  const set = voterSetBefore(trust, certificate.index);
  if (isCertified(set, trust.fleet, certificate, serving.verify)) return;
  const signers = certificate.signatures.map(({ raftId }) => raftId).join(', ');
  throw refused(
    'uncertified',
    serving,
    `entry ${certificate.index} with signatures of ${signers}, which are no majority of the voters in force since entry ${set.index}`,
  );
}

/** What is certain stays so: another entry at its index is a fork, whoever signed it. */
function refuseContradiction({ index, chainHash }: Place, serving: Serving): void {
  const certain = serving.certainHash(index);
  if (certain === undefined || certain === chainHash) return;
  throw refused('contradiction', serving, `another entry ${index} than the one that is certified`);
}

function keptAside(entries: readonly ChainedEntry[], page: EntryPage, serving: Serving): readonly ChainedEntry[] {
  if (page.endsWithConfiguration === true) {
    throw refused('uncertified', serving, 'a change of voters without its own certificate');
  }
  const bytes = entries.reduce((sum, { data }) => sum + data.byteLength, 0);
  if (entries.length > uncertifiedEntriesMax || bytes > uncertifiedBytesMax) {
    const text = `${entries.length} entries with ${bytes} bytes and no certificate among them`;
    throw refused('too-much-uncertified', serving, text);
  }
  return entries;
}

/** What is kept of a certified entry by itself; `previous` is the chain hash of the one before it. */
export function recordsOf(
  { index, term, type, data }: ChainedEntry,
  previous: string,
  certificate: Certificate,
): Pick<Proven, 'configuration' | 'checkpoint'> {
  if (type === 'configuration') return { configuration: { entry: { index, term, type, data }, previous, certificate } };
  return readEntry(data)?.kind === 'checkpoint-made'
    ? { checkpoint: { entry: { index, term, data }, previous, certificate } }
    : {};
}

function refused(code: string, { server }: Serving, what: string): ParleyError {
  const hint = 'Another voter or member is asked. Look at that peer if this comes again: it is damaged or lies.';
  return new ParleyError(code, `peer ${server} served ${what}`, { hint });
}
