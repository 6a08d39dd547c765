// Owns what a leader sends to bring the others along: entries, commit indexes, snapshots and heartbeats.

import { makeMessage, payloadBytes } from './message.ts';
import type { Progress } from './progress.ts';
import { type Raft, send } from './raft.ts';

/** Sends entries (or a snapshot) that the follower lacks; false when it is paused or, unless told so, has everything. */
export function sendAppend(raft: Raft, to: number, evenIfEmpty: boolean): boolean {
  const progress = raft.tracker.progress.get(to);
  if (!progress || progress.isPaused()) return false;
  const previousIndex = progress.next - 1;
  const previousTerm = raft.log.term(previousIndex);
  if (previousTerm === undefined) return sendSnapshot(raft, to, progress);
  const windowOpen = progress.state !== 'replicate' || !progress.inflights.full();
  const entries = windowOpen ? raft.log.entriesFrom(progress.next, raft.options.messageBytesMax) : [];
  if (entries === undefined) return sendSnapshot(raft, to, progress);
  if (entries.length === 0 && !evenIfEmpty) return false;
  const commit = raft.log.committed;
  send(raft, makeMessage('append', to, { index: previousIndex, logTerm: previousTerm, entries, commit }));
  progress.sentEntries(entries.length, payloadBytes(entries));
  progress.sentCommit(commit);
  return true;
}

export function broadcastAppend(raft: Raft): void {
  forOthers(raft, (raftId) => sendAppend(raft, raftId, true));
}

/** Sends what is missing, but nothing to those who have everything. */
export function broadcastMissing(raft: Raft): void {
  forOthers(raft, (raftId) => sendAppend(raft, raftId, false));
}

export function broadcastHeartbeat(raft: Raft): void {
  const context = raft.reads.context();
  forOthers(raft, (to, progress) => {
    // Beyond its match the follower's log may differ from ours.
    const commit = Math.min(progress.match, raft.log.committed);
    send(raft, makeMessage('heartbeat', to, { commit, context }));
    progress.sentCommit(commit);
  });
}

/** Commits what a quorum holds of our own term; true when the commit index moved. */
export function advanceCommit(raft: Raft): boolean {
  return raft.log.maybeCommit({ term: raft.term, index: raft.tracker.committed() });
}

function sendSnapshot(raft: Raft, to: number, progress: Progress): boolean {
  if (!progress.recentActive) return false;
  const snapshot = raft.log.snapshot();
  if (snapshot === undefined) return false;
  progress.becomeSnapshot(snapshot.index);
  send(raft, makeMessage('snapshot', to, { snapshot }));
  return true;
}

function forOthers(raft: Raft, call: (raftId: number, progress: Progress) => void): void {
  for (const [raftId, progress] of raft.tracker.all()) if (raftId !== raft.options.raftId) call(raftId, progress);
}
