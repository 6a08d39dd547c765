// Applies a single entry as a replica does, which gives the core a batch at a time.

import { type Applied, applyNext, beginBatch, type Rules } from '../../node/ledger/ledger-core.ts';
import type { ChainedEntry } from '../../protocols/consensus-record.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';

const noRules: Rules = { levelMax: Number.POSITIVE_INFINITY, generations: [] };

/** The given state stays as it is. */
export function applyEntry(state: LedgerState, at: ChainedEntry, rules = noRules): Applied {
  beginBatch();
  return applyNext(state, at, rules);
}
