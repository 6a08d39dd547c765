// Owns what a voter knows of newer voters than its own ledger's: nobody that it knows sends it entries any more, so it follows
// the changes of voters on whatever peer it reaches, by their certificates alone, and applies nothing. Until the ledger has
// caught up, those voters count as known: one of them leads, and is to be heard.

import type { VoterSet } from '../../protocols/certificate.ts';
import type { ChainedEntry } from '../../protocols/consensus-record.ts';
import type { JoinContact } from '../../protocols/join.ts';
import { readEntry } from '../../protocols/ledger-entries.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { membersMax } from '../../protocols/limits.ts';
import { type EntryPullerComponents, followVoters } from './entry-puller.ts';
import { type Place, type Serving, type Trust, takeConfiguration, withVoterSet } from './trust-core.ts';

/** Voters that a chain of certificates has proven, with the addresses that the same entries give. */
export interface ProvenVoters {
  readonly set: VoterSet;
  readonly contacts: readonly JoinContact[];
}

/** Starts following. `onProven` hears of each newer set. @returns the function that stops. */
export function watchVoterSet(
  components: Omit<EntryPullerComponents, 'certificates' | 'take' | 'takeState' | 'onVotersProven'>,
  known: Trust,
  onProven: (proven: ProvenVoters) => void,
): () => Promise<void> {
  let trust = known;
  let place: Place = components.place();
  let isNews = false;
  const addresses = new Map<string, readonly string[]>();
  const serving: Serving = {
    ...{ server: 'another peer', verify: components.verifySignature },
    certainHash: () => undefined,
  };

  function noteAddresses(peer: string, all: readonly string[]): void {
    addresses.delete(peer);
    addresses.set(peer, all);
    const [oldest] = addresses.keys();
    if (addresses.size > membersMax && oldest !== undefined) addresses.delete(oldest);
    isNews = true;
  }

  function learn(newer: Trust): void {
    if (newer.sets.at(-1)?.index !== trust.sets.at(-1)?.index) isNews = true;
    trust = newer;
  }

  function tell(): void {
    const set = trust.sets.at(-1);
    if (!isNews || set === undefined || set.index === known.sets.at(-1)?.index) return;
    isNews = false;
    onProven(provenVoters(set, addresses));
  }

  return followVoters({
    ...components,
    onVotersProven(newer) {
      learn(newer.sets.reduce(withVoterSet, trust));
      tell();
    },
    place: () => place,
    certificates: { trust: () => trust, certainHash: () => undefined },
    async take({ entries, configuration }) {
      place = entries.at(-1) ?? place;
      for (const { peer, addresses: all } of entries.flatMap(factsIn)) noteAddresses(peer, all);
      if (configuration !== undefined) learn(takeConfiguration(trust, configuration, serving));
      tell();
    },
    async takeState({ state }) {
      place = state;
      for (const member of membersOf(state)) noteAddresses(member.peer, member.addresses);
      tell();
    },
  });
}

/** Voters that count as known; addresses by peer, as far as the same proofs give them. */
export function provenVoters(
  set: VoterSet,
  addresses: ReadonlyMap<string, readonly string[]> = new Map(),
): ProvenVoters {
  const voters = [...set.votersOutgoing, ...set.voters];
  // A peer that votes under two raft ids while the set is joint speaks under the newer one.
  const newest = new Map(voters.sort((a, b) => a.raftId - b.raftId).map(({ peer, raftId }) => [peer, raftId]));
  const contacts = [...newest].map(([peer, raftId]) => ({ peer, raftId, addresses: [...(addresses.get(peer) ?? [])] }));
  return { set, contacts };
}

const membersOf = ({ members }: LedgerState) => Object.values(members);

/** What a member tells of itself with an entry. */
function factsIn({ type, data }: ChainedEntry): { readonly peer: string; readonly addresses: readonly string[] }[] {
  const entry = type === 'normal' ? readEntry(data) : undefined;
  return entry?.kind === 'member-joined' || entry?.kind === 'member-updated' ? [entry.body] : [];
}
