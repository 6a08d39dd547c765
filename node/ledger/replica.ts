// Owns this peer's copy of the state: applies entries in order and only where the hash chain fits, tells those who watch,
// and keeps snapshots so that a restart replays little.

import { hashOf } from '../../protocols/codec.ts';
import { entryChainHash } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { type LedgerState, ledgerLevelMax } from '../../protocols/ledger-state.ts';
import type { Logger } from '../interfaces.ts';
import { type Applied, applyNext, beginBatch } from './ledger-core.ts';
import type { AppliedListener, CommittedEntry, LedgerSnapshot } from './ledger-types.ts';
import { type SnapshotStore, snapshotOf, stateOf } from './snapshots.ts';

/** A snapshot is due after so many entries that have a quarter of its bytes together, or after the larger number. */
const snapshotEntriesMin = 256;
const snapshotEntriesMax = 4_096;
export interface Replica {
  state(): LedgerState;
  /** Applies entries. @throws ParleyError `chain-mismatch` or `level-unsupported`; those before the refused one are applied. */
  apply(entries: readonly CommittedEntry[]): void;
  /** Replaces the state by a later one and stores it. @throws ParleyError `malformed` or `wrong-fleet`. */
  restore(snapshot: LedgerSnapshot): Promise<void>;
  /** Stores a snapshot of the present state. */
  save(): Promise<LedgerSnapshot>;
  /** Stores what is not stored yet, as far as the disk allows. */
  close(): Promise<void>;
  stateHash(): string;
}

export function createReplica(init: {
  readonly first: LedgerState;
  readonly snapshots: SnapshotStore;
  readonly logger: Logger;
  /** Called with each entry and what it came to, before the listeners. */
  readonly onEntry: (entry: CommittedEntry, applied: Applied) => void;
  /** Called when a snapshot has taken the place of entries. */
  readonly onRestored: (state: LedgerState) => void;
  readonly onApplied: AppliedListener;
  /** Called after each stored snapshot. */
  readonly onSaved: () => void;
  /** Whether an entry beyond this release's level stops the replica (voters) or is skipped (members). */
  readonly stopsAtLevel: boolean;
}): Replica {
  const { snapshots, logger } = init;
  let state = init.first;
  let saved = { index: init.first.index, bytes: 0 };
  let bytesSince = 0;
  let saving: Promise<LedgerSnapshot> | undefined;
  let retryAtIndex = 0;
  function applyOne(entry: CommittedEntry): void {
    const chained = entry.index === state.index + 1 && entry.chainHash === entryChainHash(state.chainHash, entry);
    if (!chained) {
      const text = `entry ${entry.index} does not follow entry ${state.index} of this ledger`;
      throw new ParleyError('chain-mismatch', text, {
        hint: 'Compare the logs of the voters: one of them is damaged or forged.',
      });
    }
    const applied = applyNext(state, entry, init.stopsAtLevel ? ledgerLevelMax : Number.POSITIVE_INFINITY);
    state = applied.state;
    bytesSince += entry.data.byteLength;
    if (applied.bug !== undefined) logger.error({ index: entry.index, error: applied.bug }, 'applying an entry failed');
    init.onEntry(entry, applied);
  }

  function saveIfDue(): void {
    const entries = state.index - saved.index;
    const isDue = entries >= snapshotEntriesMax || (entries >= snapshotEntriesMin && bytesSince * 4 >= saved.bytes);
    if (!isDue || saving !== undefined || state.index < retryAtIndex) return;
    api.save().catch((error) => {
      retryAtIndex = state.index + snapshotEntriesMin;
      logger.error({ index: state.index, error: String(error) }, 'the ledger could not store a snapshot');
    });
  }

  async function store(snapshot: LedgerSnapshot): Promise<LedgerSnapshot> {
    const sinceBefore = bytesSince;
    await snapshots.save(snapshot);
    saved = { index: snapshot.index, bytes: snapshot.data.byteLength };
    bytesSince -= sinceBefore;
    init.onSaved();
    return snapshot;
  }

  const api: Replica = {
    state: () => state,
    apply(entries) {
      const before = state.index;
      beginBatch();
      try {
        for (const entry of entries) applyOne(entry);
      } finally {
        if (state.index > before) init.onApplied(state);
      }
      saveIfDue();
    },
    async restore(snapshot) {
      const next = stateOf(snapshot);
      if (next.fleet !== state.fleet) {
        throw new ParleyError(
          'wrong-fleet',
          `a snapshot of fleet ${next.fleet.slice(0, 8)}: this is ${state.fleet.slice(0, 8)}`,
        );
      }
      if (next.index < state.index) {
        throw new ParleyError('malformed', `a snapshot of index ${next.index}: this peer is at ${state.index} already`);
      }
      await saving?.catch(() => undefined);
      await store(snapshot);
      state = next;
      init.onRestored(state);
      init.onApplied(state);
    },
    async save() {
      while (saving !== undefined) await saving.catch(() => undefined);
      saving = snapshotOf(state).then(store);
      try {
        return await saving;
      } finally {
        saving = undefined;
      }
    },
    async close() {
      await saving?.catch(() => undefined);
      if (state.index === saved.index && saved.bytes > 0) return;
      await api
        .save()
        .catch((error) => logger.error({ error: String(error) }, 'the ledger could not store a last snapshot'));
    },
    stateHash: () => hashOf(state),
  };
  return api;
}
