// Owns how a fleet begins: entry 1, whose hash is the fleet's id, and the state that follows from it.

import { sha256Hex } from '../../protocols/codec.ts';
import { entryChainHash } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { decodeEntry, type EntryBody, encodeEntry } from '../../protocols/ledger-entries.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { foundedState } from './members-core.ts';

/** What the hash of entry 1 is chained to. */
export const chainStart = '0'.repeat(64);
/** Term of entry 1, before any election. */
export const genesisTerm = 1;

export interface Genesis {
  /** Entry 1 as every peer stores it. */
  readonly bytes: Uint8Array;
  /** The fleet's id: the SHA-256 of the bytes. */
  readonly fleet: string;
  readonly chainHash: string;
  readonly state: LedgerState;
}

/** Founds a fleet whose one voter is the founder. `nonce` makes two fleets of one founder differ (16 random bytes or more). */
export function createGenesis(init: {
  readonly founder: EntryBody<'fleet-founded'>['founder'];
  readonly recoveryKey: string;
  readonly nonce: Uint8Array;
  readonly timeMs: number;
}): Genesis {
  const { founder, recoveryKey, nonce, timeMs } = init;
  const body = { level: 1, nonce, recoveryKey, founder } as const;
  return readGenesis(encodeEntry({ version: 1, kind: 'fleet-founded', timeMs, actor: `root@${founder.name}`, body }));
}

/** @throws ParleyError `malformed` when the bytes are no foundation of a fleet. */
export function readGenesis(bytes: Uint8Array): Genesis {
  const entry = decodeEntry(bytes);
  if (entry?.kind !== 'fleet-founded') {
    throw new ParleyError(
      'malformed',
      `entry 1 does not found a fleet: it is '${entry?.kind ?? 'of an unknown kind'}'`,
    );
  }
  const fleet = sha256Hex(bytes);
  const chainHash = entryChainHash(chainStart, { index: 1, term: genesisTerm, type: 'normal', data: bytes });
  const state = foundedState(entry.body, { fleet, chainHash, term: genesisTerm, timeMs: entry.timeMs });
  return { bytes, fleet, chainHash, state };
}
