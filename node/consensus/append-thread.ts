// Owns the core's append thread: writes entries, votes and snapshots in order, many waiting messages as one batch, and
// hands on the answers that depend on them only once they are on disk.

import type { RaftEntry, SnapshotMetadata } from '../../protocols/consensus-record.ts';
import type { Clock } from '../interfaces.ts';
import { type HardState, invariant, type Message } from './core/index.ts';
import type { LogStore } from './log-store.ts';
import { createWorker, type Worker } from './worker.ts';

export interface AppendThreadInit {
  readonly store: LogStore;
  readonly clock: Pick<Clock, 'after' | 'monotonicMs'>;
  /** Makes the state machine hold a snapshot that the log now starts from. */
  readonly restore: (snapshot: SnapshotMetadata, body: Uint8Array) => Promise<void>;
  /** What was written allows these messages to go. */
  readonly deliver: (responses: readonly Message[]) => void;
  /** How long a synced write of entries or a vote took. */
  readonly onWritten: (tookMs: number) => void;
  readonly onFailure: (error: unknown) => void;
  readonly onRecovery: () => void;
}

export class AppendThread {
  readonly #init: AppendThreadInit;
  readonly #worker: Worker<Message>;
  #received: { readonly index: number; readonly body: Uint8Array } | undefined;
  #restoringIndex: number | undefined;

  constructor(init: AppendThreadInit) {
    this.#init = init;
    this.#worker = createWorker({ ...init, work: (queue) => this.#writeSome(queue) });
  }

  push(message: Message): void {
    if (message.snapshot) this.#restoringIndex = message.snapshot.index;
    this.#worker.push(message);
  }

  async stop(): Promise<void> {
    this.#worker.stop();
    await this.#worker.idle();
  }

  /** Keeps a body while `offer` gives its snapshot to the core, and for as long as the core then needs it. */
  receive(index: number, body: Uint8Array, offer: () => void): void {
    // One at a time; the sender tries again.
    if (this.#received) return;
    this.#received = { index, body };
    offer();
    if (this.#restoringIndex !== index) this.#received = undefined;
  }

  async #writeSome(queue: Message[]): Promise<void> {
    const snapshotAt = queue.findIndex((message) => message.snapshot !== undefined);
    const group = queue.slice(0, snapshotAt === -1 ? queue.length : Math.max(snapshotAt, 1));
    const snapshot = group[0]?.snapshot;
    if (snapshot) await this.#writeSnapshot(snapshot, this.#hardStateAfter(group));
    else await this.#writeEntries(mergedEntries(group), this.#hardStateAfter(group));
    queue.splice(0, group.length);
    for (const message of group) this.#init.deliver(message.responses);
  }

  #hardStateAfter(group: readonly Message[]): HardState {
    const stated = group.findLast(({ term, vote, commit }) => term !== 0 || vote !== 0 || commit !== 0);
    return stated ? { term: stated.term, vote: stated.vote, commit: stated.commit } : this.#init.store.hardState();
  }

  async #writeEntries(entries: readonly RaftEntry[], hardState: HardState): Promise<void> {
    const { store, clock, onWritten } = this.#init;
    const before = store.hardState();
    const mustSync = entries.length > 0 || hardState.term !== before.term || hardState.vote !== before.vote;
    if (!mustSync) {
      store.noteCommit(hardState.commit);
      return;
    }
    const startedMs = clock.monotonicMs();
    await store.write({ hardState, entries });
    onWritten(clock.monotonicMs() - startedMs);
  }

  async #writeSnapshot(metadata: SnapshotMetadata, hardState: HardState): Promise<void> {
    const { store, restore } = this.#init;
    const body = this.#received?.body;
    invariant(this.#received?.index === metadata.index && body !== undefined, 'a snapshot comes with its body');
    await store.write({ hardState, entries: [], snapshot: { metadata, body } });
    await restore(metadata, body);
    await store.dropPendingBody();
    this.#received = undefined;
    this.#restoringIndex = undefined;
  }
}

/** The entries that are left when appends follow each other, each cutting off what it replaces. */
function mergedEntries(group: readonly Message[]): RaftEntry[] {
  const merged: RaftEntry[] = [];
  for (const { entries } of group) {
    const first = entries[0];
    if (first === undefined) continue;
    const cut = merged.findIndex((entry) => entry.index >= first.index);
    if (cut !== -1) merged.splice(cut);
    for (const entry of entries) merged.push(entry);
  }
  return merged;
}
