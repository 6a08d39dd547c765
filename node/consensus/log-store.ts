// Owns the log on disk: one synced batch for each group of writes, holding entries, what they replace, and the tail (term,
// vote and the log's end), then the witness. Opening verifies the hash chain from the snapshot to the tail, and the tail by
// the witness: LevelDB may open without an error and lack acknowledged batches, and a voter that forgot them must not vote.

import { sha256HexInSteps } from '../../protocols/codec.ts';
import type * as records from '../../protocols/consensus-record.ts';
import type { ChainedEntry } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { KeyValueStore, StoreOperation } from '../interfaces.ts';
import { type HardState, invariant, LogWindow } from './core/index.ts';
import { damaged } from './log-damage.ts';
import {
  bodyKey,
  chainEntries,
  entryKey,
  metadataOf,
  noBodyHash,
  partsOf,
  putEntries,
  putSnapshot,
  putTail,
  readBody,
  readEntries,
  readSnapshot,
  readTail,
  type Snapshot,
  snapshotKey,
  tailKey,
} from './log-records.ts';
import { confirm, readWitness, testify, type Witness } from './witness.ts';

/** Where a voter's log is kept. */
export interface LogDisk {
  /** A database of its own. */
  readonly store: KeyValueStore;
  /** Lies outside the database's folder. */
  readonly witness: Witness;
}

/** What one group of storage messages changes. */
export interface LogWrite {
  readonly hardState: HardState;
  readonly entries: readonly records.RaftEntry[];
  /** Replaces the whole log; comes without entries. */
  readonly snapshot?: Snapshot;
}

/**
 * Gives a new voter its first state: a log that starts after `base`. Does nothing where there is a log already.
 * @throws ParleyError `damaged-log` when that cannot be read.
 */
export async function bootstrapLog({ store, witness }: LogDisk, base: records.SnapshotMetadata): Promise<void> {
  if (await readSnapshot(store)) return;
  // There was a log here before: openLogStore() says what became of it.
  if (await readWitness(witness)) return;
  const tail = {
    batch: 0,
    term: base.term,
    vote: 0,
    commit: base.index,
    lastIndex: base.index,
    lastHash: base.chainHash,
  };
  await store.batch([putSnapshot(base, 0, noBodyHash), putTail(tail)], { sync: true });
  await testify(witness, tail);
}

/**
 * Opens and verifies the log. `snapshotToSend` answers for the newest snapshot of the state machine that can be sent.
 * @throws ParleyError `not-bootstrapped`, or `damaged-log` when something that was written is missing or altered.
 */
export async function openLogStore(
  disk: LogDisk,
  snapshotToSend: () => records.SnapshotMetadata | undefined,
): Promise<LogStore> {
  const { store, witness } = disk;
  const snapshot = await readSnapshot(store);
  const tail = await readTail(store);
  if (!snapshot && !tail) {
    const noted = await readWitness(witness);
    if (noted) throw damaged(`its database is empty, and batch ${noted.batch} was acknowledged`);
    throw new ParleyError('not-bootstrapped', 'cannot open the log: the store is empty', {
      hint: 'Found a fleet with `parley init` or join one.',
    });
  }
  if (!snapshot || !tail) throw damaged(`the record '${snapshot ? tailKey : snapshotKey}' is missing`);
  const log = new LogWindow<ChainedEntry>(snapshot, snapshotToSend);
  log.append(await readEntries(store, snapshot));
  const last = log.entry(log.lastIndex())?.chainHash ?? snapshot.chainHash;
  if (log.lastIndex() !== tail.lastIndex || last !== tail.lastHash) {
    throw damaged(`it ends at index ${log.lastIndex()} and its last batch ended at index ${tail.lastIndex}`);
  }
  if (tail.commit > tail.lastIndex) throw damaged(`its commit index ${tail.commit} lies after its end`);
  await confirm(witness, tail);
  return new LogStore(disk, log, snapshot, tail);
}

export class LogStore {
  /** The log in memory, as it is on disk. */
  readonly log: LogWindow<ChainedEntry>;
  readonly #store: KeyValueStore;
  readonly #witness: Witness;
  #base: records.SnapshotMetadata;
  #bodyParts: number;
  #bodyHash: string;
  #batch: number;
  #hardState: HardState;
  /** After a write that failed: it may be on disk all the same, with entries up to this index. */
  #doubtfulTo: number | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  /** Takes records that openLogStore() has verified. */
  constructor(
    { store, witness }: LogDisk,
    log: LogWindow<ChainedEntry>,
    snapshot: records.SnapshotRecord,
    tail: records.TailRecord,
  ) {
    this.#store = store;
    this.#witness = witness;
    this.log = log;
    this.#base = metadataOf(snapshot);
    this.#bodyParts = snapshot.parts;
    this.#bodyHash = snapshot.bodyHash;
    this.#batch = tail.batch;
    this.#hardState = { term: tail.term, vote: tail.vote, commit: Math.max(tail.commit, snapshot.index) };
  }

  /** Where the log starts. */
  base(): records.SnapshotMetadata {
    return this.#base;
  }

  /** As on disk, except that the commit index may be ahead: it is written with the next batch. */
  hardState(): HardState {
    return this.#hardState;
  }

  /** The chain hash at an index from the base to the end. */
  chainHash(index: number): string | undefined {
    return index === this.#base.index ? this.#base.chainHash : this.log.entry(index)?.chainHash;
  }

  /** Takes a new commit index without writing: losing it costs nothing, since it is learned again. */
  noteCommit(commit: number): void {
    this.#hardState = { ...this.#hardState, commit: Math.max(commit, this.#hardState.commit) };
  }

  /** Writes and syncs; what it says may be acknowledged afterwards. May be tried again with the same argument. */
  write(work: LogWrite): Promise<void> {
    return this.#serialised(() => (work.snapshot ? this.#replace(work, work.snapshot) : this.#append(work)));
  }

  /** Drops entries up to the new base's index, which the state machine holds durably; nothing while a write has to be repeated. */
  compact(base: records.SnapshotMetadata): Promise<void> {
    return this.#serialised(async () => {
      if (base.index <= this.#base.index || this.#doubtfulTo !== undefined) return;
      const dropped = this.#deletions(this.log.firstIndex(), base.index);
      await this.#store.batch([putSnapshot(base, this.#bodyParts, this.#bodyHash), ...dropped], { sync: true });
      this.#base = base;
      this.log.compact(base.index);
    });
  }

  /** The body of a received snapshot that may not have been restored; undefined when there is none. */
  async pendingBody(): Promise<Uint8Array | undefined> {
    return readBody(this.#store, { parts: this.#bodyParts, bodyHash: this.#bodyHash });
  }

  /** The pending body has been restored and can go. */
  dropPendingBody(): Promise<void> {
    return this.#serialised(async () => {
      const dropped = Array.from({ length: this.#bodyParts }, (_, part) => ({
        type: 'del' as const,
        key: bodyKey(part),
      }));
      await this.#store.batch([putSnapshot(this.#base, 0, noBodyHash), ...dropped], { sync: true });
      this.#bodyParts = 0;
      this.#bodyHash = noBodyHash;
    });
  }

  async #append({ entries, hardState }: LogWrite): Promise<void> {
    const first = entries[0];
    const before = this.chainHash((first?.index ?? this.log.lastIndex() + 1) - 1);
    invariant(before !== undefined, 'entries follow on the log without a gap');
    const chained = chainEntries(before, entries);
    const last = chained.at(-1) ?? { index: this.log.lastIndex(), chainHash: before };
    const cut = this.#deletions(last.index + 1, this.#writtenTo());
    await this.#commit([...cut, ...putEntries(before, chained)], hardState, last);
    this.log.append(chained);
  }

  async #replace({ hardState }: LogWrite, { metadata, body }: Snapshot): Promise<void> {
    const bodyHash = await sha256HexInSteps(body);
    const parts = await this.#putBody(body);
    const cut = this.#deletions(this.log.firstIndex(), this.#writtenTo());
    await this.#commit([...cut, putSnapshot(metadata, parts, bodyHash)], hardState, metadata);
    this.#base = metadata;
    this.#bodyParts = parts;
    this.#bodyHash = bodyHash;
    this.log.reset(metadata);
  }

  /**
   * Writes a body, which means nothing before the record that names it; returns the number of its parts. Each part is a
   * batch of its own: a batch is copied at once, and the whole body would hold the event loop.
   */
  async #putBody(body: Uint8Array): Promise<number> {
    const parts = partsOf(body);
    for (const [part, value] of parts.entries()) {
      await this.#store.batch([{ type: 'put', key: bodyKey(part), value }], { sync: true });
    }
    return parts.length;
  }

  /**
   * One synced batch that leaves the log ending at `last`, and then its witness. Only these batches are counted: what else
   * is written moves the log's start, and a start that is lost costs nothing but room. A failed batch may be on disk
   * all the same, so its number is not used again.
   */
  async #commit(
    operations: readonly StoreOperation[],
    stated: HardState,
    last: { readonly index: number; readonly chainHash: string },
  ): Promise<void> {
    const hardState = { ...stated, commit: Math.max(stated.commit, this.#hardState.commit) };
    const commit = Math.min(hardState.commit, last.index);
    this.#batch += 1;
    this.#doubtfulTo = Math.max(this.#writtenTo(), last.index);
    const tail = { ...hardState, commit, batch: this.#batch, lastIndex: last.index, lastHash: last.chainHash };
    await this.#store.batch([...operations, putTail(tail)], { sync: true });
    await testify(this.#witness, tail);
    this.#doubtfulTo = undefined;
    this.#hardState = hardState;
  }

  /** The last index of which the disk may hold an entry. */
  #writtenTo(): number {
    return Math.max(this.log.lastIndex(), this.#doubtfulTo ?? 0);
  }

  #deletions(from: number, to: number): StoreOperation[] {
    const count = Math.max(to - from + 1, 0);
    return Array.from({ length: count }, (_, offset) => ({ type: 'del', key: entryKey(from + offset) }));
  }

  /** One change at a time: each is computed from what the one before left. */
  #serialised<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}
