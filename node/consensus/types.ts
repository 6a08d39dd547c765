// Owns the types of the room's public face: what consensus gives to others and what it needs of the state machine.

import type { Certificate, VoterSet } from '../../protocols/certificate.ts';
import type {
  CommittedEntry,
  Configuration,
  ConfigurationChange,
  SnapshotMetadata,
} from '../../protocols/consensus-record.ts';
import type { ErrorRecord } from '../../protocols/errors.ts';
import type { Startable } from '../interfaces.ts';
import type { Position, RaftRole } from './core/index.ts';

export type { Position } from './core/index.ts';

export interface StateMachineSnapshot extends SnapshotMetadata {
  readonly data: Uint8Array;
}

/** What the log is for. Calls never overlap. */
export interface StateMachine {
  /** Index of the last entry whose effect is durable here, or of the snapshot it was restored from; at least the genesis entry's. */
  appliedIndex(): number;
  /** Applies all of these entries, which follow on appliedIndex(). After a rejection, those after appliedIndex() come again, four times a second. */
  apply(entries: readonly CommittedEntry[]): Promise<void>;
  /** The whole state at its applied index, at most 16 MiB. */
  snapshot(): Promise<{ readonly index: number; readonly data: Uint8Array }>;
  /** Replaces the whole state, durably; may be called again with the same snapshot after a crash. */
  restore(snapshot: StateMachineSnapshot): Promise<void>;
}

export interface FollowerStatus {
  readonly raftId: number;
  readonly match: number;
  readonly state: 'probe' | 'replicate' | 'snapshot';
  /** Something was heard from it within the last election time. */
  readonly active: boolean;
}

export interface ConsensusStatus {
  readonly raftId: number;
  readonly term: number;
  readonly role: RaftRole;
  readonly leader?: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly voters: readonly number[];
  /** Not empty while the configuration is joint. */
  readonly votersOutgoing: readonly number[];
  readonly learners: readonly number[];
  /** On the leader: the other members. */
  readonly progress?: readonly FollowerStatus[];
  /** Others' signatures and certificates that were no good and were dropped, since the start. */
  readonly droppedCertificates: number;
  /**
   * What keeps this voter from working, such as a full disk: it neither leads nor stands for election meanwhile. Or what it
   * would not certify since its state is another one, or on the leader that another voter has lost what it acknowledged: it
   * goes on. With `damaged-log` it has ended: what it acknowledged itself is not in its log any more.
   */
  readonly failure?: ErrorRecord;
}

/** What a voter needs to certify: the state machine's word on what may be signed, and a key. */
export interface Certifying {
  /** Asked once consensus has started. */
  readonly ledger: () => CertifiedLedger;
  /** Signs with the key that belongs to this voter's raft id; undefined once that is given up. */
  readonly sign: (statement: Uint8Array) => Uint8Array | undefined;
  readonly verifySignature: (key: string, bytes: Uint8Array, signature: Uint8Array) => boolean;
}

/** The state machine's part in certificates. */
export interface CertifiedLedger {
  fleet(): string;
  /** The voters in force just before an index; undefined where nobody knows. */
  voterSetBefore(index: number): VoterSet | undefined;
  /** Whether this voter may sign for an applied entry at that very index; `wait` while it cannot tell. */
  verdictOn(
    entry: CommittedEntry,
  ):
    | { readonly kind: 'sign' | 'wait' }
    | { readonly kind: 'refuse'; readonly reason: string; readonly isAlarm: boolean };
  /** An applied entry that the log holds since before this start: it may still lack a certificate of its own. */
  recall(entry: CommittedEntry): void;
  /** Applied entries that deserve certificates of their own and have none yet. */
  uncertified(): readonly number[];
  certificateAt(index: number): Certificate | undefined;
  /** Where the newest certificate is. */
  certifiedIndex(): number;
  /** Checks a certificate of an applied entry and keeps it. @throws ParleyError when it is no good. */
  take(certificate: Certificate): Promise<void>;
}

export interface WaitOptions {
  readonly signal: AbortSignal;
}

/** A change of voters; `contextOf` makes what the entry tells the state machine about the configuration that follows. */
export interface VotersChange extends Pick<ConfigurationChange, 'transition' | 'steps'> {
  readonly contextOf: (configuration: Configuration) => Uint8Array;
}

/** One voter of the fleet. All methods but start() reject with `not-started` before it has started. */
export interface Consensus extends Startable {
  status(): ConsensusStatus;
  /**
   * Proposes an entry on the leader; resolves once it is applied here.
   * @throws ParleyError `not-controller` (retryable, elsewhere), `too-large`, `busy` (retryable), `proposal-lost` (retryable: it
   * will never be applied), `outcome-unknown` (it may still be applied), `held-up` (the log cannot be written or applied).
   */
  propose(data: Uint8Array, options: WaitOptions): Promise<Position>;
  /**
   * Proposes a change of voters, one at a time; resolves once it is applied here. One step changes at once; several, or
   * a joint transition, go through a joint configuration, which `joint-explicit` keeps until a change without steps.
   * @throws ParleyError as propose(), and `voters-unchanged` when the change cannot follow on the configuration in force.
   */
  changeVoters(change: VotersChange, options: WaitOptions): Promise<Position>;
  /**
   * An index that was committed when this was called, by the word of a majority; resolves once it is applied here, on any voter.
   * @throws ParleyError `timed-out` (retryable), `busy` (retryable), `held-up` as propose().
   */
  readIndex(options: WaitOptions): Promise<number>;
  /**
   * Hands leadership to whoever of these voters leads soonest; resolves once this peer no longer leads.
   * @throws ParleyError `not-controller`, `transfer-failed` (retryable), `held-up` as propose().
   */
  transferLeadership(among: readonly number[]): Promise<void>;
  /** Drops log entries up to an index that the state machine holds durably. Leave a tail for slow followers. */
  compact(index: number): Promise<void>;
  /**
   * Committed entries from an index on that are applied here: at most `limit` and about 512 KiB, empty when there are none yet.
   * @throws ParleyError `compacted` when the log starts later; its message names the first index.
   */
  committedEntries(fromIndex: number, limit: number): Promise<readonly CommittedEntry[]>;
  /** Called when role or leader changes, and when this voter fails or goes on. Returns the function that unsubscribes. */
  onRoleChange(listener: (status: ConsensusStatus) => void): () => void;
}
