// Owns single files of the spool: appending to an unfinished NAR, proving it, reading it. What a file means to the spool as
// a whole, room and pins, is in spool.ts.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import { toNarHash } from '../../protocols/nix32.ts';

const readAheadBytes = 256 * 1024;

export interface Nar {
  /** `sha256:<52 digits>` */
  readonly narHash: string;
  readonly narSize: number;
}

/** What the spool knows of one file. */
export interface Entry {
  readonly digits: string;
  /** Changed by the spool alone, which keeps the sums. */
  readonly bytes: number;
  /** `unproven`: found whole at the start, its hash not checked yet. */
  state: 'partial' | 'unproven' | 'proven';
  /** Order of use, not a time. */
  usedAt: number;
  /** Bytes that the open writer still expects; undefined when nobody writes. Changed by the spool alone. */
  readonly expectedBytes: number | undefined;
}

export interface SpoolWriter {
  /** Bytes on disk: where to go on. */
  readonly bytes: number;
  /** @throws ParleyError `disk-full` (retryable); the file is emptied then, to give its space back. */
  append(bytes: Uint8Array): Promise<void>;
  /** Starts over from nothing. */
  reset(): Promise<void>;
  /** Proves size and hash of what was written, read back where this writer did not write all of it; only then the NAR is served. */
  prove(): Promise<boolean>;
  /** Keeps what is there for a later writer. */
  close(): Promise<void>;
}

export interface SpoolReader {
  read(offset: number, bytesMax: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

export function entryPath(folder: string, digits: string, state: Entry['state']): string {
  return join(folder, `${digits}.nar${state === 'partial' ? '.part' : ''}`);
}

/** Whether the file has this size and the hash that its name says. */
export async function isGenuine(folder: string, entry: Entry, narSize: number): Promise<boolean> {
  if (entry.bytes !== narSize) return false;
  const hash = createHash('sha256');
  const path = entryPath(folder, entry.digits, entry.state);
  for await (const piece of createReadStream(path, { highWaterMark: readAheadBytes })) hash.update(piece);
  return toNarHash(hash.digest()) === `sha256:${entry.digits}`;
}

export interface WriterInit {
  readonly folder: string;
  readonly entry: Entry;
  readonly nar: Nar;
  /** Tells the spool how many bytes the file has now. */
  readonly setBytes: (bytes: number) => void;
  /** Called once the file is closed. */
  readonly onClose: () => Promise<void>;
}

/** Opens an unfinished NAR to go on with. */
export async function openWriter({ folder, entry, nar, setBytes, onClose }: WriterInit): Promise<SpoolWriter> {
  const partPath = entryPath(folder, entry.digits, 'partial');
  const file = await open(partPath, 'a', 0o600).catch((cause: unknown) => fail(cause, folder, nar.narSize));

  let hash = entry.bytes === 0 ? createHash('sha256') : undefined;

  async function empty(): Promise<void> {
    setBytes(0);
    hash = createHash('sha256');
    await file.truncate(0);
  }

  async function isProven(): Promise<boolean> {
    if (hash === undefined) return await isGenuine(folder, entry, nar.narSize);
    return entry.bytes === nar.narSize && toNarHash(hash.copy().digest()) === nar.narHash;
  }

  return {
    get bytes() {
      return entry.bytes;
    },
    reset: empty,

    async append(bytes) {
      try {
        await writeAll(file, bytes);
      } catch (cause) {
        await empty();
        fail(cause, folder, nar.narSize);
      }
      hash?.update(bytes);
      setBytes(entry.bytes + bytes.byteLength);
    },

    async prove() {
      if (!(await isProven())) return false;
      await rename(partPath, entryPath(folder, entry.digits, 'proven'));
      entry.state = 'proven';
      return true;
    },

    async close() {
      await file.close();
      await onClose();
    },
  };
}

/** Opens what there is of a NAR; it stays readable while it grows, when it is proven and when it is removed. */
export async function openReader(folder: string, digits: string): Promise<SpoolReader> {
  const part = entryPath(folder, digits, 'partial');
  const file = await open(part, 'r').catch(() => open(entryPath(folder, digits, 'proven'), 'r'));
  return {
    async read(offset, bytesMax) {
      const buffer = Buffer.allocUnsafe(bytesMax);
      const { bytesRead } = await file.read(buffer, 0, bytesMax, offset);
      return buffer.subarray(0, bytesRead);
    },
    close: () => file.close(),
  };
}

export function diskFull(folder: string, neededBytes: number, freeBytes: number, cause?: unknown): ParleyError {
  const message = `no room for ${neededBytes} more bytes in '${folder}': ${freeBytes} bytes are free for it`;
  return new ParleyError('disk-full', message, {
    hint: 'Free space on that disk or raise the limit of the spool; what is there already is kept.',
    retryable: true,
    cause,
  });
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.byteLength; ) written += (await file.write(bytes, written)).bytesWritten;
}

function fail(cause: unknown, folder: string, neededBytes: number): never {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  throw code === 'ENOSPC' || code === 'EDQUOT' ? diskFull(folder, neededBytes, 0, cause) : cause;
}
