// Owns campaigns and votes: the pre-vote that asks without raising the term, the election, and whom we vote for.

import { type Message, makeMessage, nobody } from './message.ts';
import { voterIds } from './quorum.ts';
import {
  becomeCandidate,
  becomeFollower,
  becomeLeader,
  becomePreCandidate,
  isPromotable,
  type Raft,
  send,
} from './raft.ts';
import { broadcastAppend } from './replicate.ts';

type CampaignKind = 'pre-election' | 'election' | 'transfer';

/** Votes with this context ignore that a leader was heard from: the leader itself asked for them. */
export const transferContext = 'transfer';

/** Starts an election unless we lead, cannot be elected, or have configuration entries left to apply. */
export function startCampaign(raft: Raft, kind: CampaignKind): void {
  if (raft.role === 'leader' || !isPromotable(raft) || hasUnappliedChange(raft)) return;
  campaign(raft, kind);
}

/** Counts a vote and moves on when the election is decided. */
export function takeVote(raft: Raft, message: Message): void {
  raft.tracker.recordVote(message.from, !message.reject);
  const result = raft.tracker.tallyVotes();
  if (result === 'lost') becomeFollower(raft, raft.term, nobody);
  if (result !== 'won') return;
  if (raft.role === 'pre-candidate') {
    campaign(raft, 'election');
    return;
  }
  becomeLeader(raft);
  broadcastAppend(raft);
}

/** Answers a vote or pre-vote request of our term or, for pre-votes, of a later one. Learners vote too: the candidate's
 * configuration may be newer than ours. */
export function answerVote(raft: Raft, message: Message): void {
  const mayVote =
    raft.vote === message.from ||
    (raft.vote === nobody && raft.leader === nobody) ||
    (message.type === 'pre-vote' && message.term > raft.term);
  const type = voteResponseType(message.type);
  if (!mayVote || !raft.log.isUpToDate({ index: message.index, term: message.logTerm })) {
    send(raft, makeMessage(type, message.from, { term: raft.term, reject: true }));
    return;
  }
  // A granted pre-vote echoes the term asked for: ours may be older, and the candidate would ignore it.
  send(raft, makeMessage(type, message.from, { term: message.term }));
  if (message.type === 'vote') {
    raft.electionElapsed = 0;
    raft.vote = message.from;
  }
}

/** True while we have heard from a leader within the shortest election time: then we help nobody to depose it. */
export function isInLease(raft: Raft): boolean {
  return raft.options.checkQuorum && raft.leader !== nobody && raft.electionElapsed < raft.electionTicks;
}

const voteResponseType = (type: string): 'vote-response' | 'pre-vote-response' =>
  type === 'vote' ? 'vote-response' : 'pre-vote-response';

function campaign(raft: Raft, kind: CampaignKind): void {
  if (kind === 'pre-election') becomePreCandidate(raft);
  else becomeCandidate(raft);
  const type = kind === 'pre-election' ? 'pre-vote' : 'vote';
  const term = kind === 'pre-election' ? raft.term + 1 : raft.term;
  const context = kind === 'transfer' ? transferContext : '';
  const last = raft.log.last();
  for (const raftId of voterIds(raft.tracker.members.voters)) {
    if (raftId === raft.options.raftId) send(raft, makeMessage(voteResponseType(type), raftId, { term }));
    else send(raft, makeMessage(type, raftId, { term, index: last.index, logTerm: last.term, context }));
  }
}

function hasUnappliedChange(raft: Raft): boolean {
  const { applied, committed } = raft.log;
  const entries = raft.log.slice(applied + 1, committed + 1, Number.POSITIVE_INFINITY);
  return entries?.some((entry) => entry.type === 'configuration') ?? false;
}
