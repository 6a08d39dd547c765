// Owns the counters of payload bytes by peer and protocol, and of broken rules by peer. Strangers share one name, so that they cannot make the table grow.

import type { TrafficRecord } from '../interfaces.ts';

/** Under this name goes whatever is no member. */
export const strangerName = 'stranger';

export interface Traffic {
  /** The counter of one peer and protocol; bytes both ways are added to it. */
  counter(peer: string, protocol: string): (bytesIn: number, bytesOut: number) => void;
  records(): TrafficRecord[];
  /** Counts a stream that broke the rules; returns how many the peer has had. */
  violation(peer: string): number;
  /** Forgets peers that are no members any more. */
  keepOnly(isMember: (peer: string) => boolean): void;
}

export function createTraffic(): Traffic {
  const peers = new Map<string, Map<string, { bytesIn: number; bytesOut: number }>>();
  const violations = new Map<string, number>();
  return {
    violation(peer) {
      const total = (violations.get(peer) ?? 0) + 1;
      violations.set(peer, total);
      return total;
    },
    counter(peer, protocol) {
      const protocols = peers.get(peer) ?? new Map<string, { bytesIn: number; bytesOut: number }>();
      peers.set(peer, protocols);
      const sums = protocols.get(protocol) ?? { bytesIn: 0, bytesOut: 0 };
      protocols.set(protocol, sums);
      return (bytesIn, bytesOut) => {
        sums.bytesIn += bytesIn;
        sums.bytesOut += bytesOut;
      };
    },
    records: () =>
      [...peers].flatMap(([peer, protocols]) =>
        [...protocols].map(([protocol, sums]) => ({ peer, protocol, bytesIn: sums.bytesIn, bytesOut: sums.bytesOut })),
      ),
    keepOnly(isMember) {
      for (const table of [peers, violations]) {
        for (const peer of table.keys()) if (peer !== strangerName && !isMember(peer)) table.delete(peer);
      }
    },
  };
}
