// Owns how the voters that consensus counts follow the members with that role: by way of learners that have caught up, then
// all at once through a joint configuration, which is left only once the voters before it have certified it. Who loses its vote
// goes the same way back: it stays a learner until it has heard of that, since its signature may be needed. One change at a
// time, each after the one before is certified. Pure.

import type { LedgerState } from '../../protocols/ledger-state.ts';

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
  const promote = learners.filter(facts.isCaughtUp).sort((a, b) => a - b);
  const change = jointChange(state, promote, facts.ownRaftId);
  if (change !== undefined) return change;
  // A learner counts in no majority: one that never starts keeps no other voter out.
  const added = wanted.find((raftId) => !voters.includes(raftId) && !learners.includes(raftId));
  return added === undefined ? undefined : { kind: 'add-learner', raftId: added };
}

function wantedVoters({ members }: VoterState): number[] {
  const voting = Object.values(members).filter(({ roles, raftId }) => roles.includes('voter') && raftId > 0);
  return voting.map(({ raftId }) => raftId).sort((a, b) => a - b);
}

function jointChange(state: VoterState, promote: readonly number[], ownRaftId: number): VoterChange | undefined {
  const leaving = leavingVoters(state, promote);
  const staying = state.voters.filter((raftId) => !leaving.includes(raftId));
  if (leaving.includes(ownRaftId) && staying.length > 0) return { kind: 'hand-over', to: staying };
  // Where nobody else votes yet, this voter first sees others get their votes.
  const others = leaving.filter((raftId) => raftId !== ownRaftId);
  if (promote.length + others.length === 0) return undefined;
  const demote = others.filter((raftId) => isSpoken(state, raftId));
  return { kind: 'enter', promote, demote, remove: others.filter((raftId) => !demote.includes(raftId)) };
}

/** False for a raft id whose peer has left, or has a newer one. */
function isSpoken({ members, voterSet }: VoterState, raftId: number): boolean {
  const peer = voterSet.voters.find((voter) => voter.raftId === raftId)?.peer;
  const member = peer === undefined ? undefined : members[peer];
  return member !== undefined && (member.raftId === 0 || member.raftId === raftId);
}

/** Voters in force that have no vote any more, given who gets one now: a vote is kept until its heir can cast it. */
function leavingVoters({ members, voters, voterSet }: VoterState, promote: readonly number[]): number[] {
  const voting = Object.values(members).filter(({ roles }) => roles.includes('voter'));
  const casts = (raftId: number): boolean => promote.includes(raftId) || voters.includes(raftId);
  return voters.filter((raftId) => {
    const peer = voterSet.voters.find((voter) => voter.raftId === raftId)?.peer;
    const successor = voting.find(({ replaces }) => replaces !== undefined && replaces === peer);
    if (successor !== undefined && casts(successor.raftId)) return true;
    const heir = voting.find((member) => member.peer === peer);
    return heir === undefined || (heir.raftId !== raftId && casts(heir.raftId));
  });
}
