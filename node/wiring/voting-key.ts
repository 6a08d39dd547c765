// Owns the use and the end of the key that this voter certifies with: once the fleet has certified that its raft id counts
// no more, the key signs nothing and its file is deleted, so that nobody ever finds it.

import type { Certificate } from '../../protocols/certificate.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Logger, Startable } from '../interfaces.ts';

export interface VotingKey extends Startable {
  /** The signature of bytes; undefined once the vote is over. */
  sign(bytes: Uint8Array): Uint8Array | undefined;
}

/** True when a raft id that this peer was allotted counts nowhere any more and never will again. */
export function isVoteOver(
  { members, nextRaftId, learners, voterSet }: LedgerState,
  own: { readonly peer: string; readonly raftId: number },
): boolean {
  // A ledger that is still behind its joining knows nothing of it.
  if (nextRaftId <= own.raftId || members[own.peer]?.raftId === own.raftId) return false;
  const counted = [...voterSet.voters, ...voterSet.votersOutgoing].map(({ raftId }) => raftId);
  return !counted.includes(own.raftId) && !learners.includes(own.raftId);
}

export function createVotingKey(
  own: { readonly peer: string; readonly raftId: number },
  components: {
    readonly identity: { sign(bytes: Uint8Array): Uint8Array };
    readonly ledger: {
      state(): LedgerState;
      certification(): { certifiedIndex(): number };
      onApplied(listener: () => void): () => void;
      onCertified(listener: (certificate: Certificate) => void): () => void;
    };
    /** Removes the key's file. */
    readonly deleteKey: () => Promise<void>;
    readonly logger: Logger;
  },
): VotingKey {
  const { ledger, deleteKey, logger } = components;
  let identity: typeof components.identity | undefined = components.identity;
  let deleting: Promise<void> | undefined;
  let stops: (() => void)[] = [];

  function look(): void {
    const state = ledger.state();
    if (!isVoteOver(state, own)) return;
    identity = undefined;
    // What a leader alone says may still be taken back: the key is gone for good only with the word of a majority.
    if (deleting !== undefined || ledger.certification().certifiedIndex() < state.voterSet.index) return;
    logger.warn({ raftId: own.raftId }, 'this peer votes no more: its voting key is deleted');
    deleting = deleteKey().catch((error: unknown) => {
      logger.error({ error: String(error) }, 'the voting key could not be deleted');
      deleting = undefined;
    });
  }

  return {
    sign: (bytes) => identity?.sign(bytes),
    async start() {
      if (stops.length > 0) return;
      stops = [ledger.onApplied(look), ledger.onCertified(look)];
      look();
    },
    async stop() {
      for (const stop of stops) stop();
      stops = [];
      await deleting;
    },
  };
}
