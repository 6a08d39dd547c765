// Owns configuration changes: from one configuration and a list of steps to the next, simple or joint, with the rules
// that keep two majorities overlapping. Works on copies; the caller adopts the result or nothing.

import type { Configuration, ConfigurationChange, ConfigurationStep } from '../../../protocols/consensus-record.ts';
import { invariant } from './message.ts';
import { Inflights, Progress } from './progress.ts';
import { type JointVoters, type RaftIds, sortedIds, voterIds } from './quorum.ts';

/** A configuration as sets; see Configuration in protocols for the meaning of the fields. */
export interface Members {
  readonly voters: JointVoters;
  readonly learners: RaftIds;
  readonly learnersNext: RaftIds;
  readonly autoLeave: boolean;
}

export type ProgressMap = ReadonlyMap<number, Progress>;

/** Members and what is known of each of them. */
export interface Membership {
  readonly members: Members;
  readonly progress: ProgressMap;
}

export interface WindowLimits {
  readonly inflightMessagesMax: number;
  readonly inflightBytesMax: number;
}

/** Thrown for a change that cannot follow on the configuration in force. */
export class ImpossibleChange extends Error {}

export const noMembers: Members = {
  voters: { incoming: new Set(), outgoing: new Set() },
  learners: new Set(),
  learnersNext: new Set(),
  autoLeave: false,
};

export const isJoint = (members: Members): boolean => members.voters.outgoing.size > 0;

interface Draft {
  readonly incoming: Set<number>;
  readonly outgoing: Set<number>;
  readonly learners: Set<number>;
  readonly learnersNext: Set<number>;
  readonly progress: Map<number, Progress>;
}

/** Applies a change of any kind: no steps leave a joint configuration, several steps or a joint transition enter one. */
export function changeMembership(
  base: Membership,
  change: Pick<ConfigurationChange, 'transition' | 'steps'>,
  lastIndex: number,
  limits: WindowLimits,
): Membership {
  if (change.transition === 'automatic' && change.steps.length === 0) return leaveJoint(base);
  if (change.transition !== 'automatic' || change.steps.length > 1) {
    return enterJoint(base, change.steps, change.transition !== 'joint-explicit', lastIndex, limits);
  }
  return changeSimple(base, change.steps, lastIndex, limits);
}

export function enterJoint(
  base: Membership,
  steps: readonly ConfigurationStep[],
  autoLeave: boolean,
  lastIndex: number,
  limits: WindowLimits,
): Membership {
  if (isJoint(base.members)) throw new ImpossibleChange('config is already joint');
  if (base.members.voters.incoming.size === 0) throw new ImpossibleChange("can't make a zero-voter config joint");
  const draft = draftOf(base);
  for (const raftId of draft.incoming) draft.outgoing.add(raftId);
  takeSteps(draft, steps, lastIndex, limits);
  return adopt(draft, autoLeave);
}

export function leaveJoint(base: Membership): Membership {
  if (!isJoint(base.members)) throw new ImpossibleChange("can't leave a non-joint config");
  const draft = draftOf(base);
  for (const raftId of draft.learnersNext) {
    draft.learners.add(raftId);
    const progress = draft.progress.get(raftId);
    if (progress) progress.isLearner = true;
  }
  draft.learnersNext.clear();
  for (const raftId of draft.outgoing) {
    if (!draft.incoming.has(raftId) && !draft.learners.has(raftId)) draft.progress.delete(raftId);
  }
  draft.outgoing.clear();
  return adopt(draft, false);
}

/** Steps that change at most one voter. */
export function changeSimple(
  base: Membership,
  steps: readonly ConfigurationStep[],
  lastIndex: number,
  limits: WindowLimits,
): Membership {
  if (isJoint(base.members)) throw new ImpossibleChange("can't apply simple config change in joint config");
  const draft = draftOf(base);
  takeSteps(draft, steps, lastIndex, limits);
  const changed = base.members.voters.incoming.symmetricDifference(draft.incoming);
  if (changed.size > 1) throw new ImpossibleChange('more than one voter changed without entering joint config');
  return adopt(draft, false);
}

/** The membership that a stored configuration describes. */
export function restoreMembership(stored: Configuration, lastIndex: number, limits: WindowLimits): Membership {
  const steps: ConfigurationStep[] = [
    ...stored.votersOutgoing.map((raftId) => ({ kind: 'remove' as const, raftId })),
    ...stored.voters.map((raftId) => ({ kind: 'add-voter' as const, raftId })),
    ...[...stored.learners, ...stored.learnersNext].map((raftId) => ({ kind: 'add-learner' as const, raftId })),
  ];
  let membership: Membership = { members: noMembers, progress: new Map() };
  const outgoing = stored.votersOutgoing.map((raftId) => ({ kind: 'add-voter' as const, raftId }));
  for (const step of outgoing.length > 0 ? outgoing : steps) {
    membership = changeSimple(membership, [step], lastIndex, limits);
  }
  return outgoing.length > 0 ? enterJoint(membership, steps, stored.autoLeave, lastIndex, limits) : membership;
}

/** The storable form of a membership. */
export function configurationOf(members: Members): Configuration {
  return {
    voters: sortedIds(members.voters.incoming),
    votersOutgoing: sortedIds(members.voters.outgoing),
    learners: sortedIds(members.learners),
    learnersNext: sortedIds(members.learnersNext),
    autoLeave: members.autoLeave,
  };
}

function draftOf(base: Membership): Draft {
  return {
    incoming: new Set(base.members.voters.incoming),
    outgoing: new Set(base.members.voters.outgoing),
    learners: new Set(base.members.learners),
    learnersNext: new Set(base.members.learnersNext),
    progress: new Map([...base.progress].map(([raftId, progress]) => [raftId, progress.clone()])),
  };
}

function takeSteps(draft: Draft, steps: readonly ConfigurationStep[], lastIndex: number, limits: WindowLimits): void {
  for (const { kind, raftId } of steps) {
    if (raftId === 0 || kind === 'update') continue;
    if (kind === 'remove') remove(draft, raftId);
    else if (!draft.progress.has(raftId)) addNew(draft, raftId, kind === 'add-learner', lastIndex, limits);
    else if (kind === 'add-voter') promote(draft, raftId);
    else demote(draft, raftId);
  }
  if (draft.incoming.size === 0) throw new ImpossibleChange('removed all voters');
}

function addNew(draft: Draft, raftId: number, isLearner: boolean, lastIndex: number, limits: WindowLimits): void {
  (isLearner ? draft.learners : draft.incoming).add(raftId);
  const inflights = new Inflights(limits.inflightMessagesMax, limits.inflightBytesMax);
  const next = Math.max(lastIndex, 1);
  // A newcomer counts as heard from: else a quorum check right after could depose the leader.
  draft.progress.set(raftId, new Progress({ match: 0, next, isLearner, recentActive: true, inflights }));
}

function promote(draft: Draft, raftId: number): void {
  const progress = draft.progress.get(raftId);
  if (progress) progress.isLearner = false;
  draft.learners.delete(raftId);
  draft.learnersNext.delete(raftId);
  draft.incoming.add(raftId);
}

function demote(draft: Draft, raftId: number): void {
  const progress = draft.progress.get(raftId);
  if (!progress || progress.isLearner) return;
  remove(draft, raftId);
  draft.progress.set(raftId, progress);
  if (draft.outgoing.has(raftId)) {
    // Still votes in the outgoing half; becomes a learner when the joint configuration is left.
    draft.learnersNext.add(raftId);
    return;
  }
  progress.isLearner = true;
  draft.learners.add(raftId);
}

function remove(draft: Draft, raftId: number): void {
  draft.incoming.delete(raftId);
  draft.learners.delete(raftId);
  draft.learnersNext.delete(raftId);
  if (!draft.outgoing.has(raftId)) draft.progress.delete(raftId);
}

function adopt(draft: Draft, autoLeave: boolean): Membership {
  const { incoming, outgoing, learners, learnersNext, progress } = draft;
  const membership = { members: { voters: { incoming, outgoing }, learners, learnersNext, autoLeave }, progress };
  assertConsistent(membership);
  return membership;
}

function assertConsistent({ members, progress }: Membership): void {
  const { voters, learners, learnersNext } = members;
  for (const raftId of [...voterIds(voters), ...learners, ...learnersNext]) {
    invariant(progress.has(raftId), `member ${raftId} has progress`);
  }
  for (const raftId of learnersNext) {
    invariant(voters.outgoing.has(raftId), `next learner ${raftId} votes in the outgoing half`);
    invariant(progress.get(raftId)?.isLearner !== true, `next learner ${raftId} is not a learner yet`);
  }
  for (const raftId of learners) {
    invariant(!voters.incoming.has(raftId) && !voters.outgoing.has(raftId), `learner ${raftId} has no vote`);
    invariant(progress.get(raftId)?.isLearner === true, `learner ${raftId} is marked as one`);
  }
  const hasNext = learnersNext.size > 0 || members.autoLeave;
  invariant(isJoint(members) || !hasNext, 'only a joint configuration is left');
}
