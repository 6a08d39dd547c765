// Owns what a leader does with messages: proposals, acknowledgements, heartbeats' answers, reads and handing over.

import { changeOf, changeRefusal } from './membership.ts';
import { type Message, makeMessage, nobody } from './message.ts';
import type { Progress } from './progress.ts';
import { appendEntries, becomeFollower, type Raft, send } from './raft.ts';
import type { WaitingRead } from './read-queue.ts';
import { advanceCommit, broadcastAppend, broadcastHeartbeat, sendAppend } from './replicate.ts';

/** Reads in the leader's queues; more are dropped, and their readers ask again. */
const readsMax = 4_096;

/** Returns false when a proposal is dropped. */
export function stepLeader(raft: Raft, message: Message): boolean {
  switch (message.type) {
    case 'beat':
      broadcastHeartbeat(raft);
      return true;
    case 'check-quorum':
      checkQuorum(raft);
      return true;
    case 'propose':
      return propose(raft, message);
    case 'read-index':
      takeRead(raft, message);
      return true;
    default: {
      const progress = raft.tracker.progress.get(message.from);
      if (progress) stepFromMember(raft, message, progress);
      return true;
    }
  }
}

function stepFromMember(raft: Raft, message: Message, progress: Progress): void {
  switch (message.type) {
    case 'append-response':
      progress.recentActive = true;
      if (message.reject) takeRejection(raft, message, progress);
      else takeAcknowledgement(raft, message, progress);
      return;
    case 'heartbeat-response':
      takeHeartbeatResponse(raft, message, progress);
      return;
    case 'snapshot-status':
      takeSnapshotStatus(message, progress);
      return;
    case 'unreachable':
      // Whatever was streamed optimistically is probably lost.
      if (progress.state === 'replicate') progress.becomeProbe();
      return;
    case 'transfer-leader':
      transferTo(raft, message.from, progress);
      return;
    default:
  }
}

function checkQuorum(raft: Raft): void {
  if (!raft.tracker.quorumActive()) becomeFollower(raft, raft.term, nobody);
  for (const [raftId, progress] of raft.tracker.progress) {
    if (raftId !== raft.options.raftId) progress.recentActive = false;
  }
}

function propose(raft: Raft, message: Message): boolean {
  if (!raft.tracker.progress.has(raft.options.raftId) || raft.transferTarget !== nobody) return false;
  const first = raft.log.lastIndex() + 1;
  const entries = message.entries.map((entry, position) => {
    if (entry.type !== 'configuration') return entry;
    if (raft.options.validateChanges && changeRefusal(raft, changeOf(entry.data)) !== undefined) {
      return { ...entry, type: 'normal' as const, data: new Uint8Array() };
    }
    raft.pendingChangeIndex = first + position;
    return entry;
  });
  if (!appendEntries(raft, entries)) return false;
  broadcastAppend(raft);
  return true;
}

function takeRejection(raft: Raft, message: Message, progress: Progress): void {
  const { rejectHint, logTerm } = message;
  // The follower's hint skips its own conflicting terms; ours skips those that it cannot have.
  const hint = logTerm > 0 ? raft.log.findByTerm(rejectHint, logTerm).index : rejectHint;
  if (!progress.retreat(message.index, hint)) return;
  if (progress.state === 'replicate') progress.becomeProbe();
  sendAppend(raft, message.from, true);
}

function takeAcknowledgement(raft: Raft, message: Message, progress: Progress): void {
  const { from, index } = message;
  const isNews = progress.advanceTo(index) || (progress.match === index && progress.state === 'probe');
  if (!isNews) return;
  if (progress.state === 'probe') progress.becomeReplicate();
  else if (progress.state === 'replicate') progress.inflights.freeUpTo(index);
  else if (progress.match + 1 >= raft.log.firstIndex()) {
    // The follower reaches into our log again, by whatever way; `next` must come from its match, not from the snapshot.
    progress.becomeProbe();
    progress.becomeReplicate();
  }
  const isOwn = from === raft.options.raftId;
  if (advanceCommit(raft)) {
    releaseEarlyReads(raft);
    broadcastAppend(raft);
  } else if (!isOwn && progress.canBumpCommit(raft.log.committed)) {
    sendAppend(raft, from, true);
  }
  if (isOwn) return;
  while (sendAppend(raft, from, false)) {
    // The window has room for several messages at once.
  }
  if (from === raft.transferTarget && progress.match === raft.log.lastIndex()) {
    send(raft, makeMessage('timeout-now', from));
  }
}

function takeHeartbeatResponse(raft: Raft, message: Message, progress: Progress): void {
  progress.recentActive = true;
  progress.flowPaused = false;
  if (progress.match < raft.log.lastIndex() || progress.state === 'probe') sendAppend(raft, message.from, true);
  if (raft.options.readMode !== 'safe' || message.context === '') return;
  raft.reads.acknowledge(message.from, message.context);
  for (const read of raft.reads.takeConfirmed(raft.tracker.members.voters)) answerRead(raft, read);
}

function takeSnapshotStatus(message: Message, progress: Progress): void {
  if (progress.state !== 'snapshot') return;
  if (message.reject) progress.pendingSnapshot = 0;
  progress.becomeProbe();
  // Done: the acknowledgement comes with the next heartbeat's answer. Failed: wait that long before the next try.
  progress.flowPaused = true;
}

function transferTo(raft: Raft, target: number, progress: Progress): void {
  if (progress.isLearner || raft.transferTarget === target) return;
  raft.transferTarget = nobody;
  if (target === raft.options.raftId) return;
  // The handover must be over within one election time.
  raft.electionElapsed = 0;
  raft.transferTarget = target;
  if (progress.match === raft.log.lastIndex()) send(raft, makeMessage('timeout-now', target));
  else sendAppend(raft, target, true);
}

function takeRead(raft: Raft, message: Message): void {
  if (raft.log.term(raft.log.committed) !== raft.term) {
    // Until its first own commit a leader does not know what was committed before it.
    if (raft.earlyReads.length < readsMax) raft.earlyReads.push(message);
  } else if (raft.tracker.isSingleton() || raft.options.readMode === 'lease') {
    answerRead(raft, { request: message, index: raft.log.committed });
  } else if (raft.reads.size < readsMax) {
    raft.reads.add(message, raft.log.committed);
    raft.reads.acknowledge(raft.options.raftId, raft.reads.context());
    broadcastHeartbeat(raft);
  }
}

function releaseEarlyReads(raft: Raft): void {
  if (raft.log.term(raft.log.committed) !== raft.term) return;
  const reads = raft.earlyReads;
  raft.earlyReads = [];
  for (const read of reads) takeRead(raft, read);
}

function answerRead(raft: Raft, { request, index }: WaitingRead): void {
  const { from, context } = request;
  if (from === nobody || from === raft.options.raftId) raft.readStates.push({ index, context });
  else send(raft, makeMessage('read-index-response', from, { index, context }));
}
