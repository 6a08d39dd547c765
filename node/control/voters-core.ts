// Owns how the voters that consensus counts follow the members with that role: by way of learners that have caught up, then
// all at once through a joint configuration, which is left only once the voters before it have certified it. Who loses its vote
// goes the same way back: it stays a learner until it has heard of that, since its signature may be needed. One change at a
// time, each after the one before is certified. Pure.

import type { Beat } from '../../protocols/beat.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { majorityOf } from './voters-view-core.ts';

export type VoterChange =
  | { readonly kind: 'add-learner' | 'remove-learner'; readonly raftId: number }
  /** Into the joint configuration: some get their votes, some lose theirs, and ids that nobody speaks under any more go, together. */
  | {
      readonly kind: 'enter';
      readonly promote: readonly number[];
      readonly demote: readonly number[];
      readonly remove: readonly number[];
    }
  /** Out of the joint configuration. */
  | { readonly kind: 'leave' }
  /** This voter leads and is to go: one of these leads first. */
  | { readonly kind: 'hand-over'; readonly to: readonly number[] };

/** What the controller's consensus and certificates say. */
export interface VoterFacts {
  /** The controller's own raft id. */
  readonly ownRaftId: number;
  /** Whether the learner has (nearly) all that the controller has. */
  readonly isCaughtUp: (raftId: number) => boolean;
  /** Whether the newest configuration entry has its certificate, by the voters before it. */
  readonly isCertified: boolean;
  /** How many of the things that the ledger names (blobs, the project's head) a peer that votes or is to vote lacks. */
  readonly lacking: (peer: string) => Lacking;
}

/** A number, or `unknown` before a peer that is there has told, or `away` for one that can neither tell nor give. */
export type Lacking = number | 'unknown' | 'away';

/**
 * What a peer's newest beat says of what it keeps for the others. That nothing is lacking counts only from when those who vote
 * now were in force: what is named since is on a majority of them.
 */
export function lackingOf(
  { online, beat }: { readonly online: boolean; readonly beat: Beat | null },
  { voterSet }: Pick<LedgerState, 'voterSet'>,
): Lacking {
  if (!online) return 'away';
  if (beat?.keeps === undefined) return 'unknown';
  const { index, lacking } = beat.keeps;
  return lacking === 0 && index < voterSet.index ? 'unknown' : lacking;
}

type VoterState = Pick<LedgerState, 'members' | 'voters' | 'learners' | 'joint' | 'voterSet'>;

/** The next change; undefined when consensus counts who the ledger says, or while something is waited for. */
export function nextVoterChange(state: VoterState, facts: VoterFacts): VoterChange | undefined {
  if (!facts.isCertified) return undefined;
  if (state.joint !== null) return { kind: 'leave' };
  const { voters, learners } = state;
  const wanted = wantedVoters(state);
  const stray = learners.find((raftId) => !wanted.includes(raftId));
  if (stray !== undefined) return { kind: 'remove-learner', raftId: stray };
  const promote = learners.filter((raftId) => isFit(state, facts, raftId)).sort((a, b) => a - b);
  const change = jointChange(state, promote, facts);
  if (change !== undefined) return change;
  // A learner counts in no majority: one that never starts keeps no other voter out.
  const added = wanted.find((raftId) => !voters.includes(raftId) && !learners.includes(raftId));
  return added === undefined ? undefined : { kind: 'add-learner', raftId: added };
}

function wantedVoters({ members }: VoterState): number[] {
  const voting = Object.values(members).filter(({ roles, raftId }) => roles.includes('voter') && raftId > 0);
  return voting.map(({ raftId }) => raftId).sort((a, b) => a - b);
}

/** A learner that has caught up, and lacks no more of what the ledger names than the best of the voters that are there. */
function isFit(state: VoterState, facts: VoterFacts, raftId: number): boolean {
  if (!facts.isCaughtUp(raftId)) return false;
  const best = Math.min(...state.voters.map((voter) => leastLacking(lackingAt(state, facts, voter))));
  return lacksAtMost(lackingAt(state, facts, raftId), best);
}

/** Who speaks under the raft id of a voter or learner. */
function peerOf({ members, voterSet }: VoterState, raftId: number): string | undefined {
  const voter = voterSet.voters.find((each) => each.raftId === raftId);
  return (voter ?? Object.values(members).find((member) => member.raftId === raftId))?.peer;
}

function lackingAt(state: VoterState, { lacking }: VoterFacts, raftId: number): Lacking {
  const peer = peerOf(state, raftId);
  return peer === undefined ? 'away' : lacking(peer);
}

/**
 * Whether those who stay need a voter that is there: where no majority of them is there too, nothing could be decided, and
 * where one lacks what this one may have, it would go with the only copy of a plan, or of the project.
 */
function isNeeded(state: VoterState, facts: VoterFacts, raftId: number, staying: readonly number[]): boolean {
  const own = lackingAt(state, facts, raftId);
  if (own === 'away') return false;
  const equals = staying.filter((other) => lacksAtMost(lackingAt(state, facts, other), leastLacking(own)));
  return equals.length < majorityOf(staying.length);
}

/** What a voter may have that has not told yet is not given up; who is away gives nothing. */
function leastLacking(lacking: Lacking): number {
  if (lacking === 'away') return Number.POSITIVE_INFINITY;
  return lacking === 'unknown' ? 0 : lacking;
}

const lacksAtMost = (lacking: Lacking, most: number): boolean => typeof lacking === 'number' && lacking <= most;

function jointChange(state: VoterState, promote: readonly number[], facts: VoterFacts): VoterChange | undefined {
  const { ownRaftId } = facts;
  const leaving = leavingVoters(state, promote);
  const staying = state.voters.filter((raftId) => !leaving.includes(raftId));
  if (leaving.includes(ownRaftId) && staying.length > 0) return { kind: 'hand-over', to: staying };
  // Where nobody else votes yet, this voter first sees others get their votes.
  const heirs = [...staying, ...promote];
  const others = leaving
    .filter((raftId) => raftId !== ownRaftId)
    .filter((raftId) => !isSpoken(state, raftId) || !isNeeded(state, facts, raftId, heirs));
  if (promote.length + others.length === 0) return undefined;
  const demote = others.filter((raftId) => isSpoken(state, raftId));
  return { kind: 'enter', promote, demote, remove: others.filter((raftId) => !demote.includes(raftId)) };
}

/** False for a raft id whose peer has left, or has a newer one. */
function isSpoken(state: VoterState, raftId: number): boolean {
  const peer = peerOf(state, raftId);
  const member = peer === undefined ? undefined : state.members[peer];
  return member !== undefined && (member.raftId === 0 || member.raftId === raftId);
}

/** Voters in force that have no vote any more, given who gets one now: a vote is kept until its heir can cast it. */
function leavingVoters(state: VoterState, promote: readonly number[]): number[] {
  const { members, voters } = state;
  const voting = Object.values(members).filter(({ roles }) => roles.includes('voter'));
  const casts = (raftId: number): boolean => promote.includes(raftId) || voters.includes(raftId);
  return voters.filter((raftId) => {
    const peer = peerOf(state, raftId);
    const successor = voting.find(({ replaces }) => replaces !== undefined && replaces === peer);
    if (successor !== undefined && casts(successor.raftId)) return true;
    const heir = voting.find((member) => member.peer === peer);
    return heir === undefined || (heir.raftId !== raftId && casts(heir.raftId));
  });
}
