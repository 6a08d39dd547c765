// Owns what the control room asks of consensus: who leads, and how voters are changed. A peer that does not vote knows of
// no controller and asks the voters.

import { allVoters, encodeConfigurationContext, type VoterIdentity } from '../../protocols/certificate.ts';
import type { Configuration, ConfigurationChange } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Consensus } from '../consensus/index.ts';
import type { ControlVoters, Leadership, VoterChange } from '../control/index.ts';
import type { CertificateKeeper } from '../ledger/index.ts';

/** For peers that do not vote. */
export const unknownLeadership: Leadership = {
  controller: () => null,
  leads: () => false,
  failure: () => undefined,
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
    failure: () => consensus.status().failure,
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

/** Changes of voters as the coordinator asks for them, one at a time. */
export function votersOf(components: {
  readonly consensus: Pick<Consensus, 'status' | 'changeVoters' | 'transferLeadership'>;
  readonly state: () => LedgerState;
  readonly certification: () => Pick<CertificateKeeper, 'certificateAt' | 'certifiedIndex' | 'voterSetBefore'>;
  readonly onCertified: (listener: () => void) => () => void;
}): ControlVoters {
  const { consensus, state, certification } = components;

  /** A set that begins a generation, the founder's included, is proved by what begins it. */
  function isCertified(): boolean {
    const { index, generation } = state().voterSet;
    const { voterSetBefore, certificateAt, certifiedIndex } = certification();
    if (index === 1 || certificateAt(index) !== undefined) return true;
    const before = voterSetBefore(index);
    // Known from a snapshot alone, the voters before it cannot be asked; while joint, they have signed what followed too.
    return before === undefined ? certifiedIndex() > index : before.generation !== generation;
  }

  function isCaughtUp(raftId: number): boolean {
    const { progress, lastIndex } = consensus.status();
    const learner = progress?.find((follower) => follower.raftId === raftId);
    // A learner that has acknowledged nothing has not begun: promoted, it would be missed in every majority.
    return learner?.active === true && learner.match > 0 && lastIndex - learner.match <= promotionLagMax;
  }

  return {
    facts: () => ({ ownRaftId: consensus.status().raftId, isCaughtUp, isCertified: isCertified() }),
    onCertified: components.onCertified,
    async changeVoters(change, options) {
      if (change.kind === 'hand-over') return consensus.transferLeadership(change.to);
      const contextOf = (configuration: Configuration): Uint8Array =>
        encodeConfigurationContext({ configuration, voters: identitiesIn(configuration, state()) });
      await consensus.changeVoters({ ...stepsOf(change), contextOf }, options);
    },
  };
}

type Steps = Pick<ConfigurationChange, 'transition' | 'steps'>;

function stepsOf(change: Exclude<VoterChange, { readonly kind: 'hand-over' }>): Steps {
  switch (change.kind) {
    case 'add-learner':
      return { transition: 'automatic', steps: [{ kind: 'add-learner', raftId: change.raftId }] };
    case 'remove-learner':
      return { transition: 'automatic', steps: [{ kind: 'remove', raftId: change.raftId }] };
    case 'leave':
      return { transition: 'automatic', steps: [] };
    case 'enter': {
      const promoted = change.promote.map((raftId) => ({ kind: 'add-voter', raftId }) as const);
      const demoted = change.demote.map((raftId) => ({ kind: 'add-learner', raftId }) as const);
      const removed = change.remove.map((raftId) => ({ kind: 'remove', raftId }) as const);
      return { transition: 'joint-explicit', steps: [...promoted, ...demoted, ...removed] };
    }
  }
}

/**
 * The keys of a configuration's voters: those in force as they were certified, others as their raft ids were allotted.
 * @throws ParleyError `voters-unchanged` where one is not known: what names voters without their keys is certified by nobody.
 */
function identitiesIn(configuration: Configuration, { voterSet, allotted }: LedgerState): VoterIdentity[] {
  const raftIds = new Set(allVoters(configuration));
  const known = new Map(allotted.map((voter) => [voter.raftId, voter]));
  for (const voter of allVoters(voterSet)) known.set(voter.raftId, voter);
  const voters = [...known.values()].filter(({ raftId }) => raftIds.delete(raftId)).sort((a, b) => a.raftId - b.raftId);
  if (raftIds.size === 0) return voters;
  throw new ParleyError(
    'voters-unchanged',
    `cannot change the voters: nobody knows the key of ${[...raftIds].join()}`,
    {
      hint: 'Remove that voter, and add it again: `voters remove HOST`, `voters add HOST`.',
    },
  );
}
