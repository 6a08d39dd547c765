// Owns the use of the key that this voter certifies with: once its raft id counts no more, and the change that ended its vote
// is certified, the key signs nothing, however long it takes until the peer has started anew without it. That change itself
// is certified by the voters before it: where others are away, this voter's word is needed.

import type { LedgerState } from '../../protocols/ledger-state.ts';
import { isVoteOver } from './vote-plan.ts';

/** @returns signs bytes; undefined once the vote is over. */
export function createVotingKey(own: {
  readonly peer: string;
  readonly raftId: number;
}): (components: {
  readonly identity: { sign(bytes: Uint8Array): Uint8Array };
  readonly ledger: { state(): LedgerState; certification(): { certificateAt(index: number): unknown } };
}) => (bytes: Uint8Array) => Uint8Array | undefined {
  return ({ identity, ledger }) => {
    const isOver = (): boolean => {
      const state = ledger.state();
      return isVoteOver(state, own) && ledger.certification().certificateAt(state.voterSet.index) !== undefined;
    };
    return (bytes) => (isOver() ? undefined : identity.sign(bytes));
  };
}
