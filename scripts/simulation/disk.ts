// Owns the simulated disk under a peer: databases whose writes take time, of which a crash takes what was not synced, and
// blobs. A crash may come before or after any write. What is here outlives the process.

import type { BlobStore, KeyValueStore, RecordFile, StoreOperation } from '../../node/interfaces.ts';
import { sha256Hex } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Chance } from './chance.ts';
import type { Life, VirtualTime } from './time.ts';

/** What a crash does to a write: it comes before the disk has it, or after and before anybody hears of it. */
export type CrashPoint = 'before' | 'after';

export interface DiskWorld {
  readonly time: VirtualTime;
  readonly chance: Chance;
  /** Asked at each synced write: whether the process dies at it. */
  readonly crashPoint: (life: Life) => CrashPoint | undefined;
  readonly crash: (life: Life) => void;
}

/** One write: most take a moment, a few a long one. */
function writeMs(chance: Chance): number {
  return chance.happens(0.02) ? chance.between(20, 300) : chance.between(0.1, 3);
}

interface Write {
  readonly operations: readonly StoreOperation[];
  readonly sync: boolean;
}

type Undo = readonly (readonly [key: string, value: Uint8Array | undefined])[];

/** Batches that damage can take: what LevelDB loses behind one flipped bit of its log. */
const recentMax = 8;

export class SimulatedDatabase {
  readonly #world: DiskWorld;
  readonly #records: Map<string, Uint8Array>;
  /** How to take back each write since the last synced one. */
  #unsynced: Undo[] = [];
  /** How to take back the last writes, synced or not. */
  #recent: Undo[] = [];
  #flying: Write[] = [];
  /** There is no room for more. */
  isFull = false;
  #busyUntilMs = 0;

  constructor(world: DiskWorld, records: ReadonlyMap<string, Uint8Array> = new Map()) {
    this.#world = world;
    this.#records = new Map(records);
  }

  /** What is on the disk, or will be unless a crash comes first. */
  get records(): ReadonlyMap<string, Uint8Array> {
    return this.#records;
  }

  /** The one record of a file. */
  get record(): Uint8Array | undefined {
    return this.#records.get('record');
  }

  /** Whether the record of this key is what a crash would leave. */
  isSynced(key: string): boolean {
    return !this.#unsynced.some((undo) => undo.some(([changed]) => changed === key));
  }

  /** Power is cut, or the process dies: of what was not synced only a beginning is left. */
  crash(): void {
    const { chance } = this.#world;
    for (const write of this.#flying.splice(0, chance.below(this.#flying.length + 1))) this.#apply(write);
    this.#flying = [];
    const lost = this.#unsynced.splice(chance.below(this.#unsynced.length + 1)).reverse();
    for (const undo of lost) for (const [key, value] of undo) put(this.#records, key, value);
    this.#recent.splice(this.#recent.length - lost.length);
    this.#unsynced = [];
  }

  /** Synced writes at the end are gone, and nothing says so. */
  loseTail(chance: Chance): void {
    const lost = this.#recent.splice(chance.below(this.#recent.length + 1)).reverse();
    for (const undo of lost) for (const [key, value] of undo) put(this.#records, key, value);
  }

  /** One bit of a record with this prefix is another than was written. @returns false where there is none. */
  flipBit(chance: Chance, prefix: string): boolean {
    const keys = [...this.#records.keys()].filter((key) => key.startsWith(prefix)).sort();
    if (keys.length === 0) return false;
    const key = chance.pick(keys);
    const value = new Uint8Array(this.#records.get(key) ?? []);
    const at = chance.below(value.byteLength);
    value[at] = (value[at] ?? 0) ^ (1 << chance.below(8));
    this.#records.set(key, value);
    return true;
  }

  /** The whole database as it was: a backup is put back. */
  restore(records: ReadonlyMap<string, Uint8Array>): void {
    this.#records.clear();
    for (const [key, value] of records) this.#records.set(key, value);
    this.#recent = [];
  }

  /** The database as one life of its peer sees it. */
  open(life: Life): KeyValueStore {
    return {
      get: async (key) => this.#records.get(key),
      range: async ({ gte, lt, limit = Number.POSITIVE_INFINITY, reverse = false }) => {
        const found = [...this.#records].filter(([key]) => key >= gte && key < lt);
        found.sort(([a], [b]) => (a < b ? -1 : 1));
        return (reverse ? found.reverse() : found).slice(0, limit);
      },
      batch: (operations, { sync }) => this.#write(life, { operations: operations.map(copied), sync }),
      close: async () => undefined,
    };
  }

  /** A file beside the databases that holds one record: each write of it is whole and synced. */
  openRecord(life: Life): RecordFile {
    const { get, batch, close } = this.open(life);
    const write = (value: Uint8Array): Promise<void> => batch([{ type: 'put', key: 'record', value }], { sync: true });
    return { read: () => get('record'), write, close };
  }

  #write(life: Life, write: Write): Promise<void> {
    const { time, chance, crashPoint, crash } = this.#world;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (!life.isAlive) return promise;
    if (this.isFull && chance.happens(0.5)) {
      time.schedule(writeMs(chance), life, 'full', () => reject(diskFull()));
      return promise;
    }
    const isTooMuch = this.isFull;
    const point = write.sync ? crashPoint(life) : undefined;
    if (point === 'before') {
      crash(life);
      return promise;
    }
    this.#flying.push(write);
    this.#busyUntilMs = Math.max(this.#busyUntilMs, time.nowMs) + writeMs(chance);
    time.schedule(this.#busyUntilMs - time.nowMs, life, write.sync ? 'synced' : 'wrote', () => {
      this.#flying.splice(this.#flying.indexOf(write), 1);
      this.#apply(write);
      if (point === 'after') crash(life);
      else if (isTooMuch) reject(diskFull());
      else resolve();
    });
    return promise;
  }

  #apply({ operations, sync }: Write): void {
    const undo = operations.map(({ key }) => [key, this.#records.get(key)] as const).reverse();
    for (const operation of operations) {
      put(this.#records, operation.key, operation.type === 'put' ? operation.value : undefined);
    }
    this.#recent = [...this.#recent, undo].slice(-recentMax);
    if (sync) this.#unsynced = [];
    else this.#unsynced.push(undo);
  }
}

/** The blobs of one peer; each is on the disk before its hash is handed out. */
export class SimulatedBlobs {
  readonly #world: DiskWorld;
  readonly #blobs: Map<string, Uint8Array>;

  constructor(world: DiskWorld, blobs: ReadonlyMap<string, Uint8Array> = new Map()) {
    this.#world = world;
    this.#blobs = new Map(blobs);
  }

  get blobs(): ReadonlyMap<string, Uint8Array> {
    return this.#blobs;
  }

  open(life: Life): BlobStore {
    const { time, chance } = this.#world;
    const listeners = new Set<(hash: string, bytes: number) => void>();
    return {
      put: (bytes) =>
        new Promise((resolve) => {
          const hash = sha256Hex(bytes);
          for (const listener of listeners) listener(hash, bytes.byteLength);
          time.schedule(writeMs(chance), life, 'blob', () => {
            this.#blobs.set(hash, bytes);
            resolve(hash);
          });
        }),
      get: async (hash) => this.#blobs.get(hash),
      has: async (hash) => this.#blobs.has(hash),
      // As old as can be: whatever depends on it has nothing but its own process's time to go by.
      facts: async (hash) => {
        const found = this.#blobs.get(hash);
        return found === undefined ? undefined : { bytes: found.byteLength, storedAtMs: 0 };
      },
      delete: async (hash) => void this.#blobs.delete(hash),
      list: async () => [...this.#blobs.keys()],
      onPut(listener) {
        listeners.add(listener);
        return () => {
          listeners.delete(listener);
        };
      },
    };
  }
}

function diskFull(): ParleyError {
  return new ParleyError('disk-full', 'cannot write: no space left on the device', { retryable: true });
}

function put(records: Map<string, Uint8Array>, key: string, value: Uint8Array | undefined): void {
  if (value === undefined) records.delete(key);
  else records.set(key, value);
}

function copied(operation: StoreOperation): StoreOperation {
  return operation.type === 'put' ? { ...operation, value: new Uint8Array(operation.value) } : operation;
}
