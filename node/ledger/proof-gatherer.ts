// Owns how a peer gets the proofs of changes of voters that a snapshot left out or that passed it by: from whoever has them, by
// the same stream that members follow the ledger on, and nothing of it but the proofs. Until it has them it can lead nobody past
// those changes.

import type { ConfigurationProof } from '../../protocols/certificate.ts';
import type { Certificates } from './certificates.ts';
import { type EntryPullerComponents, followVoters } from './entry-puller.ts';

/** Begins as soon as proofs are missing, and ends once they are here. @returns the function that stops. */
export function gatherProofs(
  components: Omit<EntryPullerComponents, 'place' | 'certificates' | 'take' | 'takeState' | 'onVotersProven'> & {
    readonly certificates: Pick<Certificates, 'missing' | 'takeProofs' | 'trust' | 'certainHash'>;
    /** Calls when a state may have taken the place of entries, and when something was certified. */
    readonly onChange: (listener: () => void) => () => void;
    /** Called once nothing is missing any more. */
    readonly onGathered: () => void;
  },
): () => Promise<void> {
  const { certificates, onChange, onGathered } = components;
  let stopFollowing: (() => Promise<void>) | undefined;
  let stopped: Promise<void> | undefined;

  function look(): void {
    const missing = certificates.missing();
    if (missing === undefined) {
      const hasGathered = stopFollowing !== undefined;
      finish();
      if (hasGathered) onGathered();
    } else stopFollowing ??= follow(missing);
  }

  function finish(): void {
    stopped = stopFollowing?.() ?? stopped;
    stopFollowing = undefined;
  }

  function follow(missing: NonNullable<ReturnType<Certificates['missing']>>): () => Promise<void> {
    let { place } = missing;

    async function keep(proofs: readonly ConfigurationProof[]): Promise<void> {
      await certificates.takeProofs(proofs);
      look();
    }

    return followVoters({
      ...components,
      place: () => place,
      certificates: {
        trust: () => certificates.missing()?.trust ?? certificates.trust(),
        certainHash: certificates.certainHash,
      },
      onVotersProven: (_known, proofs) => keep(proofs),
      async take({ entries, configuration }) {
        place = entries.at(-1) ?? place;
        if (configuration !== undefined) await keep([configuration]);
      },
      async takeState({ state }) {
        place = state;
      },
    });
  }

  const unsubscribe = onChange(look);
  look();
  return async () => {
    unsubscribe();
    finish();
    await stopped;
  };
}
