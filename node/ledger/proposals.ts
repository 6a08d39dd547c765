// Owns proposing on the controller: gives each entry its time, hands it to consensus, and answers with what applying it
// came to.

import { check } from '../../protocols/codec.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import { fromErrorRecord, ParleyError } from '../../protocols/errors.ts';
import { type EntryDraft, encodeEntry, entryBodySchemas, type LedgerEntry } from '../../protocols/ledger-entries.ts';
import { earlierResult } from '../../protocols/ledger-rules.ts';
import type { CommandResult, LedgerState } from '../../protocols/ledger-state.ts';
import { entryBytesMax } from '../../protocols/limits.ts';
import type { Clock } from '../interfaces.ts';
import type { LedgerConsensus, ProposeResult } from './ledger-types.ts';

/** Results kept while proposals are under way: applied entries are answered at once, so few are ever waited for. */
const resultsMax = 4_096;

export interface Proposals {
  propose(draft: EntryDraft, options: { readonly signal: AbortSignal }): Promise<ProposeResult>;
  /** Takes note of an applied entry. */
  applied(entry: CommittedEntry, result: CommandResult | undefined): void;
}

export function createProposals(init: {
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly state: () => LedgerState;
  readonly consensus: () => LedgerConsensus | undefined;
}): Proposals {
  let pending = 0;
  let lastTimeMs = 0;
  const results = new Map<number, { readonly data: Uint8Array; readonly result: CommandResult | undefined }>();

  /** @throws ParleyError `malformed` or `too-large`: nobody could apply it. */
  function encodeDraft(draft: EntryDraft): Uint8Array {
    const timeMs = Math.max(init.clock.nowMs(), init.state().timeMs, lastTimeMs);
    check<unknown>(entryBodySchemas[draft.kind], draft.body, `body of '${draft.kind}'`);
    const data = encodeEntry({ version: 1, timeMs, ...draft } as LedgerEntry);
    if (data.byteLength > entryBytesMax) {
      const text = `the entry '${draft.kind}' has ${data.byteLength} bytes: the limit is ${entryBytesMax}`;
      throw new ParleyError('too-large', text, { hint: 'Select fewer hosts at once, or shorten the text.' });
    }
    lastTimeMs = timeMs;
    return data;
  }

  function resultOf(index: number, data: Uint8Array, draft: EntryDraft): CommandResult {
    const applied = results.get(index);
    if (applied?.result !== undefined && Buffer.compare(applied.data, data) === 0) return applied.result;
    // A snapshot took the place of the entry before it was applied here; the command's id still tells.
    const known = earlierResult(init.state(), draft);
    if (known !== undefined) return known;
    const text = `entry ${index} was committed, but not seen here: what '${draft.kind}' came to is unknown`;
    throw new ParleyError('outcome-unknown', text, { hint: 'Ask again with the same command id.', retryable: true });
  }

  return {
    async propose(draft, options) {
      options.signal.throwIfAborted();
      const consensus = init.consensus();
      if (consensus === undefined) {
        throw new ParleyError('not-controller', 'cannot propose an entry here: this peer is no voter', {
          retryable: true,
        });
      }
      const data = encodeDraft(draft);
      pending += 1;
      try {
        const { index } = await consensus.propose(data, options);
        const result = resultOf(index, data, draft);
        if (result.error !== null) throw fromErrorRecord(result.error);
        return { index, result, state: init.state() };
      } finally {
        pending -= 1;
        if (pending === 0) results.clear();
      }
    },
    applied(entry, result) {
      if (pending === 0) return;
      results.set(entry.index, { data: entry.data, result });
      const oldest = results.keys().next();
      if (results.size > resultsMax && !oldest.done) results.delete(oldest.value);
    },
  };
}
