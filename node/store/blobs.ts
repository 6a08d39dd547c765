// Owns bodies too large for a ledger entry, as files named by their hash in subfolders of two characters. A blob is on the
// disk before its hash is handed out, and is checked against that hash whenever it is read.

import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { check, sha256Hex } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { blobBytesMax } from '../../protocols/limits.ts';
import { hashSchema } from '../../protocols/primitives.ts';
import type { BlobFacts, BlobStore } from '../interfaces.ts';
import { replaceDurably, syncFolder } from './files.ts';
import { toStoreError } from './store-errors.ts';

/**
 * The blob store in a folder, which is made at the first write. Only one process may use it (see lockStateFolder).
 * Its functions throw ParleyError `too-large` over blobBytesMax, `malformed` for what is no hash, `disk-full` (retryable) or `store-failed`.
 */
export function createBlobStore(folder: string): BlobStore {
  const temporaryFolder = join(folder, 'incoming');
  const writes = new Map<string, Promise<void>>();
  const removals = new Map<string, Promise<void>>();
  const listeners = new Set<(hash: string, bytes: number) => void>();
  let prepared: Promise<void> | undefined;
  let temporaryNumber = 0;

  /** What an earlier process left half-written goes away. */
  async function prepare(): Promise<void> {
    await rm(temporaryFolder, { recursive: true, force: true });
    await mkdir(temporaryFolder, { recursive: true, mode: 0o700 });
    await syncFolder(dirname(folder));
  }

  async function write(hash: string, bytes: Uint8Array): Promise<void> {
    await removals.get(hash)?.catch(() => undefined);
    prepared ??= prepare();
    await prepared.catch((error) => {
      prepared = undefined;
      throw error;
    });
    const subfolder = join(folder, hash.slice(0, 2));
    if (await mkdir(subfolder, { recursive: true, mode: 0o700 })) await syncFolder(folder);
    if ((await readChecked(hash)) !== undefined) {
      await syncFolder(subfolder);
      return;
    }
    temporaryNumber += 1;
    await replaceDurably(join(subfolder, hash), bytes, join(temporaryFolder, String(temporaryNumber)));
  }

  const pathOf = (hash: string): string => join(folder, hash.slice(0, 2), hash);

  async function factsOf(hash: string): Promise<BlobFacts | undefined> {
    checkHash(hash);
    await removals.get(hash)?.catch(() => undefined);
    const found = await named('look up a blob in', folder, stat(pathOf(hash)).catch(absentOrThrow));
    return found === undefined ? undefined : { bytes: found.size, storedAtMs: Math.floor(found.mtimeMs) };
  }

  /** After what was begun before: a write that begins meanwhile waits for this one. */
  async function remove(hash: string): Promise<void> {
    await Promise.allSettled([removals.get(hash), writes.get(hash)]);
    await rm(pathOf(hash), { force: true });
  }

  async function readChecked(hash: string): Promise<Uint8Array | undefined> {
    const path = pathOf(hash);
    const size = (await stat(path).catch(absentOrThrow))?.size;
    if (size === undefined) return undefined;
    const bytes = size <= blobBytesMax ? await readFile(path).catch(absentOrThrow) : undefined;
    if (bytes !== undefined && sha256Hex(bytes) === hash) {
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    await rm(path, { force: true });
    return undefined;
  }

  return {
    async put(bytes) {
      if (bytes.byteLength > blobBytesMax) {
        throw new ParleyError('too-large', `a blob of ${bytes.byteLength} bytes: the limit is ${blobBytesMax}`);
      }
      const hash = sha256Hex(bytes);
      for (const listener of listeners) listener(hash, bytes.byteLength);
      let writing = writes.get(hash);
      if (writing === undefined) {
        writing = write(hash, bytes).finally(() => writes.delete(hash));
        writes.set(hash, writing);
      }
      await named('store a blob in', folder, writing);
      return hash;
    },
    async get(hash) {
      checkHash(hash);
      await writes.get(hash)?.catch(() => undefined);
      return named('read a blob from', folder, readChecked(hash));
    },
    facts: factsOf,
    has: async (hash) => (await factsOf(hash)) !== undefined,
    async delete(hash) {
      checkHash(hash);
      const removing = remove(hash).finally(() => {
        if (removals.get(hash) === removing) removals.delete(hash);
      });
      removals.set(hash, removing);
      await named('delete a blob from', folder, removing);
    },
    list: () => named('list the blobs of', folder, listHashes(folder)),
    onPut(listener) {
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
      };
    },
  };
}

async function listHashes(folder: string): Promise<string[]> {
  const hashes: string[] = [];
  for (const prefix of (await readdir(folder).catch(absentOrThrow)) ?? []) {
    if (!/^[0-9a-f]{2}$/.test(prefix)) continue;
    for (const name of await readdir(join(folder, prefix))) if (/^[0-9a-f]{64}$/.test(name)) hashes.push(name);
  }
  return hashes.sort();
}

function checkHash(hash: string): void {
  check(hashSchema, hash, 'blob hash');
}

function absentOrThrow(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
  throw error;
}

async function named<T>(action: string, folder: string, result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (cause) {
    throw toStoreError(action, folder, cause);
  }
}
