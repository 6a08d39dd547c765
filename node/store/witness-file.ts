// Owns a small file that holds one record twice over: two slots, each with a checksum, written in turn and in place. A write
// that is torn leaves the record before it, and nothing but this file's own blocks is synced.

import { hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import type { RecordFile } from '../interfaces.ts';
import { syncFolder } from './files.ts';
import { toStoreError } from './store-errors.ts';

/** Slots lie a page apart, so that no disk or file system rewrites both at once. */
const slotSpacingBytes = 4096;
/** One sector: the unit that disks write whole or not at all. */
const slotBytes = 512;
const checksumBytes = 32;
/** Checksum, sequence number (6 bytes), length of the record (2 bytes). */
const headerBytes = checksumBytes + 8;
const recordBytesMax = slotBytes - headerBytes;
/** Each write returns once it is on the disk: one call where a write and a sync would be two. */
const openFlags = constants.O_RDWR | constants.O_DSYNC;

interface Slot {
  readonly position: 0 | 1;
  /** Grows by one with each write; the higher of two whole slots is the newer. */
  readonly sequence: number;
  readonly record: Uint8Array;
}

/**
 * The record file at a path, which is made at the first write. Only one process may use it (see lockStateFolder).
 * Its functions throw ParleyError `too-large` over 472 bytes, `disk-full` (retryable) or `store-failed`.
 */
export function createWitnessFile(path: string): RecordFile {
  let handle: FileHandle | undefined;
  /** Undefined until the file was read, null while it holds no whole record. */
  let newest: Slot | null | undefined;

  async function load(): Promise<Slot | null> {
    if (newest !== undefined) return newest;
    handle ??= await open(path, openFlags).catch(absentOrThrow);
    newest = handle === undefined ? null : await readNewest(handle);
    return newest;
  }

  /** The slot that does not hold the newest record; a write that fails may have torn it, so the next one takes it again. */
  async function replaceOlder(record: Uint8Array): Promise<void> {
    const last = await load();
    if (last === null) return create(record);
    const slot: Slot = { position: last.position === 0 ? 1 : 0, sequence: last.sequence + 1, record };
    const bytes = encodeSlot(slot);
    await handle?.write(bytes, 0, bytes.byteLength, slot.position * slotSpacingBytes);
    newest = slot;
  }

  /** All blocks are taken now, so that later writes change none of the file system's own records. */
  async function create(record: Uint8Array): Promise<void> {
    handle ??= await open(path, openFlags | constants.O_CREAT, 0o600);
    const slot: Slot = { position: 0, sequence: 1, record };
    const whole = Buffer.alloc(2 * slotSpacingBytes);
    whole.set(encodeSlot(slot));
    await handle.write(whole, 0, whole.byteLength, 0);
    await handle.sync();
    await syncFolder(dirname(path));
    newest = slot;
  }

  return {
    read: () => guarded('read', path, async () => (await load())?.record),
    async write(record) {
      if (record.byteLength > recordBytesMax) {
        const text = `a record of ${record.byteLength} bytes does not fit '${path}': the limit is ${recordBytesMax}`;
        throw new ParleyError('too-large', text);
      }
      await guarded('write', path, () => replaceOlder(record));
    },
    async close() {
      await handle?.close();
      handle = undefined;
      newest = undefined;
    },
  };
}

async function guarded<Result>(action: string, path: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (cause) {
    throw toStoreError(action, path, cause);
  }
}

function encodeSlot({ sequence, record }: Slot): Buffer {
  const bytes = Buffer.alloc(slotBytes);
  bytes.writeUIntBE(sequence, checksumBytes, 6);
  bytes.writeUInt16BE(record.byteLength, checksumBytes + 6);
  bytes.set(record, headerBytes);
  bytes.set(checksumOf(bytes));
  return bytes;
}

function checksumOf(slot: Buffer): Buffer {
  return hash('sha256', slot.subarray(checksumBytes), 'buffer');
}

async function readNewest(handle: FileHandle): Promise<Slot | null> {
  const whole = Buffer.alloc(2 * slotSpacingBytes);
  await handle.read(whole, 0, whole.byteLength, 0);
  const [first, second] = ([0, 1] as const).map((position) => decodeSlot(whole, position));
  if (first && second) return first.sequence > second.sequence ? first : second;
  return first ?? second ?? null;
}

function decodeSlot(whole: Buffer, position: 0 | 1): Slot | undefined {
  const bytes = whole.subarray(position * slotSpacingBytes, position * slotSpacingBytes + slotBytes);
  if (!checksumOf(bytes).equals(bytes.subarray(0, checksumBytes))) return undefined;
  const length = bytes.readUInt16BE(checksumBytes + 6);
  const record = new Uint8Array(bytes.subarray(headerBytes, headerBytes + length));
  return { position, sequence: bytes.readUIntBE(checksumBytes, 6), record };
}

function absentOrThrow(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
