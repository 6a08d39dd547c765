// Owns the core's apply thread: hands committed entries to the state machine in order, puts configuration entries in
// force once they are applied, and remembers which configuration held at which index.

import type { CommittedEntry, Configuration, RaftEntry, SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Clock } from '../interfaces.ts';
import { ConfigurationHistory, invariant, type Message } from './core/index.ts';
import type { LogStore } from './log-store.ts';
import type { StateMachine } from './types.ts';
import { createWorker, type Worker } from './worker.ts';

export interface ApplyThreadInit {
  readonly store: LogStore;
  readonly stateMachine: StateMachine;
  readonly clock: Pick<Clock, 'after'>;
  /** An entry has been applied, and the core knows. */
  readonly onApplied: (entry: RaftEntry) => void;
  /** A configuration entry has been applied and must come into force. */
  readonly onConfiguration: (entry: RaftEntry) => void;
  /** All entries of a message have been applied. */
  readonly deliver: (responses: readonly Message[]) => void;
  readonly onFailure: (error: unknown) => void;
  readonly onRecovery: () => void;
}

type Work = { readonly message: Message } | { readonly call: () => Promise<void> };

export class ApplyThread {
  readonly #init: ApplyThreadInit;
  readonly #worker: Worker<Work>;
  readonly #stopping = new AbortController();
  #history: ConfigurationHistory;
  /** The last configuration entry in force has this index or a lower one. */
  #switchedAt: number;

  constructor(init: ApplyThreadInit) {
    this.#init = init;
    this.#worker = createWorker<Work>({ ...init, work: (queue) => this.#doNext(queue) });
    const { index, configuration } = init.store.base();
    this.#history = new ConfigurationHistory(index, configuration);
    this.#switchedAt = init.stateMachine.appliedIndex();
    for (const entry of init.store.log.range(index + 1, this.#switchedAt + 1)) this.#history.take(entry);
  }

  push(message: Message): void {
    this.#worker.push({ message });
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#worker.stop();
    await this.#worker.idle();
  }

  /** Runs something while the state machine is between two batches of entries. @throws ParleyError `stopped`. */
  between<Result>(call: () => Promise<Result>): Promise<Result> {
    const { signal } = this.#stopping;
    const stopped = (): ParleyError => new ParleyError('stopped', 'consensus has stopped');
    if (signal.aborted) return Promise.reject(stopped());
    return new Promise((resolve, reject) => {
      const giveUp = (): void => reject(stopped());
      signal.addEventListener('abort', giveUp, { once: true });
      const done = (): void => signal.removeEventListener('abort', giveUp);
      this.#worker.push({ call: () => call().then(resolve, reject).finally(done) });
    });
  }

  /** Makes the state machine hold a snapshot. */
  async restore(metadata: SnapshotMetadata, data: Uint8Array): Promise<void> {
    await this.between(() => this.#init.stateMachine.restore({ ...metadata, data }));
    this.#history = new ConfigurationHistory(metadata.index, metadata.configuration);
    this.#switchedAt = metadata.index;
  }

  configurationAt(index: number): Configuration {
    return this.#history.at(index);
  }

  /** Where the newest known configuration came into force. */
  configurationIndex(): number {
    return this.#history.currentSince();
  }

  /** Forgets the configurations before an index. */
  compact(index: number): void {
    this.#history.compact(index);
  }

  /** The committed form of an entry of the log. */
  toCommitted({ index, term, type, data }: RaftEntry): CommittedEntry {
    const chainHash = this.#init.store.chainHash(index);
    invariant(chainHash !== undefined, 'a committed entry is in the log');
    const committed = { index, term, type, data, chainHash };
    return type === 'configuration' ? { ...committed, configuration: this.#history.at(index) } : committed;
  }

  async #doNext(queue: Work[]): Promise<void> {
    const work = queue[0];
    if (work === undefined) return;
    if ('call' in work) await work.call();
    else await this.#apply(work.message);
    queue.shift();
  }

  async #apply({ entries, responses }: Message): Promise<void> {
    let batch: RaftEntry[] = [];
    for (const entry of entries) {
      this.#history.take(entry);
      batch.push(entry);
      if (entry.type !== 'configuration') continue;
      await this.#applyBatch(batch);
      batch = [];
      if (entry.index > this.#switchedAt) this.#init.onConfiguration(entry);
      this.#switchedAt = Math.max(this.#switchedAt, entry.index);
    }
    await this.#applyBatch(batch);
    // The core learns first, so that whoever is told can go on at once.
    this.#init.deliver(responses);
    for (const entry of entries) this.#init.onApplied(entry);
  }

  async #applyBatch(batch: readonly RaftEntry[]): Promise<void> {
    const last = batch.at(-1);
    if (last === undefined) return;
    const { stateMachine } = this.#init;
    const due = batch.filter((entry) => entry.index > stateMachine.appliedIndex());
    if (due.length > 0) await stateMachine.apply(due.map((entry) => this.toCommitted(entry)));
    const applied = stateMachine.appliedIndex();
    invariant(applied >= last.index, `the state machine applies all it is given: up to ${last.index}, not ${applied}`);
  }
}
