// Owns what followers and candidates do with messages: taking entries, commits and snapshots from the leader, and asking
// it for reads and handovers.

import { startCampaign, takeVote } from './election.ts';
import { restoreConfiguration } from './membership.ts';
import { type Message, makeMessage, nobody } from './message.ts';
import { becomeFollower, type Raft, send } from './raft.ts';

/** Returns false when a proposal is dropped. */
export function stepFollower(raft: Raft, message: Message): boolean {
  switch (message.type) {
    case 'propose':
    case 'transfer-leader':
    case 'read-index':
      if (raft.leader === nobody) return message.type !== 'propose';
      send(raft, { ...message, to: raft.leader });
      return true;
    case 'append':
    case 'heartbeat':
    case 'snapshot':
      raft.electionElapsed = 0;
      raft.leader = message.from;
      takeFromLeader(raft, message);
      return true;
    case 'forget-leader':
      // A lease holder would go on answering reads while we help to elect another.
      if (raft.options.readMode !== 'lease') raft.leader = nobody;
      return true;
    case 'timeout-now':
      // The leader asked for it, so there is no need for a pre-vote.
      startCampaign(raft, 'transfer');
      return true;
    case 'read-index-response':
      raft.readStates.push({ index: message.index, context: message.context });
      return true;
    default:
      return true;
  }
}

/** Returns false when a proposal is dropped. */
export function stepCandidate(raft: Raft, message: Message): boolean {
  switch (message.type) {
    case 'propose':
      return false;
    case 'append':
    case 'heartbeat':
    case 'snapshot':
      // Of our own term, so somebody has won the election.
      becomeFollower(raft, message.term, message.from);
      takeFromLeader(raft, message);
      return true;
    case 'vote-response':
      if (raft.role === 'candidate') takeVote(raft, message);
      return true;
    case 'pre-vote-response':
      if (raft.role === 'pre-candidate') takeVote(raft, message);
      return true;
    default:
      return true;
  }
}

function takeFromLeader(raft: Raft, message: Message): void {
  if (message.type === 'append') takeAppend(raft, message);
  else if (message.type === 'snapshot') takeSnapshot(raft, message);
  else {
    raft.log.commitTo(message.commit);
    send(raft, makeMessage('heartbeat-response', message.from, { context: message.context }));
  }
}

function takeAppend(raft: Raft, message: Message): void {
  const { from, index, logTerm, entries, commit } = message;
  const acknowledge = (upTo: number): void => send(raft, makeMessage('append-response', from, { index: upTo }));
  if (index < raft.log.committed) {
    acknowledge(raft.log.committed);
    return;
  }
  const lastNew = raft.log.appendAfter({ index, term: logTerm }, entries, commit);
  if (lastNew !== undefined) {
    acknowledge(lastNew);
    return;
  }
  const hint = raft.log.findByTerm(Math.min(index, raft.log.lastIndex()), logTerm);
  send(raft, makeMessage('append-response', from, { index, reject: true, rejectHint: hint.index, logTerm: hint.term }));
}

function takeSnapshot(raft: Raft, message: Message): void {
  const restored = restoreSnapshot(raft, message);
  const index = restored ? raft.log.lastIndex() : raft.log.committed;
  send(raft, makeMessage('append-response', message.from, { index }));
}

/** Replaces the log by a snapshot; false when the snapshot brings nothing or does not know us. */
function restoreSnapshot(raft: Raft, { snapshot }: Message): boolean {
  if (snapshot === undefined || snapshot.index <= raft.log.committed || raft.role !== 'follower') return false;
  const { voters, votersOutgoing, learners } = snapshot.configuration;
  if (![...voters, ...votersOutgoing, ...learners].includes(raft.options.raftId)) return false;
  if (raft.log.matches({ index: snapshot.index, term: snapshot.term })) {
    // Our log holds all of it already: only the commit index was behind.
    raft.log.commitTo(snapshot.index);
    return false;
  }
  raft.log.restore(snapshot);
  restoreConfiguration(raft, snapshot.configuration);
  return true;
}
