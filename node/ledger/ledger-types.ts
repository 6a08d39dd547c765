// Owns the public shape of the ledger room: what other rooms may ask of the replicated ledger, and what it needs of them.
// Types only, so that every file of the room and its neighbours can agree on them.

import type { Certificate, VoterSet } from '../../protocols/certificate.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import type { JoinContact } from '../../protocols/join.ts';
import type { EntryDraft } from '../../protocols/ledger-entries.ts';
import type { CommandResult, LedgerState } from '../../protocols/ledger-state.ts';
import type { BlobStore, Clock, KeyValueStore, Logger, Mesh, Startable } from '../interfaces.ts';
import type { Kept } from './blob-gatherer.ts';
import type { Verdict } from './certify-core.ts';

/** The whole state machine at one index. `data` is the encoded LedgerState, at most snapshotBytesMax. */
export interface LedgerSnapshot {
  readonly index: number;
  readonly term: number;
  readonly chainHash: string;
  readonly data: Uint8Array;
}

/** What the ledger needs of consensus on a voter (structurally node/consensus's Consensus); handed in by `useConsensus`. */
export interface LedgerConsensus {
  /**
   * Proposes one entry; resolves once it is applied here.
   * @throws ParleyError `not-controller`, `busy`, `proposal-lost` (all retryable), `outcome-unknown`, `held-up`.
   */
  propose(data: Uint8Array, options: { readonly signal: AbortSignal }): Promise<{ readonly index: number }>;
  /** Committed and applied entries from an index on; empty when there are none yet. @throws ParleyError `compacted`. */
  committedEntries(fromIndex: number, limit: number): Promise<readonly CommittedEntry[]>;
  /** Drops log entries up to an index that the ledger holds durably. */
  compact(index: number): Promise<void>;
}

/** The certificates that a peer has, and the voters that they are judged by. */
export interface CertificateKeeper {
  /** The voters in force just before an index; undefined beyond the entry after the last applied one, and where nobody knows any more. */
  voterSetBefore(index: number): VoterSet | undefined;
  certificateAt(index: number): Certificate | undefined;
  /** Everything up to here is proved, by the hash chain; 0 before the first certificate. */
  certifiedIndex(): number;
  /**
   * Believes a certificate whose chain hash is that of the own entry, once its signatures hold.
   * @throws ParleyError `certificate-invalid`, or `certificate-early` (retryable) before the voters at its index are known.
   */
  take(certificate: Certificate): Promise<void>;
}

/** What a voter's certifier asks of the ledger (structurally what node/consensus needs of its state machine). */
export interface Certification extends CertificateKeeper {
  fleet(): string;
  /** Whether this voter may sign for an entry that it has applied, at that very index. */
  verdictOn(entry: CommittedEntry): Verdict;
  /** An applied entry that the log holds since before this start: a change of voters may still lack its certificate. */
  recall(entry: CommittedEntry): void;
  /** Applied entries that deserve certificates of their own and have none yet: orders, configurations, checkpoints. Ascending. */
  uncertified(): readonly number[];
}

export interface LedgerInit {
  /** Peer id of this peer. */
  readonly self: string;
  /** Where committed entries come from: `consensus` for a peer with the role voter, `voters` for every other member. */
  readonly source: 'consensus' | 'voters';
  /** Bytes of entry 1, needed at the first start only. Another fleet's bytes than the stored ones are refused. */
  readonly genesis?: Uint8Array;
  /** Members that a joining peer was told of: they stand in until its own ledger names it. Kept like the genesis. */
  readonly contacts?: readonly JoinContact[];
  /** Entry since which the contacts vote, where that was noted later: they stand in while the own ledger is behind it, as one that lost its state is. */
  readonly contactsIndex?: number | undefined;
  /** Generations that this peer has accepted, by number: what older ones have after their bases is dropped. */
  readonly generations?: readonly GenerationRecord[];
}

export interface LedgerComponents {
  readonly store: KeyValueStore;
  readonly blobs: BlobStore;
  readonly mesh: Pick<Mesh, 'handle' | 'open' | 'connectedPeers' | 'onPeerChange'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** True for the Ed25519 signature of bytes by the key of a peer or a voter. */
  readonly verifySignature: (key: string, bytes: Uint8Array, signature: Uint8Array) => boolean;
}

export interface ProposeResult {
  readonly index: number;
  readonly result: CommandResult;
  /** The state just after the entry was applied. */
  readonly state: LedgerState;
}

/** Called after the start, and after each batch of entries or snapshot with the state that it led to. */
export type AppliedListener = (state: LedgerState) => void;

/** The members as the mesh needs them (structurally node/mesh's MeshMembers). */
export interface MeshMembersView {
  isMember(peer: string): boolean;
  /** True for who was removed lately and may come in for a moment to hear of it. */
  wasRemoved(peer: string): boolean;
  /** True while an invite is open: only then the join protocol admits strangers. */
  joinsOpen(): boolean;
  /** True while nobody that this peer knows has been there for long: strangers may come in to be asked who votes now. */
  asksStrangers(): boolean;
  /** Such a stranger is there. What it proves counts, whoever it is. */
  meet(stranger: string): void;
  /** Peers to stay connected to: all while the fleet is small, else the voters and the peers of the own site. */
  wanted(): readonly { readonly peer: string; readonly addresses: readonly string[] }[];
  onChange(listener: () => void): () => void;
}

/** The voters' numbers as consensus needs them. */
export interface RaftMembersView {
  peerOf(raftId: number): string | undefined;
  raftIdOf(peer: string): number | undefined;
  voters(): readonly number[];
}

/**
 * One peer's replica of the ledger. A LedgerState that was handed out never changes: applying makes new records and maps
 * for what it touches and shares the rest, so `===` tells whether a record or map has changed.
 */
export interface Ledger extends Startable {
  /** The newest applied state. @throws ParleyError `not-started` before `start` has resolved. */
  state(): LedgerState;
  /** Bytes of entry 1, for joiners. */
  genesis(): Uint8Array;
  /** SHA-256 of the whole state: equal on all peers at the same index. */
  stateHash(): string;
  /** May be called before `start`. A listener that throws is logged. */
  onApplied(listener: AppliedListener): () => void;
  /** Resolves with the first state, the present one included, that the predicate accepts; rejects with the signal's reason. */
  waitFor(predicate: (state: LedgerState) => boolean, signal: AbortSignal): Promise<LedgerState>;

  /**
   * Proposes an entry on the controller; resolves once it is applied here. Proposals take effect in the order of the calls.
   * @throws ParleyError what consensus refuses (see LedgerConsensus.propose), `too-large`, `malformed`, or the core's own refusal.
   */
  propose(draft: EntryDraft, options: { readonly signal: AbortSignal }): Promise<ProposeResult>;
  useConsensus(consensus: LedgerConsensus): void;

  /** For consensus: index of the last applied entry. */
  appliedIndex(): number;
  /**
   * For consensus: applies entries that follow appliedIndex, in order. After a rejection appliedIndex tells how far it came.
   * @throws ParleyError `chain-mismatch`, or `level-unsupported` for an entry that this release must not go past.
   */
  apply(entries: readonly CommittedEntry[]): Promise<void>;
  /** The state of now, on this disk by the time it resolves. */
  snapshot(): Promise<LedgerSnapshot>;
  /**
   * Entries up to this index are settled, and the ledger has consensus forget no others: a start that finds the newest snapshot
   * damaged needs only later ones.
   */
  durableIndex(): number;
  /** Replaces the state by a snapshot that the leader sent, and stores it. */
  restore(snapshot: LedgerSnapshot): Promise<void>;

  /** What the controller is to propose next about checkpoints; undefined while nothing is due. */
  checkpointDue(): EntryDraft | undefined;
  /** For consensus, and for whoever asks what is proved. */
  certification(): Certification;
  /** Called with each certificate that moves certifiedIndex() or proves an entry of its own. */
  onCertified(listener: (certificate: Certificate) => void): () => void;

  /** The newest voters that are proven here: those of the own ledger, or newer ones that watching has found. */
  newestVoterSet(): VoterSet;
  /** Called when watching has found newer voters, or where they are. */
  onVoterSetProven(listener: () => void): () => void;
  /**
   * For a voter to which nobody that it knows sends entries: follows the changes of voters on other peers, by their certificates,
   * and applies nothing. Until the own ledger has come to them, the newest voters count as members here, so that one of
   * them that leads is heard. @returns the function that stops.
   */
  watchVoterSet(): () => Promise<void>;

  /** May be called before `start`: nobody is a member until then. */
  meshMembers(): MeshMembersView;
  raftMembers(): RaftMembersView;

  /**
   * A blob from here or, checked against its hash and stored, from `peers` (default: the voters, then other connected members).
   * @throws ParleyError `blob-unavailable` (retryable).
   */
  fetchBlob(
    hash: string,
    options: { readonly signal: AbortSignal; readonly peers?: readonly string[] },
  ): Promise<Uint8Array>;
  /**
   * Stores a blob here and on voters until a majority of the voters in force has it on disk.
   * @throws ParleyError `blob-unavailable` when it is not here, `not-allowed` when a majority takes none from this peer; waits
   * on absent voters until the signal ends it.
   */
  replicateBlob(hash: string, options: { readonly signal: AbortSignal }): Promise<void>;
  /**
   * How many of the things that voters keep for the fleet this voter lacks, though it asks for them: blobs that the ledger names,
   * and one more while proofs of changes of voters are missing. Undefined elsewhere, and before the first look.
   */
  kept(): Kept | undefined;
  /** Called when that number has changed, and once it is known after a change of voters. */
  onKept(listener: () => void): () => void;
}
