// Owns the use of the key that this voter certifies with: once its raft id counts no more, the key signs nothing, however long
// it takes until the peer has started anew without it.

import type { LedgerState } from '../../protocols/ledger-state.ts';
import { isVoteOver } from './vote-plan.ts';

/** @returns signs bytes; undefined once the vote is over. */
export function createVotingKey(own: {
  readonly peer: string;
  readonly raftId: number;
}): (components: {
  readonly identity: { sign(bytes: Uint8Array): Uint8Array };
  readonly ledger: { state(): LedgerState };
}) => (bytes: Uint8Array) => Uint8Array | undefined {
  return ({ identity, ledger }) =>
    (bytes) =>
      isVoteOver(ledger.state(), own) ? undefined : identity.sign(bytes);
}
