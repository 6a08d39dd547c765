// A log that commits at once and delivers strictly: every attached ledger gets each entry once, in order, with the hash
// chain, and again each time it starts behind. What is committed is certified at once, with all voters' keys. For tests of what
// stands on consensus, not of consensus.

import assert from 'node:assert/strict';
import type { Ledger, LedgerConsensus } from '../../node/ledger/index.ts';
import { type CommittedEntry, entryChainHash } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { signedBy } from './voter-keys.ts';

type StateMachine = Pick<Ledger, 'appliedIndex' | 'apply' | 'durableIndex' | 'certification'>;

export interface MemoryConsensus {
  /** Brings a started ledger up to date and delivers to it from now on. */
  attach(ledger: StateMachine): Promise<LedgerConsensus>;
  detach(ledger: StateMachine): void;
  append(type: 'normal' | 'configuration', data: Uint8Array): Promise<number>;
  readonly entries: readonly CommittedEntry[];
  firstIndex(): number;
  /** Set to false to hold certificates back. */
  certifies: boolean;
  /** Raft ids of those that sign; all voters by default. */
  signers: readonly number[] | undefined;
  /** Certifies one entry on all ledgers that have applied it. */
  certify(index: number): Promise<void>;
}

export function createMemoryConsensus(genesis: { readonly chainHash: string }): MemoryConsensus {
  const entries: CommittedEntry[] = [];
  const attached = new Set<StateMachine>();
  let firstIndex = 2;
  let turn: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work, work);
    turn = result.catch(() => undefined);
    return result;
  };
  const from = (index: number): CommittedEntry[] => entries.slice(index - 2);

  async function deliver(ledger: StateMachine): Promise<void> {
    const missing = from(ledger.appliedIndex() + 1);
    if (missing.length > 0) assert.ok((missing[0]?.index ?? 0) >= firstIndex, 'a ledger asks for what it let go');
    await ledger.apply(missing);
    assert.equal(ledger.appliedIndex(), entries.length + 1);
  }

  async function certify(index: number): Promise<void> {
    const entry = entries[index - 2] ?? assert.fail(`no entry ${index}`);
    for (const ledger of attached) {
      const certification = ledger.certification();
      const set = certification.voterSetBefore(index);
      if (set === undefined || ledger.appliedIndex() < index) continue;
      // A voter whose disk is full learns of it later.
      await certification
        .take(signedBy(set, certification.fleet(), entry, consensus.signers))
        .catch((error: ParleyError) => {
          if (error.code !== 'disk-full') throw error;
        });
    }
  }

  const consensus: MemoryConsensus = {
    entries,
    certifies: true,
    signers: undefined,
    certify,
    firstIndex: () => firstIndex,
    append: (type, data) =>
      inTurn(async () => {
        const entry = { index: entries.length + 2, term: 1, type, data };
        const chained = { ...entry, chainHash: entryChainHash(entries.at(-1)?.chainHash ?? genesis.chainHash, entry) };
        entries.push(chained);
        for (const ledger of attached) await deliver(ledger);
        if (consensus.certifies) await certify(entry.index);
        return entry.index;
      }),
    attach: (ledger) =>
      inTurn(async () => {
        await deliver(ledger);
        attached.add(ledger);
        if (consensus.certifies && entries.length > 0) await certify(entries.length + 1);
        return {
          propose: async (data) => ({ index: await consensus.append('normal', data) }),
          async committedEntries(index, limit) {
            if (index < firstIndex) throw new ParleyError('compacted', `entries from ${index} on are gone`);
            return from(index).slice(0, limit);
          },
          async compact(index) {
            assert.ok(index <= ledger.durableIndex(), 'compaction goes no further than the ledger holds durably');
            firstIndex = Math.max(firstIndex, index + 1);
          },
        };
      }),
    detach: (ledger) => attached.delete(ledger),
  };
  return consensus;
}
