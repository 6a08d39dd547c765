// Owns how much each member may have the ledger take on its own word: what it says of itself, and what its root asks for that
// is no voter. Entries are for ever, and what fills the ledger fills the disks of all.

import { ParleyError } from '../../protocols/errors.ts';
import type { Clock } from '../interfaces.ts';

/** At once: a peer that starts says a few things one after another. */
const burstMax = 10;
/** Then one each: addresses that come and go are told in time, and a year of it is some millions of small entries. */
const refillMs = 10_000;

export interface Allowance {
  /** Takes one from a member's. @throws ParleyError `busy` (retryable) where nothing is left of it. */
  take(peer: string): void;
}

/** Everybody's is whole at first. The caller lets only members take: that bounds the table. */
export function createAllowance(clock: Pick<Clock, 'monotonicMs'>): Allowance {
  /** When a member's will be whole again, by the monotonic clock. */
  const wholeAtMs = new Map<string, number>();
  return {
    take(peer) {
      const now = clock.monotonicMs();
      for (const [other, atMs] of wholeAtMs) if (atMs <= now) wholeAtMs.delete(other);
      const next = (wholeAtMs.get(peer) ?? now) + refillMs;
      if (next - now > burstMax * refillMs) {
        const text = `the ledger takes one entry in ${refillMs / 1000} s from peer '${peer}', which has asked for more`;
        throw new ParleyError('busy', text, { hint: 'Ask again in a minute.', retryable: true });
      }
      wholeAtMs.set(peer, next);
    },
  };
}
