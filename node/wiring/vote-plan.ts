// Owns the decision what a peer's vote is to become, from what its own ledger says and what its state folder holds. Pure.

import { allVoters, type VoterSet } from '../../protocols/certificate.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import type { JoinContact } from '../../protocols/join.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Role } from '../../protocols/primitives.ts';

export type VoteStep =
  | { readonly kind: 'stay' }
  /** It is to vote and has no key to do so. */
  | { readonly kind: 'make-key' }
  /** It was to vote and is not any more. */
  | { readonly kind: 'drop-key' }
  | VoteTurn;

/** What this process must start anew for. */
export type VoteTurn =
  | { readonly kind: 'take-up'; readonly raftId: number; readonly roles: readonly Role[] }
  | { readonly kind: 'give-up'; readonly roles: readonly Role[] }
  /** What it promised as a voter is lost. */
  | { readonly kind: 'set-aside'; readonly reason: string }
  /** Its ledger cannot be read: its vote and what it promised are whole. */
  | { readonly kind: 'set-ledger-aside'; readonly reason: string }
  /** The fleet has begun new generations without it; one that it follows and whose number is among them gives way. */
  | {
      readonly kind: 'new-generation';
      readonly records: readonly GenerationRecord[];
      readonly contacts: readonly JoinContact[];
    }
  /** Two records claim to be one generation: it obeys nobody. */
  | { readonly kind: 'freeze'; readonly reason: string }
  /** It is no member any more. */
  | { readonly kind: 'leave' };

type VoteState = Pick<LedgerState, 'members' | 'removedPeers' | 'voterSet' | 'learners' | 'nextRaftId'>;

const stay: VoteStep = { kind: 'stay' };

/** True when a raft id that this peer was allotted counts nowhere any more and never will again. */
export function isVoteOver(
  { members, nextRaftId, learners, voterSet }: VoteState,
  own: { readonly peer: string; readonly raftId: number },
): boolean {
  // A ledger that is still behind its joining knows nothing of it.
  if (nextRaftId <= own.raftId || members[own.peer]?.raftId === own.raftId) return false;
  const counted = allVoters(voterSet).map(({ raftId }) => raftId);
  return !counted.includes(own.raftId) && !learners.includes(own.raftId);
}

/**
 * @param own raft id under which this process runs, 0 for a peer that does not vote; public half of the key at hand, null
 * without one. A key that is there without a raft id was never used: it is deleted before the raft id is.
 */
export function nextVoteStep(
  state: VoteState,
  own: { readonly peer: string; readonly raftId: number; readonly key: string | null },
): VoteStep {
  const member = state.members[own.peer];
  if (member === undefined) return state.removedPeers.some(({ peer }) => peer === own.peer) ? { kind: 'leave' } : stay;
  const { roles, raftId, voterKey } = member;
  if (own.raftId > 0) return isVoteOver(state, own) ? { kind: 'give-up', roles } : stay;
  const isWanted = roles.includes('voter');
  if (!isWanted) return own.key === null ? stay : { kind: 'drop-key' };
  if (own.key === null) return { kind: 'make-key' };
  return raftId > 0 && voterKey === own.key ? { kind: 'take-up', raftId, roles } : stay;
}

/** What the ledger will say once it has come to these newer voters: who votes no more has no role, or has left. */
export function goneOn(state: LedgerState, voterSet: VoterSet): VoteState {
  const isCounted = (raftId: number): boolean => allVoters(voterSet).some((voter) => voter.raftId === raftId);
  const before = allVoters(state.voterSet);
  const members: LedgerState['members'] = { ...state.members };
  const removedPeers = [...state.removedPeers];
  for (const { peer, raftId } of before.filter((voter) => !isCounted(voter.raftId))) {
    const member = members[peer];
    if (member?.raftId === raftId)
      members[peer] = { ...member, roles: member.roles.filter((role) => role !== 'voter'), raftId: 0 };
  }
  const counted = allVoters(voterSet).map(({ peer }) => peer);
  for (const { peer, name } of Object.values(members).filter((member) => member.leaving === true)) {
    if (counted.includes(peer)) continue;
    delete members[peer];
    removedPeers.push({ peer, name, atMs: state.timeMs });
  }
  return { members, removedPeers, voterSet, learners: [], nextRaftId: state.nextRaftId };
}
