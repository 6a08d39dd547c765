// Owns this peer's copy of the state: applies entries in order and only where the hash chain fits, tells those who watch,
// and keeps snapshots so that a restart replays little: at each checkpoint the state as it was at that very entry.

import { hashOf } from '../../protocols/codec.ts';
import { type CommittedEntry, entryChainHash } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import type { EntryDraft } from '../../protocols/ledger-entries.ts';
import { type LedgerState, ledgerLevelMax } from '../../protocols/ledger-state.ts';
import type { Logger } from '../interfaces.ts';
import { type Applied, applyNext, beginBatch } from './ledger-core.ts';
import type { AppliedListener, LedgerSnapshot } from './ledger-types.ts';
import { type SnapshotStore, snapshotOf, stateOf } from './snapshots.ts';

/** A checkpoint is due after so many entries that have a quarter of its bytes together, or after the larger number. */
const checkpointEntriesMin = 256;
const checkpointEntriesMax = 4_096;
export interface Replica {
  state(): LedgerState;
  /** Applies entries. @throws ParleyError `chain-mismatch` or `level-unsupported`; those before the refused one are applied. */
  apply(entries: readonly CommittedEntry[]): void;
  /** Replaces the state by a later one and stores it. @throws ParleyError `malformed` or `wrong-fleet`. */
  restore(snapshot: LedgerSnapshot): Promise<void>;
  /** Stores a snapshot of the present state. */
  save(): Promise<LedgerSnapshot>;
  /** SHA-256 of the own state at a `checkpoint-begun`, once it is on the disk: undefined before, null if it never will be. */
  checkpointHash(index: number): string | null | undefined;
  /** What the controller is to propose next about checkpoints; undefined while nothing is due. */
  checkpointDue(): EntryDraft | undefined;
  /** Stores what is not stored yet, as far as the disk allows. */
  close(): Promise<void>;
  stateHash(): string;
}

export function createReplica(init: {
  readonly first: LedgerState;
  /** Bytes of the snapshot that the first state was read from; undefined when none is stored. */
  readonly storedBytes: number | undefined;
  readonly snapshots: SnapshotStore;
  readonly logger: Logger;
  /** Called with each entry and what it came to, before the listeners. */
  readonly onEntry: (entry: CommittedEntry, applied: Applied) => void;
  /** Called with a state before it takes the place of entries. */
  readonly onRestoring: (state: LedgerState) => Promise<void>;
  /** Called when a snapshot has taken the place of entries. */
  readonly onRestored: (state: LedgerState) => void;
  readonly onApplied: AppliedListener;
  /** Called after each stored snapshot. */
  readonly onSaved: () => void;
  /** Whether an entry beyond this release's level stops the replica (voters) or is skipped (members). */
  readonly stopsAtLevel: boolean;
  readonly generations: readonly GenerationRecord[];
}): Replica {
  const { snapshots, logger, generations } = init;
  const rules = { levelMax: init.stopsAtLevel ? ledgerLevelMax : Number.POSITIVE_INFINITY, generations };
  let state = init.first;
  let saved = init.storedBytes === undefined ? undefined : { index: init.first.index, bytes: init.storedBytes };
  let bytesSince = 0;
  let saving: Promise<unknown> = Promise.resolve();
  /** Checkpoints whose state is on its way to the disk. */
  const underWay = new Set<number>();
  let retryAtIndex = 0;
  function applyOne(entry: CommittedEntry): void {
    const chained = entry.index === state.index + 1 && entry.chainHash === entryChainHash(state.chainHash, entry);
    if (!chained) {
      const text = `entry ${entry.index} does not follow entry ${state.index} of this ledger`;
      throw new ParleyError('chain-mismatch', text, {
        hint: 'Compare the logs of the voters: one of them is damaged or forged.',
      });
    }
    const applied = applyNext(state, entry, rules);
    state = applied.state;
    bytesSince += entry.data.byteLength;
    if (applied.bug !== undefined) logger.error({ index: entry.index, error: applied.bug }, 'applying an entry failed');
    init.onEntry(entry, applied);
    if (state.checkpointBegun === entry.index) keepCheckpoint(state);
  }

  /** The state stays as it is from here on, whatever the batch holds besides. */
  function keepCheckpoint(at: LedgerState): void {
    beginBatch();
    bytesSince = 0;
    underWay.add(at.index);
    keep(at)
      .catch((error) => {
        retryAtIndex = state.index + checkpointEntriesMin;
        logger.error({ index: at.index, error: String(error) }, 'the ledger could not store a snapshot');
      })
      .finally(() => underWay.delete(at.index));
  }

  /** Stores the snapshot of a state, after those that were begun before. */
  function keep(at: LedgerState): Promise<LedgerSnapshot> {
    const kept = saving.then(() => snapshotOf(at)).then(store);
    saving = kept.catch(() => undefined);
    return kept;
  }

  async function store(snapshot: LedgerSnapshot): Promise<LedgerSnapshot> {
    await snapshots.save(snapshot);
    saved = { index: snapshot.index, bytes: snapshot.data.byteLength };
    init.onSaved();
    return snapshot;
  }

  function checkpointHash(index: number): string | null | undefined {
    return snapshots.headAt(index)?.hash ?? (underWay.has(index) ? undefined : null);
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
    },
    async restore(snapshot) {
      const next = await stateOf(snapshot);
      if (next.fleet !== state.fleet) {
        throw new ParleyError(
          'wrong-fleet',
          `a snapshot of fleet ${next.fleet.slice(0, 8)}: this is ${state.fleet.slice(0, 8)}`,
        );
      }
      if (next.index < state.index) {
        throw new ParleyError('malformed', `a snapshot of index ${next.index}: this peer is at ${state.index} already`);
      }
      await saving;
      await init.onRestoring(next);
      await store(snapshot);
      state = next;
      bytesSince = 0;
      init.onRestored(state);
      init.onApplied(state);
    },
    save: () => keep(state),
    checkpointHash,
    checkpointDue() {
      const { checkpointBegun, checkpointIndex, generationIndex } = state;
      const own = checkpointBegun === 0 ? null : checkpointHash(checkpointBegun);
      if (own === undefined || state.index < retryAtIndex) return undefined;
      const actor = 'controller';
      if (own !== null) {
        return { kind: 'checkpoint-made', actor, body: { index: checkpointBegun, stateHash: own } };
      }
      const entries = state.index - Math.max(checkpointBegun, checkpointIndex);
      const isDue =
        // Who is behind the log of a voter that came back by a leader's snapshot would get nothing from it.
        (checkpointIndex > 0 && snapshots.headAt(checkpointIndex) === undefined) ||
        entries >= checkpointEntriesMax ||
        (entries >= checkpointEntriesMin && bytesSince * 4 >= (saved?.bytes ?? 0)) ||
        // Who has less than a new generation's base gets the rest from nobody.
        Math.max(checkpointBegun, checkpointIndex) < generationIndex;
      return isDue || checkpointBegun > 0 ? { kind: 'checkpoint-begun', actor, body: {} } : undefined;
    },
    async close() {
      await saving;
      if (state.index === saved?.index) return;
      await keep(state).catch((error) =>
        logger.error({ error: String(error) }, 'the ledger could not store a last snapshot'),
      );
    },
    stateHash: () => hashOf(state),
  };
  return api;
}
