// Owns etcd's way of writing raft's state as text, which its data files compare with.

import type { Members } from '../../node/consensus/core/configuration.ts';
import { changeOf } from '../../node/consensus/core/membership.ts';
import { appendThread, applyThread, type HardState, type Message } from '../../node/consensus/core/message.ts';
import type { Progress } from '../../node/consensus/core/progress.ts';
import { type AckedIndex, type RaftIds, sortedIds } from '../../node/consensus/core/quorum.ts';
import type { RawStatus, Ready } from '../../node/consensus/core/raw-node.ts';
import type { ConfigurationStep, RaftEntry, SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { UnknownDirective } from './datadriven.ts';

/** Marks an entry that etcd writes in its older format, which ours does not have. */
export const version1Context = 'v1';

const messageNames: Record<Message['type'], string> = {
  campaign: 'MsgHup',
  beat: 'MsgBeat',
  propose: 'MsgProp',
  append: 'MsgApp',
  'append-response': 'MsgAppResp',
  vote: 'MsgVote',
  'vote-response': 'MsgVoteResp',
  snapshot: 'MsgSnap',
  heartbeat: 'MsgHeartbeat',
  'heartbeat-response': 'MsgHeartbeatResp',
  unreachable: 'MsgUnreachable',
  'snapshot-status': 'MsgSnapStatus',
  'check-quorum': 'MsgCheckQuorum',
  'transfer-leader': 'MsgTransferLeader',
  'timeout-now': 'MsgTimeoutNow',
  'read-index': 'MsgReadIndex',
  'read-index-response': 'MsgReadIndexResp',
  'pre-vote': 'MsgPreVote',
  'pre-vote-response': 'MsgPreVoteResp',
  'storage-append': 'MsgStorageAppend',
  'storage-append-response': 'MsgStorageAppendResp',
  'storage-apply': 'MsgStorageApply',
  'storage-apply-response': 'MsgStorageApplyResp',
  'forget-leader': 'MsgForgetLeader',
};

const roleNames: Record<RawStatus['role'], string> = {
  follower: 'StateFollower',
  'pre-candidate': 'StatePreCandidate',
  candidate: 'StateCandidate',
  leader: 'StateLeader',
};

const stateNames: Record<Progress['state'], string> = {
  probe: 'StateProbe',
  replicate: 'StateReplicate',
  snapshot: 'StateSnapshot',
};

const stepLetters: Record<ConfigurationStep['kind'], string> = {
  'add-voter': 'v',
  'add-learner': 'l',
  remove: 'r',
  update: 'u',
};

export function messageTypeOf(name: string): Message['type'] {
  const found = Object.entries(messageNames).find(([, etcdName]) => etcdName === name);
  if (!found) throw new UnknownDirective(`unknown message type ${name}`);
  return found[0] as Message['type'];
}

/** `v1 l2 r3 u4` as steps. */
export function parseSteps(text: string): ConfigurationStep[] {
  return text
    .trim()
    .split(' ')
    .filter((token) => token !== '')
    .map((token) => {
      const kind = Object.entries(stepLetters).find(([, letter]) => letter === token[0])?.[0];
      if (!kind || !/^.\d+$/.test(token)) throw new UnknownDirective(`unknown input: ${token}`);
      return { kind: kind as ConfigurationStep['kind'], raftId: Number(token.slice(1)) };
    });
}

export function describeEntry(entry: RaftEntry): string {
  const head = `${entry.term}/${entry.index}`;
  if (entry.type === 'normal') return `${head} EntryNormal ${JSON.stringify(new TextDecoder().decode(entry.data))}`;
  const change = changeOf(entry.data);
  const steps = change.steps.map((step) => ` ${stepLetters[step.kind]}${step.raftId}`).join('');
  const isVersion1 = new TextDecoder().decode(change.context) === version1Context;
  return `${head} ${isVersion1 ? 'EntryConfChange' : 'EntryConfChangeV2'}${steps}`;
}

export function describeMessage(message: Message, indent = ''): string {
  const { from, to, type, term, logTerm, index, reject, rejectHint, commit, vote, entries } = message;
  let text = `${indent}${target(from)}->${target(to)} ${messageNames[type]} Term:${term} Log:${logTerm}/${index}`;
  if (reject) text += ` Rejected (Hint: ${rejectHint})`;
  if (commit !== 0) text += ` Commit:${commit}`;
  if (vote !== 0) text += ` Vote:${vote}`;
  const [only] = entries;
  if (only && entries.length === 1) text += ` Entries:[${describeEntry(only)}]`;
  else if (only) {
    text += ` Entries:[${entries.map((entry) => `\n${indent}  ${describeEntry(entry)}`).join('')}\n${indent}]`;
  }
  if (message.snapshot) text += `\n${indent}  Snapshot: ${describeSnapshot(message.snapshot)}`;
  if (message.responses.length > 0) {
    text += ` Responses:[${message.responses.map((response) => `\n${describeMessage(response, `${indent}  `)}`).join('')}`;
    text += `\n${indent}]`;
  }
  return text;
}

export function describeReady(ready: Ready): string {
  const { softState, hardState, entries, snapshot, committedEntries, messages } = ready;
  const lines: string[] = [];
  if (softState) lines.push(`Lead:${softState.leader} State:${roleNames[softState.role]}`);
  if (hardState) lines.push(`HardState ${describeHardState(hardState)}`);
  if (entries.length > 0) lines.push('Entries:', ...entries.map(describeEntry));
  if (snapshot) lines.push(`Snapshot ${describeSnapshot(snapshot)}`);
  if (committedEntries.length > 0) lines.push('CommittedEntries:', ...committedEntries.map(describeEntry));
  if (messages.length > 0) lines.push('Messages:', ...messages.map((message) => describeMessage(message)));
  return lines.length === 0 ? '<empty Ready>' : `Ready MustSync=${ready.mustSync}:\n${lines.join('\n')}\n`;
}

export function describeState(status: RawStatus): string {
  const { voters } = status.members;
  const isVoter = voters.incoming.has(status.raftId) || voters.outgoing.has(status.raftId);
  const kind = isVoter ? '(Voter)' : '(Non-Voter)';
  return `${status.raftId}: ${roleNames[status.role]} ${kind} Term:${status.term} Lead:${status.leader}`;
}

export function describeProgress(raftId: number, progress: Progress): string {
  let text = `${raftId}: ${stateNames[progress.state]} match=${progress.match} next=${progress.next}`;
  if (progress.isLearner) text += ' learner';
  if (progress.isPaused()) text += ' paused';
  if (progress.pendingSnapshot > 0) text += ` pendingSnap=${progress.pendingSnapshot}`;
  if (!progress.recentActive) text += ' inactive';
  const inflight = progress.inflights.count();
  if (inflight > 0) text += ` inflight=${inflight}${progress.inflights.full() ? '[full]' : ''}`;
  return text;
}

export function describeMembers(members: Members): string {
  let text = `voters=${ids(members.voters.incoming)}`;
  if (members.voters.outgoing.size > 0) text += `&&${ids(members.voters.outgoing)}`;
  if (members.learners.size > 0) text += ` learners=${ids(members.learners)}`;
  if (members.learnersNext.size > 0) text += ` learners_next=${ids(members.learnersNext)}`;
  return members.autoLeave ? `${text} autoleave` : text;
}

/** A chart of what each voter has acknowledged. */
export function describeQuorum(voters: RaftIds, acked: AckedIndex): string {
  const count = voters.size;
  if (count === 0) return '<empty majority quorum>';
  const sorted = sortedIds(voters);
  let text = `${' '.repeat(count)}    idx\n`;
  for (const raftId of sorted) {
    const index = acked(raftId);
    const bar = sorted.filter((other) => (acked(other) ?? 0) < (index ?? 0)).length;
    const chart = index === undefined ? `?${' '.repeat(count)}` : `${'x'.repeat(bar)}>${' '.repeat(count - bar)}`;
    text += `${chart} ${String(index ?? 0).padStart(5)}    (id=${raftId.toString(16)})\n`;
  }
  return text;
}

function describeHardState({ term, vote, commit }: HardState): string {
  return `Term:${term}${vote === 0 ? '' : ` Vote:${vote}`} Commit:${commit}`;
}

function describeSnapshot({ index, term, configuration }: SnapshotMetadata): string {
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = configuration;
  const list = (raftIds: readonly number[]): string => `[${raftIds.join(' ')}]`;
  return (
    `Index:${index} Term:${term} ConfState:Voters:${list(voters)} VotersOutgoing:${list(votersOutgoing)} ` +
    `Learners:${list(learners)} LearnersNext:${list(learnersNext)} AutoLeave:${autoLeave}`
  );
}

const ids = (set: RaftIds): string =>
  `(${sortedIds(set)
    .map((raftId) => raftId.toString(16))
    .join(' ')})`;

function target(raftId: number): string {
  if (raftId === 0) return 'None';
  if (raftId === appendThread) return 'AppendThread';
  return raftId === applyThread ? 'ApplyThread' : raftId.toString(16);
}
