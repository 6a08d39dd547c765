// Owns how the voters that consensus counts follow the members with that role: one change at a time, by way of a learner
// that has caught up. Pure.

import type { LedgerState } from '../../protocols/ledger-state.ts';

export interface VoterChange {
  readonly kind: 'add-learner' | 'promote' | 'remove';
  readonly raftId: number;
}

/** The next single change; undefined when consensus counts who the ledger says, or while a change is under way. */
export function nextVoterChange(
  state: Pick<LedgerState, 'members' | 'voters' | 'learners' | 'joint'>,
  isCaughtUp: (raftId: number) => boolean,
): VoterChange | undefined {
  if (state.joint !== null) return undefined;
  const wanted = Object.values(state.members)
    .filter((member) => member.roles.includes('voter') && member.raftId > 0)
    .map((member) => member.raftId)
    .sort((a, b) => a - b);
  const { voters, learners } = state;
  const promoted = learners.find((raftId) => wanted.includes(raftId) && isCaughtUp(raftId));
  if (promoted !== undefined) return { kind: 'promote', raftId: promoted };
  const stray = learners.find((raftId) => !wanted.includes(raftId));
  if (stray !== undefined) return { kind: 'remove', raftId: stray };
  // A learner counts in no majority: one that never starts keeps no other voter out.
  const added = wanted.find((raftId) => !voters.includes(raftId) && !learners.includes(raftId));
  return added === undefined ? undefined : { kind: 'add-learner', raftId: added };
}
