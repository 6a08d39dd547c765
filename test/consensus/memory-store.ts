// A strict key-value store in memory: copies what it is given, loses what was not synced when it crashes, fails on demand.

import type { KeyValueStore, StoreOperation } from '../../node/interfaces.ts';
import { Gate } from '../helpers/gate.ts';

export class MemoryStore implements KeyValueStore {
  #records = new Map<string, Uint8Array>();
  #synced = new Map<string, Uint8Array>();
  /** Thrown by batch() while set. */
  failure: Error | undefined;
  /** Where batch() comes before it takes effect. */
  readonly gate = new Gate();
  syncedBatches = 0;

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.#records.get(key)?.slice();
  }

  async batch(operations: readonly StoreOperation[], { sync }: { readonly sync: boolean }): Promise<void> {
    const copies = operations.map((operation) =>
      operation.type === 'put' ? { ...operation, value: operation.value.slice() } : operation,
    );
    await this.gate.pass();
    if (this.failure) throw this.failure;
    for (const operation of copies) {
      if (operation.type === 'put') this.#records.set(operation.key, operation.value);
      else this.#records.delete(operation.key);
    }
    if (!sync) return;
    this.syncedBatches += 1;
    this.#synced = new Map(this.#records);
  }

  async range({
    gte,
    lt,
    limit = Number.POSITIVE_INFINITY,
    reverse = false,
  }: Parameters<KeyValueStore['range']>[0]): Promise<[string, Uint8Array][]> {
    const keys = [...this.#records.keys()].filter((key) => key >= gte && key < lt).sort();
    if (reverse) keys.reverse();
    return keys.slice(0, limit).map((key) => [key, this.#records.get(key)?.slice() ?? new Uint8Array()]);
  }

  async close(): Promise<void> {}

  /** Power is cut: only what was synced is left. */
  crash(): void {
    this.#records = new Map(this.#synced);
  }

  keys(): string[] {
    return [...this.#records.keys()].sort();
  }

  /** Changes a record behind everybody's back. */
  tamper(key: string, change: (value: Uint8Array) => Uint8Array | undefined): void {
    const changed = change(this.#records.get(key)?.slice() ?? new Uint8Array());
    if (changed) this.#records.set(key, changed);
    else this.#records.delete(key);
    this.#synced = new Map(this.#records);
  }

  /** An independent store with the same records. */
  clone(): MemoryStore {
    const copy = new MemoryStore();
    copy.#records = new Map(this.#records);
    copy.#synced = new Map(this.#records);
    return copy;
  }
}
