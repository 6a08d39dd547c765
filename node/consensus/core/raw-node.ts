// Owns the face of the core: what goes in, and the work that comes out with each ready(). README.md in this folder lists the
// caller's duties in their order, for synchronous and asynchronous storage.

import type {
  Configuration,
  ConfigurationChange,
  RaftEntry,
  SnapshotMetadata,
} from '../../../protocols/consensus-record.ts';
import { encodeConfigurationChange } from '../../../protocols/consensus-record.ts';
import { changeMembership, configurationOf, ImpossibleChange, type Members } from './configuration.ts';
import { applyChange, changeRefusal } from './membership.ts';
import {
  appendThread,
  applyThread,
  entriesBytes,
  type HardState,
  invariant,
  isLocalType,
  isResponseType,
  isStorageThread,
  type Message,
  makeMessage,
  nobody,
} from './message.ts';
import type { Progress } from './progress.ts';
import {
  createRaft,
  drawElectionTicks,
  hardStateOf,
  type Raft,
  type RaftOptions,
  type RaftRole,
  type ReadState,
} from './raft.ts';
import { step, tick } from './step.ts';

export interface SoftState {
  readonly leader: number;
  readonly role: RaftRole;
}

/** Work for the caller. Fields without news are undefined or empty. */
export interface Ready {
  readonly softState: SoftState | undefined;
  readonly hardState: HardState | undefined;
  readonly readStates: readonly ReadState[];
  readonly entries: readonly RaftEntry[];
  readonly snapshot: SnapshotMetadata | undefined;
  readonly committedEntries: readonly RaftEntry[];
  readonly messages: readonly Message[];
  /** Messages must wait until hardState and entries are on disk. */
  readonly mustSync: boolean;
}

export interface RawStatus extends HardState, SoftState {
  readonly raftId: number;
  readonly applied: number;
  readonly transferTarget: number;
  readonly members: Members;
  /** On the leader only. */
  readonly progress: readonly [raftId: number, progress: Progress][];
}

/** Asked for at each message and proposal, mostly for one field: the progress is looked up where it is read. */
class Status implements RawStatus {
  readonly raftId: number;
  readonly term: number;
  readonly vote: number;
  readonly commit: number;
  readonly leader: number;
  readonly role: RaftRole;
  readonly applied: number;
  readonly transferTarget: number;
  readonly members: Members;
  readonly #tracker: Raft['tracker'];

  constructor({ options, term, vote, log, leader, role, transferTarget, tracker }: Raft) {
    this.raftId = options.raftId;
    this.term = term;
    this.vote = vote;
    this.commit = log.committed;
    this.leader = leader;
    this.role = role;
    this.applied = log.applied;
    this.transferTarget = transferTarget;
    this.members = tracker.members;
    this.#tracker = tracker;
  }

  get progress(): RawStatus['progress'] {
    return this.role === 'leader' ? this.#tracker.all() : [];
  }
}

/** Why step() did not take a message. */
export type Refusal = 'proposal-dropped' | 'local-message' | 'unknown-member';

export class RawNode {
  readonly #raft: Raft;
  #previousSoft: SoftState;
  #previousHard: HardState;
  #onAdvance: Message[] = [];

  constructor(options: RaftOptions) {
    this.#raft = createRaft(options);
    this.#previousSoft = this.#softState();
    this.#previousHard = hardStateOf(this.#raft);
  }

  /** One unit of time has passed. */
  tick(): void {
    tick(this.#raft);
  }

  /** Takes a message from another node or from a storage thread. */
  step(message: Message): Refusal | undefined {
    if (!isStorageThread(message.from)) {
      if (isLocalType(message.type)) return 'local-message';
      if (isResponseType(message.type) && !this.#raft.tracker.progress.has(message.from)) return 'unknown-member';
    }
    return step(this.#raft, message) ? undefined : 'proposal-dropped';
  }

  campaign(): void {
    step(this.#raft, makeMessage('campaign', nobody));
  }

  /** Proposes an entry; 'proposal-dropped' when there is no leader to take it or it has too much in hand. */
  propose(data: Uint8Array): Refusal | undefined {
    return this.proposeAll([data]);
  }

  /** Proposes entries that follow each other; either all of them or none. */
  proposeAll(data: readonly Uint8Array[]): Refusal | undefined {
    return this.#propose('normal', data);
  }

  /** Proposes a configuration change. One that changeRefusal() refuses becomes an empty entry. */
  proposeConfiguration(change: Omit<ConfigurationChange, 'version'>): Refusal | undefined {
    return this.#propose('configuration', [encodeConfigurationChange(change)]);
  }

  /** The configuration that a change would lead to; `refusal` says why it cannot be proposed on this leader now. */
  previewChange(
    change: Omit<ConfigurationChange, 'version'>,
  ): { readonly configuration: Configuration } | { readonly refusal: string } {
    const refusal = changeRefusal(this.#raft, change);
    if (refusal !== undefined) return { refusal };
    try {
      const { tracker, log } = this.#raft;
      const { members } = changeMembership(tracker, change, log.lastIndex(), tracker.limits);
      return { configuration: configurationOf(members) };
    } catch (error) {
      if (error instanceof ImpossibleChange) return { refusal: error.message };
      throw error;
    }
  }

  /** Puts an applied configuration entry in force; returns the configuration from then on. */
  applyChange(entry: RaftEntry): Configuration {
    return applyChange(this.#raft, entry.data);
  }

  /** Asks for an index at or after which the state is current; the answer comes in readStates with the same context. */
  readIndex(context: string): void {
    step(this.#raft, makeMessage('read-index', nobody, { context }));
  }

  transferLeadership(to: number): void {
    step(this.#raft, makeMessage('transfer-leader', nobody, { from: to }));
  }

  /** Stops protecting the leader from elections, for instance because its connection is gone. */
  forgetLeader(): void {
    step(this.#raft, makeMessage('forget-leader', nobody));
  }

  /** The last messages to this member were probably lost. */
  reportUnreachable(raftId: number): void {
    step(this.#raft, makeMessage('unreachable', nobody, { from: raftId }));
  }

  /** A snapshot reached its receiver, or did not. Each snapshot message must be followed by one such report. */
  reportSnapshot(raftId: number, delivered: boolean): void {
    step(this.#raft, makeMessage('snapshot-status', nobody, { from: raftId, reject: !delivered }));
  }

  hasReady(): boolean {
    const raft = this.#raft;
    const soft = this.#softState();
    if (soft.leader !== this.#previousSoft.leader || soft.role !== this.#previousSoft.role) return true;
    if (!sameHardState(hardStateOf(raft), this.#previousHard)) return true;
    if (raft.messages.length > 0 || raft.messagesAfterAppend.length > 0 || raft.readStates.length > 0) return true;
    if (raft.log.nextUnstableSnapshot() !== undefined || raft.log.nextUnstableEntries().length > 0) return true;
    return raft.log.hasNextCommittedEntries(!raft.options.asyncStorageWrites);
  }

  /** Hands out the work that is due. It must be done; there is no way to give it back. */
  ready(): Ready {
    const raft = this.#raft;
    const async = raft.options.asyncStorageWrites;
    const soft = this.#softState();
    const hard = hardStateOf(raft);
    const previous = this.#previousHard;
    const softChanged = soft.leader !== this.#previousSoft.leader || soft.role !== this.#previousSoft.role;
    const work = {
      softState: softChanged ? soft : undefined,
      hardState: sameHardState(hard, previous) ? undefined : hard,
      readStates: raft.readStates,
      entries: raft.log.nextUnstableEntries(),
      snapshot: raft.log.nextUnstableSnapshot(),
      committedEntries: raft.log.nextCommittedEntries(!async),
    };
    const mustSync = work.entries.length > 0 || hard.vote !== previous.vote || hard.term !== previous.term;
    const messages = async ? [...raft.messages, ...this.#storageMessages(work)] : this.#messagesToSend(work);
    this.#accept(work, soft, hard);
    return { ...work, messages, mustSync };
  }

  /** Confirms that the work of the last ready() is done (synchronous mode only). */
  advance(): void {
    invariant(!this.#raft.options.asyncStorageWrites, 'advance() belongs to synchronous mode');
    const messages = this.#onAdvance;
    this.#onAdvance = [];
    for (const message of messages) step(this.#raft, message);
  }

  status(): RawStatus {
    return new Status(this.#raft);
  }

  firstIndex(): number {
    return this.#raft.log.firstIndex();
  }

  lastIndex(): number {
    return this.#raft.log.lastIndex();
  }

  /** Ticks until the next election without a leader; for scripted tests. */
  setElectionTicks(ticks: number): void {
    this.#raft.randomizedElectionTicks = ticks;
  }

  /** From now on elections take this long at least. Waiting is a matter of progress only: any value is safe at any time. */
  changeElectionTicks(ticks: number): void {
    invariant(ticks > this.#raft.options.heartbeatTicks, 'elections take longer than heartbeats');
    this.#raft.electionTicks = ticks;
    drawElectionTicks(this.#raft);
  }

  #softState(): SoftState {
    return { leader: this.#raft.leader, role: this.#raft.role };
  }

  #propose(type: RaftEntry['type'], all: readonly Uint8Array[]): Refusal | undefined {
    const entries = all.map((data) => ({ index: 0, term: 0, type, data }));
    const taken = step(this.#raft, makeMessage('propose', nobody, { from: this.#raft.options.raftId, entries }));
    return taken ? undefined : 'proposal-dropped';
  }

  /** Synchronous mode: our own acknowledgements wait for advance(), the others follow the write in order. */
  #messagesToSend(work: Omit<Ready, 'messages' | 'mustSync'>): Message[] {
    const raft = this.#raft;
    invariant(this.#onAdvance.length === 0, 'advance() follows on each ready()');
    const isOwn = (message: Message): boolean => message.to === raft.options.raftId;
    this.#onAdvance = raft.messagesAfterAppend.filter(isOwn);
    if (needsAppendResponse(raft, work)) this.#onAdvance.push(appendResponse(raft, work));
    if (work.committedEntries.length > 0) this.#onAdvance.push(applyResponse(raft, work.committedEntries));
    return [...raft.messages, ...raft.messagesAfterAppend.filter((message) => !isOwn(message))];
  }

  #storageMessages(work: Omit<Ready, 'messages' | 'mustSync'>): Message[] {
    const raft = this.#raft;
    const from = raft.options.raftId;
    const { hardState, entries, snapshot, committedEntries } = work;
    const messages: Message[] = [];
    if (entries.length > 0 || hardState || snapshot || raft.messagesAfterAppend.length > 0) {
      const responses = [...raft.messagesAfterAppend];
      // Last, so that our own acknowledgement still finds the term of the entries in memory.
      if (needsAppendResponse(raft, work)) responses.push(appendResponse(raft, work));
      messages.push(makeMessage('storage-append', appendThread, { from, entries, snapshot, responses, ...hardState }));
    }
    if (committedEntries.length > 0) {
      const responses = [applyResponse(raft, committedEntries)];
      messages.push(makeMessage('storage-apply', applyThread, { from, entries: committedEntries, responses }));
    }
    return messages;
  }

  #accept(work: Omit<Ready, 'messages' | 'mustSync'>, soft: SoftState, hard: HardState): void {
    const raft = this.#raft;
    this.#previousSoft = soft;
    this.#previousHard = hard;
    raft.readStates = [];
    raft.messages = [];
    raft.messagesAfterAppend = [];
    raft.log.acceptUnstable();
    const last = work.committedEntries.at(-1);
    if (last) {
      raft.log.acceptApplying(last.index, entriesBytes(work.committedEntries), !raft.options.asyncStorageWrites);
    }
  }
}

function sameHardState(a: HardState, b: HardState): boolean {
  return a.term === b.term && a.vote === b.vote && a.commit === b.commit;
}

function needsAppendResponse(raft: Raft, work: Pick<Ready, 'snapshot'>): boolean {
  return raft.log.hasUnstableEntries() || work.snapshot !== undefined;
}

/**
 * Tells the core that everything up to the end of the log is on disk. It carries the term of now and is ignored in any
 * later one: by then another write may be under way that replaces these entries with others and those with these again.
 * So it names the log's end even where this write brings no entries; the first write of each term repeats what was lost.
 */
function appendResponse(raft: Raft, work: Pick<Ready, 'snapshot'>): Message {
  const last = raft.log.hasUnstableEntries() ? raft.log.last() : { index: 0, term: 0 };
  return makeMessage('storage-append-response', raft.options.raftId, {
    from: appendThread,
    term: raft.term,
    index: last.index,
    logTerm: last.term,
    snapshot: work.snapshot,
  });
}

function applyResponse(raft: Raft, entries: readonly RaftEntry[]): Message {
  return makeMessage('storage-apply-response', raft.options.raftId, { from: applyThread, entries });
}
