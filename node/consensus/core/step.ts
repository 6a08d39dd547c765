// Owns the entry of all input: terms are settled first, then the message goes to votes, storage or the role. Ticks are
// here too, since they only turn into messages.

import { answerVote, isInLease, startCampaign, transferContext } from './election.ts';
import { stepCandidate, stepFollower } from './follower.ts';
import { stepLeader } from './leader.ts';
import { entriesBytes, type Message, makeMessage, nobody, payloadBytes } from './message.ts';
import { becomeFollower, isPromotable, type Raft, send } from './raft.ts';

/** Takes one message; returns false when it was a proposal that is dropped. */
export function step(raft: Raft, message: Message): boolean {
  if (message.term > raft.term && !takeHigherTerm(raft, message)) return true;
  if (message.term !== 0 && message.term < raft.term) {
    takeLowerTerm(raft, message);
    return true;
  }
  switch (message.type) {
    case 'campaign':
      startCampaign(raft, raft.options.preVote ? 'pre-election' : 'election');
      return true;
    case 'storage-append-response':
      takeStorageAppended(raft, message, true);
      return true;
    case 'storage-apply-response':
      takeStorageApplied(raft, message);
      return true;
    case 'vote':
    case 'pre-vote':
      answerVote(raft, message);
      return true;
    default:
      if (raft.role === 'leader') return stepLeader(raft, message);
      return raft.role === 'follower' ? stepFollower(raft, message) : stepCandidate(raft, message);
  }
}

/** One unit of time: a leader beats and checks its quorum, the others wait for a leader and then campaign. */
export function tick(raft: Raft): void {
  raft.electionElapsed += 1;
  if (raft.role === 'leader') tickLeader(raft);
  else if (isPromotable(raft) && raft.electionElapsed >= raft.randomizedElectionTicks) {
    raft.electionElapsed = 0;
    step(raft, makeMessage('campaign', raft.options.raftId));
  }
}

function tickLeader(raft: Raft): void {
  raft.heartbeatElapsed += 1;
  if (raft.electionElapsed >= raft.electionTicks) {
    raft.electionElapsed = 0;
    if (raft.options.checkQuorum) step(raft, makeMessage('check-quorum', raft.options.raftId));
    // A handover that took longer than an election is given up, so that proposals flow again.
    raft.transferTarget = nobody;
  }
  if (raft.role === 'leader' && raft.heartbeatElapsed >= raft.options.heartbeatTicks) {
    raft.heartbeatElapsed = 0;
    step(raft, makeMessage('beat', raft.options.raftId));
  }
}

/** Adopts a higher term where the message proves it; false when the message is to be ignored. */
function takeHigherTerm(raft: Raft, message: Message): boolean {
  const { type, from, term } = message;
  if ((type === 'vote' || type === 'pre-vote') && message.context !== transferContext && isInLease(raft)) return false;
  // A pre-vote asks about a term that nobody is in yet, and its grant echoes that term.
  if (type === 'pre-vote' || (type === 'pre-vote-response' && !message.reject)) return true;
  const isFromLeader = type === 'append' || type === 'heartbeat' || type === 'snapshot';
  becomeFollower(raft, term, isFromLeader ? from : nobody);
  return true;
}

function takeLowerTerm(raft: Raft, message: Message): void {
  const { type, from } = message;
  const { checkQuorum, preVote } = raft.options;
  if ((checkQuorum || preVote) && (type === 'heartbeat' || type === 'append')) {
    // Tells a leader of an older term about ours: we may be unable to win, and it would never hear of it.
    send(raft, makeMessage('append-response', from));
  } else if (type === 'pre-vote') {
    send(raft, makeMessage('pre-vote-response', from, { term: raft.term, reject: true }));
  } else if (type === 'storage-append-response') {
    // Entries written in an older term may be overwritten by a write on its way; only a snapshot is certain.
    takeStorageAppended(raft, message, false);
  }
}

function takeStorageAppended(raft: Raft, message: Message, entriesAreStable: boolean): void {
  if (message.index !== 0 && entriesAreStable) raft.log.stableTo({ index: message.index, term: message.logTerm });
  if (message.snapshot === undefined) return;
  raft.log.stableSnapshotTo(message.snapshot.index);
  appliedTo(raft, message.snapshot.index, 0);
}

function takeStorageApplied(raft: Raft, message: Message): void {
  const last = message.entries.at(-1);
  if (last === undefined) return;
  appliedTo(raft, last.index, entriesBytes(message.entries));
  raft.uncommittedBytes = Math.max(raft.uncommittedBytes - payloadBytes(message.entries), 0);
}

function appliedTo(raft: Raft, index: number, bytes: number): void {
  const applied = Math.max(index, raft.log.applied);
  raft.log.appliedTo(applied, bytes);
  if (!raft.tracker.members.autoLeave || applied < raft.pendingChangeIndex || raft.role !== 'leader') return;
  // Dropped while leadership is handed over; the next applied entry, or the next leader's, tries again.
  const leave = { index: 0, term: 0, type: 'configuration' as const, data: new Uint8Array() };
  step(raft, makeMessage('propose', nobody, { from: raft.options.raftId, entries: [leave] }));
}
