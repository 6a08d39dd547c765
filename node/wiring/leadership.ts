// Owns what the control room asks of consensus: who leads, and how voters are changed. A peer that does not vote knows of
// no controller and asks the voters.

import { encodeConfigurationContext, type VoterIdentity } from '../../protocols/certificate.ts';
import type { Configuration } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Consensus } from '../consensus/index.ts';
import type { ControlVoters, Leadership } from '../control/index.ts';

/** For peers that do not vote. */
export const unknownLeadership: Leadership = {
  controller: () => null,
  leads: () => false,
  onChange: () => () => undefined,
  confirm: async () => {
    throw new ParleyError('not-controller', 'this peer does not vote, so it cannot be the controller', {
      retryable: true,
    });
  },
};

/**
 * The view of a voter. An entry of the own term is applied only after all of earlier terms (the leader starts its term with
 * an empty one), so `leads` is role and term of the applied state together.
 */
export function leadershipOf(components: {
  readonly consensus: Pick<Consensus, 'status' | 'onRoleChange' | 'readIndex'>;
  readonly peerOf: (raftId: number) => string | undefined;
  readonly state: () => LedgerState;
  readonly onApplied: (listener: () => void) => () => void;
}): Leadership {
  const { consensus, peerOf, state } = components;
  const leads = (): boolean => {
    const { role, term } = consensus.status();
    return role === 'leader' && state().term === term;
  };
  return {
    leads,
    controller: () => {
      const { leader } = consensus.status();
      return leader === undefined ? null : (peerOf(leader) ?? null);
    },
    onChange(listener) {
      let last = leads();
      const stops = [
        consensus.onRoleChange(listener),
        components.onApplied(() => {
          const now = leads();
          if (now === last) return;
          last = now;
          listener();
        }),
      ];
      return () => {
        for (const stop of stops) stop();
      };
    },
    async confirm({ signal }) {
      try {
        await consensus.readIndex({ signal });
      } catch (cause) {
        throw new ParleyError('not-controller', `a majority did not confirm: ${(cause as Error).message}`, {
          retryable: true,
          cause,
        });
      }
    },
  };
}

/** Entries that a learner may lack and still be promoted: they arrive while the promotion is committed. */
const promotionLagMax = 64;
const stepKinds = { 'add-learner': 'add-learner', promote: 'add-voter', remove: 'remove' } as const;

/** Changes of voters as the coordinator asks for them, one at a time. */
export function votersOf(
  consensus: Pick<Consensus, 'status' | 'changeVoters'>,
  state: () => LedgerState,
): ControlVoters {
  return {
    isCaughtUp(raftId) {
      const { progress, lastIndex } = consensus.status();
      const learner = progress?.find((follower) => follower.raftId === raftId);
      // A learner that has acknowledged nothing has not begun: promoted, it would be missed in every majority.
      return learner?.active === true && learner.match > 0 && lastIndex - learner.match <= promotionLagMax;
    },
    async changeVoters({ kind, raftId }, options) {
      const steps = [{ kind: stepKinds[kind], raftId }];
      const contextOf = (configuration: Configuration): Uint8Array =>
        encodeConfigurationContext({ configuration, voters: identitiesIn(configuration, state()) });
      await consensus.changeVoters({ transition: 'automatic', steps, contextOf }, options);
    },
  };
}

/** The keys of a configuration's voters: those in force as they were certified, others by their member records. */
function identitiesIn(configuration: Configuration, { voterSet, members }: LedgerState): VoterIdentity[] {
  const raftIds = new Set([...configuration.voters, ...configuration.votersOutgoing]);
  const known = new Map([...voterSet.voters, ...voterSet.votersOutgoing].map((voter) => [voter.raftId, voter]));
  for (const { raftId, peer, voterKey } of Object.values(members)) {
    if (voterKey !== undefined && !known.has(raftId)) known.set(raftId, { raftId, peer, key: voterKey });
  }
  return [...known.values()].filter(({ raftId }) => raftIds.has(raftId)).sort((a, b) => a.raftId - b.raftId);
}
