// Owns that the ledger knows this peer's own addresses, system and keys: what changed is proposed through the
// controller until the state shows it.

import type { ForwardedEntry } from '../../protocols/control.ts';
import type { MemberFacts } from '../../protocols/ledger-entries.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Clock, Logger } from '../interfaces.ts';

/** A fleet without a controller is asked again this often. */
const retryMs = 5_000;
/** Addresses that a member record holds. */
const addressesMax = 16;

export interface Announcer {
  /** What this peer is now; replaces what was announced before. */
  announce(facts: MemberFacts): void;
  start(): void;
  stop(): Promise<void>;
}

export function createAnnouncer(components: {
  readonly ledger: { state(): LedgerState; onApplied(listener: () => void): () => void };
  readonly propose: (entry: ForwardedEntry, signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}): Announcer {
  const { ledger, propose, clock, logger } = components;
  let wanted: MemberFacts | undefined;
  let proposing: Promise<void> | undefined;
  let stopping = new AbortController();
  let stops: (() => void)[] = [];

  function look(): void {
    if (wanted === undefined || proposing !== undefined || stops.length === 0) return;
    const member = ledger.state().members[wanted.peer];
    if (member === undefined || saysTheSame(member, wanted)) return;
    proposing = propose({ kind: 'member-updated', body: wanted }, stopping.signal)
      .catch((error: unknown) => logger.debug({ error: String(error) }, 'this peer could not be announced yet'))
      .finally(() => {
        proposing = undefined;
      });
  }

  return {
    announce(facts) {
      wanted = { ...facts, addresses: [...facts.addresses].sort().slice(0, addressesMax) };
      look();
    },
    start() {
      if (stops.length > 0) return;
      stopping = new AbortController();
      stops = [ledger.onApplied(look), clock.every(retryMs, look)];
      look();
    },
    async stop() {
      for (const stop of stops) stop();
      stops = [];
      stopping.abort();
      await proposing;
    },
  };
}

/**
 * True where a member's facts would change nothing in the ledger. A key of a peer without the role for it is never taken
 * over, so that it is no reason to ask again; the order of addresses means nothing.
 */
export function saysTheSame(member: MemberFacts & { readonly roles: readonly string[] }, wanted: MemberFacts): boolean {
  const isSameKey = !member.roles.includes('builder') || member.builderKey === wanted.builderKey;
  const [addresses, others] = [[...member.addresses].sort(), [...wanted.addresses].sort()];
  const isSameAddresses =
    addresses.length === others.length && addresses.every((address, at) => address === others[at]);
  const isSameVote = !member.roles.includes('voter') || member.voterKey === (wanted.voterKey ?? member.voterKey);
  return isSameKey && isSameVote && isSameAddresses && member.system === wanted.system;
}
