// Owns whom a member pulls its entries from: voters before members, connected ones before those that must be dialled, and
// nobody twice in a row who failed or lied while there is another one. Where all voters that a peer knows are gone, any member
// that it can reach leads it to the new ones.

import type { Clock, Mesh } from '../interfaces.ts';

const failedRestMs = 5_000;
const liedRestMs = 60_000;

export interface Sources {
  /** Whom to ask now; undefined when there is nobody. */
  next(): string | undefined;
  /** Following this one has ended. */
  failed(peer: string, lied?: boolean): void;
  /** A peer has just connected: whatever failed before is over, but not what it lied. */
  arrived(peer: string): void;
  /** True when a voter is there, and a member is followed. */
  isBetterThere(): boolean;
}

export function createSources(init: {
  readonly self: string;
  readonly mesh: Pick<Mesh, 'connectedPeers'>;
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly voters: () => readonly string[];
  /** Everybody else that is known. */
  readonly others: () => readonly string[];
  readonly isMember: (peer: string) => boolean;
}): Sources {
  const { self, mesh, clock } = init;
  const restUntilMs = new Map<string, number>();
  const liars = new Set<string>();
  /** Members begin with different sources, so that none carries them all. */
  let turn = (self.codePointAt(self.length - 1) ?? 0) % 7;
  let followed: string | undefined;

  /** Voters that are there, members that are there, and by turns voters and members to dial. */
  function classes(): string[][] {
    const there = mesh.connectedPeers().map(({ peer }) => peer);
    const voters = init.voters();
    const away = voters.filter((peer) => !there.includes(peer));
    const here = [
      voters.filter((peer) => there.includes(peer)),
      there.filter((peer) => init.isMember(peer) && !voters.includes(peer)),
    ];
    if (here.some((peers) => peers.length > 0)) return [...here, away];
    const others = init.others().filter((peer) => !voters.includes(peer));
    return turn % 2 === 0 ? [away, others] : [others, away];
  }

  const isRested = (peer: string): boolean => (restUntilMs.get(peer) ?? 0) <= clock.monotonicMs();

  return {
    next() {
      turn += 1;
      const all = classes();
      const rested = all.map((peers) => peers.filter(isRested)).find((peers) => peers.length > 0);
      // Where everybody rests, the one that has rested longest.
      const last = all.flat().sort((a, b) => (restUntilMs.get(a) ?? 0) - (restUntilMs.get(b) ?? 0));
      followed = rested?.[turn % rested.length] ?? last[0];
      return followed;
    },
    failed(peer, lied = false) {
      for (const other of [...restUntilMs.keys()].filter(isRested)) {
        restUntilMs.delete(other);
        liars.delete(other);
      }
      restUntilMs.set(peer, clock.monotonicMs() + (lied ? liedRestMs : failedRestMs));
      if (lied) liars.add(peer);
    },
    arrived(peer) {
      if (!liars.has(peer)) restUntilMs.delete(peer);
    },
    isBetterThere() {
      const voters = init.voters();
      if (followed === undefined || voters.includes(followed)) return false;
      const there = new Set(mesh.connectedPeers().map(({ peer }) => peer));
      return voters.some((peer) => there.has(peer) && isRested(peer));
    },
  };
}
