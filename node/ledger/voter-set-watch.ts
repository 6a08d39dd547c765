// Owns how a voter learns that others go on without it: nobody sends it entries any more, so it follows the changes of voters
// on another peer, by their certificates alone, and applies nothing.

import type { VoterSet } from '../../protocols/certificate.ts';
import { type EntryPullerComponents, followVoters } from './entry-puller.ts';
import { type Place, type Serving, type Trust, takeConfiguration } from './trust-core.ts';

/** Starts following. `onSet` hears of each newer set. @returns the function that stops. */
export function watchVoterSet(
  components: Omit<EntryPullerComponents, 'certificates' | 'take' | 'takeState'>,
  known: Trust,
  onSet: (set: VoterSet) => void,
): () => Promise<void> {
  let trust = known;
  let place: Place = components.place();
  const serving: Serving = {
    ...{ server: 'another peer', verify: components.verifySignature },
    certainHash: () => undefined,
  };

  function learn(proofs: readonly Parameters<typeof takeConfiguration>[1][]): void {
    for (const proof of proofs) trust = takeConfiguration(trust, proof, serving);
    const set = trust.sets.at(-1);
    if (set !== undefined && proofs.length > 0) onSet(set);
  }

  return followVoters({
    ...components,
    place: () => place,
    certificates: { trust: () => trust, certainHash: () => undefined },
    async take({ entries, configuration }) {
      place = entries.at(-1) ?? place;
      if (configuration !== undefined) learn([configuration]);
    },
    async takeState({ state, proofs }) {
      place = state;
      learn(proofs);
    },
  });
}
