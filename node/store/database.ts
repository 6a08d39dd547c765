// Owns the ordered key-value database: classic-level behind KeyValueStore. Batches are written one at a time, and those
// that wait are written together: one disk sync serves many callers. After a failed write LevelDB's log may end in half a
// record, and what it acknowledges behind that can be lost at the next start; so the database is reopened before it takes more.

import { mkdir, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { ParleyError } from '../../protocols/errors.ts';
import type { KeyValueStore, StoreOperation } from '../interfaces.ts';
import { syncFolder } from './files.ts';
import { toStoreError } from './store-errors.ts';

/** Batches written as one: bounds how much a single failed write takes down with it. */
const groupMax = 64;
/** Bytes an iterator reads ahead: one page of entries; LevelDB's default of 16 KiB costs a thread hop per entry. */
const readAheadBytes = 1024 * 1024;
/** Free bytes before a failed database is reopened: recovery writes the log anew as a table (4 MiB buffer) before anything else. */
const reopenBytesMin = 8 * 1024 * 1024;

type Database = ClassicLevel<string, Uint8Array>;

interface WaitingBatch {
  readonly operations: readonly StoreOperation[];
  readonly sync: boolean;
  readonly resolve: () => void;
  readonly reject: (error: ParleyError) => void;
}

/**
 * Opens (or creates) the database in a folder. Batches take effect in the order of the calls, also when they are not awaited.
 * A batch that rejects may or may not have been applied; `disk-full` goes away by itself once there is space again.
 * @throws ParleyError `store-locked`, `disk-full` (retryable), `store-damaged` or `store-failed`.
 */
export async function openStore(folder: string): Promise<KeyValueStore> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await syncFolder(dirname(folder));
  } catch (cause) {
    throw toStoreError('create the store', folder, cause);
  }
  let database = await openDatabase(folder);
  let closed = false;
  let failure: ParleyError | undefined;
  const waiting: WaitingBatch[] = [];
  let writing: Promise<void> | undefined;
  let reopening: Promise<void> | undefined;

  async function writeWaiting(): Promise<void> {
    while (waiting.length > 0) {
      const group = waiting.splice(0, groupMax);
      try {
        await writeGroup(group);
        for (const batch of group) batch.resolve();
      } catch (cause) {
        const error = toStoreError('write to the store', folder, cause);
        for (const batch of group) batch.reject(error);
      }
    }
    writing = undefined;
  }

  async function writeGroup(group: readonly WaitingBatch[]): Promise<void> {
    if (failure !== undefined) await reopen();
    const operations = group.flatMap((batch) => batch.operations);
    try {
      await database.batch([...operations], { sync: group.some((batch) => batch.sync) });
    } catch (cause) {
      failure = toStoreError('write to the store', folder, cause);
      throw failure;
    }
  }

  /** One reopening at a time. Waits for space first, so that reads can go on with the open database. */
  function reopen(): Promise<void> {
    reopening ??= replaceDatabase().finally(() => {
      reopening = undefined;
    });
    return reopening;
  }

  async function replaceDatabase(): Promise<void> {
    const space = await statfs(folder);
    if (failure?.code === 'disk-full' && space.bavail * space.bsize < reopenBytesMin) throw failure;
    await database.close();
    database = await openDatabase(folder);
    failure = undefined;
  }

  async function read<T>(action: (open: Database) => Promise<T>): Promise<T> {
    if (closed) throw closedError(folder);
    try {
      if (database.status !== 'open') await reopen();
      return await action(database);
    } catch (cause) {
      throw toStoreError('read from the store', folder, cause);
    }
  }

  return {
    get: (key) => read(async (open) => asPlainBytes(await open.get(key))),
    batch(operations, { sync }) {
      if (closed) return Promise.reject(closedError(folder));
      const written = new Promise<void>((resolve, reject) => waiting.push({ operations, sync, resolve, reject }));
      writing ??= writeWaiting();
      return written;
    },
    range: (options) => read((open) => readRange(open, options)),
    async close() {
      if (closed) return;
      closed = true;
      await writing;
      await reopening?.catch(() => undefined);
      await database.close();
    },
  };
}

async function readRange(
  database: Database,
  { gte, lt, limit = Number.POSITIVE_INFINITY, reverse = false }: Parameters<KeyValueStore['range']>[0],
): Promise<[string, Uint8Array][]> {
  const pairs: [string, Uint8Array][] = [];
  const iterator = database.iterator({ gte, lt, reverse, highWaterMarkBytes: readAheadBytes });
  try {
    while (pairs.length < limit) {
      const page = await iterator.nextv(Math.min(limit - pairs.length, 1000));
      if (page.length === 0) break;
      for (const [key, value] of page) pairs.push([key, asPlainBytes(value)]);
    }
    return pairs;
  } finally {
    await iterator.close();
  }
}

/** LevelDB's own defaults (8 MiB and twice 4 MiB a database) are for larger machines; our databases are a few MiB. */
const cacheBytes = 1024 * 1024;
const writeBufferBytes = 1024 * 1024;

async function openDatabase(folder: string): Promise<Database> {
  const database: Database = new ClassicLevel(folder, {
    keyEncoding: 'utf8',
    valueEncoding: 'view',
    cacheSize: cacheBytes,
    writeBufferSize: writeBufferBytes,
  });
  try {
    await database.open();
    return database;
  } catch (cause) {
    throw toStoreError('open the store', folder, cause);
  }
}

function asPlainBytes(value: Uint8Array): Uint8Array;
function asPlainBytes(value: Uint8Array | undefined): Uint8Array | undefined;
function asPlainBytes(value: Uint8Array | undefined): Uint8Array | undefined {
  return value === undefined ? undefined : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

function closedError(folder: string): ParleyError {
  return new ParleyError('store-closed', `cannot use the store '${folder}': it has been closed`);
}
