// Owns the state of one raft node and its transitions between roles. The other files of the core are functions over this
// state: elections, replication, reads, membership, one per concern; raw-node.ts is the face to the caller.

import type { Configuration, RaftEntry } from '../../../protocols/consensus-record.ts';
import { RaftLog } from './log.ts';
import {
  type HardState,
  invariant,
  type Message,
  makeMessage,
  nobody,
  payloadBytes,
  type StableLog,
} from './message.ts';
import { ReadQueue } from './read-queue.ts';
import { Tracker } from './tracker.ts';

export type RaftRole = 'follower' | 'pre-candidate' | 'candidate' | 'leader';

export interface RaftOptions {
  readonly raftId: number;
  /** Ticks without a leader before an election, to begin with; a random 0 … electionTicks - 1 is added. More than heartbeatTicks. */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly stable: StableLog;
  readonly hardState: HardState;
  /** The configuration in force after the last applied entry. */
  readonly configuration: Configuration;
  /** Index of the last entry that the state machine holds; at least the snapshot's. */
  readonly applied: number;
  /** A whole number 0 <= n < below, from outside. */
  readonly random: (below: number) => number;
  /** Storage work travels as messages and may overlap with further work; else ready() and advance() alternate. */
  readonly asyncStorageWrites: boolean;
  /** Bytes of entries in one append message; a larger entry travels alone. */
  readonly messageBytesMax: number;
  /** Bytes of committed entries that may be in the hands of the state machine. */
  readonly applyBytesMax: number;
  /** Payload bytes of the leader's entries that are not committed; more proposals are dropped. */
  readonly uncommittedBytesMax: number;
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
  readonly checkQuorum: boolean;
  readonly preVote: boolean;
  /** `safe` asks a quorum for each batch of reads; `lease` trusts clocks and exists for etcd's data files only. */
  readonly readMode: 'safe' | 'lease';
  /** Refuse configuration changes that cannot follow on the one in force. */
  readonly validateChanges: boolean;
  /** The leader steps down once it is removed or demoted. */
  readonly stepDownOnRemoval: boolean;
}

/** A read that a quorum has confirmed: state at or after `index` is current for the reader `context`. */
export interface ReadState {
  readonly index: number;
  readonly context: string;
}

export interface Raft {
  readonly options: RaftOptions;
  readonly log: RaftLog;
  readonly tracker: Tracker;
  role: RaftRole;
  term: number;
  vote: number;
  leader: number;
  /** Messages to send at once. */
  messages: Message[];
  /** Messages to send once everything before them is on disk: acknowledgements and votes. */
  messagesAfterAppend: Message[];
  readStates: ReadState[];
  /** No configuration entry is proposed before the one at this index is applied. */
  pendingChangeIndex: number;
  uncommittedBytes: number;
  reads: ReadQueue;
  /** Reads that wait for the leader's first commit in its term. */
  earlyReads: Message[];
  electionTicks: number;
  electionElapsed: number;
  heartbeatElapsed: number;
  randomizedElectionTicks: number;
  transferTarget: number;
}

export function createRaft(options: RaftOptions): Raft {
  invariant(options.raftId !== nobody, 'a raft id is not zero');
  invariant(options.electionTicks > options.heartbeatTicks, 'elections take longer than heartbeats');
  const { inflightMessagesMax, inflightBytesMax, hardState } = options;
  const raft: Raft = {
    options,
    log: new RaftLog(options.stable, options.applyBytesMax),
    tracker: new Tracker({ inflightMessagesMax, inflightBytesMax }),
    role: 'follower',
    term: hardState.term,
    vote: hardState.vote,
    leader: nobody,
    messages: [],
    messagesAfterAppend: [],
    readStates: [],
    pendingChangeIndex: 0,
    uncommittedBytes: 0,
    reads: new ReadQueue(),
    earlyReads: [],
    electionTicks: options.electionTicks,
    electionElapsed: 0,
    heartbeatElapsed: 0,
    randomizedElectionTicks: 0,
    transferTarget: nobody,
  };
  raft.tracker.restore(options.configuration, raft.log.lastIndex());
  raft.log.commitTo(hardState.commit);
  raft.log.appliedTo(Math.max(options.applied, raft.log.applied), 0);
  becomeFollower(raft, raft.term, nobody);
  return raft;
}

export const hardStateOf = (raft: Raft): HardState => ({
  term: raft.term,
  vote: raft.vote,
  commit: raft.log.committed,
});

/** True when this node may campaign: a voter whose log is not being replaced. */
export function isPromotable(raft: Raft): boolean {
  const own = raft.tracker.progress.get(raft.options.raftId);
  return own !== undefined && !own.isLearner && !raft.log.hasPendingSnapshot();
}

/** Queues a message. Votes carry their own term; everything else that is not a forwarded request carries ours. */
export function send(raft: Raft, message: Message): void {
  const { type } = message;
  const carriesTerm =
    type === 'vote' || type === 'vote-response' || type === 'pre-vote' || type === 'pre-vote-response';
  const isRequest = type === 'propose' || type === 'read-index';
  invariant(carriesTerm === message.term > 0, `${type} is sent with a term exactly when it is a vote`);
  const from = message.from === nobody ? raft.options.raftId : message.from;
  const stamped = { ...message, from, term: carriesTerm || isRequest ? message.term : raft.term };
  if (type === 'append-response' || type === 'vote-response' || type === 'pre-vote-response') {
    raft.messagesAfterAppend.push(stamped);
    return;
  }
  invariant(message.to !== raft.options.raftId, `${type} is not sent to ourselves`);
  raft.messages.push(stamped);
}

export function becomeFollower(raft: Raft, term: number, leader: number): void {
  reset(raft, term);
  raft.leader = leader;
  raft.role = 'follower';
}

export function becomeCandidate(raft: Raft): void {
  invariant(raft.role !== 'leader', 'a leader does not become a candidate');
  reset(raft, raft.term + 1);
  raft.vote = raft.options.raftId;
  raft.role = 'candidate';
}

/** Term and vote stay as they are, so that an election that cannot be won disturbs nobody. */
export function becomePreCandidate(raft: Raft): void {
  invariant(raft.role !== 'leader', 'a leader does not become a candidate');
  raft.tracker.resetVotes();
  raft.leader = nobody;
  raft.role = 'pre-candidate';
}

export function becomeLeader(raft: Raft): void {
  invariant(raft.role !== 'follower', 'a follower does not become leader without an election');
  const { raftId } = raft.options;
  reset(raft, raft.term);
  raft.leader = raftId;
  raft.role = 'leader';
  const own = raft.tracker.progress.get(raftId);
  invariant(own !== undefined, 'a leader is a member');
  own.becomeReplicate();
  own.recentActive = true;
  // There may be a configuration entry anywhere in the tail that we inherit.
  raft.pendingChangeIndex = raft.log.lastIndex();
  // Entries of older terms commit only underneath one of our own.
  const appended = appendEntries(raft, [{ type: 'normal', data: new Uint8Array() }]);
  invariant(appended, 'an empty entry is never refused');
}

/** Appends the leader's own entries; false when too much is uncommitted already. Our own disk acknowledges later. */
export function appendEntries(raft: Raft, proposed: readonly Pick<RaftEntry, 'type' | 'data'>[]): boolean {
  const first = raft.log.lastIndex() + 1;
  const entries = proposed.map(({ type, data }, position) => ({
    index: first + position,
    term: raft.term,
    type,
    data,
  }));
  const bytes = payloadBytes(entries);
  if (raft.uncommittedBytes > 0 && bytes > 0 && raft.uncommittedBytes + bytes > raft.options.uncommittedBytesMax) {
    return false;
  }
  raft.uncommittedBytes += bytes;
  const index = raft.log.append(entries);
  send(raft, makeMessage('append-response', raft.options.raftId, { index }));
  return true;
}

/** How long this node waits is another time each time, so that two seldom stand at once. */
export function drawElectionTicks(raft: Raft): void {
  raft.randomizedElectionTicks = raft.electionTicks + raft.options.random(raft.electionTicks);
}

function reset(raft: Raft, term: number): void {
  if (raft.term !== term) {
    raft.term = term;
    raft.vote = nobody;
  }
  raft.leader = nobody;
  raft.electionElapsed = 0;
  raft.heartbeatElapsed = 0;
  drawElectionTicks(raft);
  raft.transferTarget = nobody;
  raft.tracker.resetVotes();
  raft.tracker.resetProgress(raft.options.raftId, raft.log.lastIndex());
  raft.pendingChangeIndex = 0;
  raft.uncommittedBytes = 0;
  raft.reads = new ReadQueue();
  raft.earlyReads = [];
}
