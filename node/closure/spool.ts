// Owns the folder where NARs arrive: one file for each NarHash, `.part` until hash and size are proven, bounded in size,
// least recently used first to go. Files found at the start are hashed again before they count, so nothing needs a sync.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import { narHashDigits, toNarHash } from './nix32-core.ts';

/** Space left free on the disk for everybody else's small writes: ledger, journal, logs. */
const reserveBytes = 8 * 1024 * 1024;
const fileName = /^([0-9a-df-np-sv-z]{52})\.nar(\.part)?$/;

export interface Nar {
  /** `sha256:<52 digits>` */
  readonly narHash: string;
  readonly narSize: number;
}

export interface SpoolWriter {
  /** Bytes on disk: where to go on. */
  readonly bytes: number;
  /** @throws ParleyError `disk-full`; the file is removed then, to give its space back. */
  append(bytes: Uint8Array): Promise<void>;
  /** Starts over from nothing. */
  reset(): Promise<void>;
  /** Proves size and hash of what is on disk; only then the NAR is served. */
  prove(): Promise<boolean>;
  /** Keeps what is there for a later writer. */
  close(): Promise<void>;
}

export interface SpoolReader {
  read(offset: number, bytesMax: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

export interface Spool {
  start(): Promise<void>;
  /** Whether the whole NAR is there and proven; hashes it first when it was found at the start. */
  holds(nar: Nar): Promise<boolean>;
  /** Same, from memory: what was not proven yet does not count. */
  holdsNow(nar: Nar): boolean;
  /** Bytes of an unfinished NAR; 0 when there is none. */
  partialBytes(nar: Nar): number;
  /**
   * Opens an unfinished NAR to go on with, making room for the rest of it. One writer for a NAR at a time.
   * @throws ParleyError `disk-full` (retryable).
   */
  write(nar: Nar): Promise<SpoolWriter>;
  /** Opens what there is of a NAR, proven or not. */
  read(nar: Nar): Promise<SpoolReader>;
  /** Keeps these NARs until the owner lets go of them; a second call replaces the first. */
  pin(owner: string, nars: readonly Nar[]): void;
  /** Lets go and removes whatever no other owner keeps and nobody writes. */
  unpin(owner: string): Promise<void>;
  bytes(): number;
}

interface Entry {
  bytes: number;
  state: 'partial' | 'unproven' | 'proven';
  usedAt: number;
  /** Bytes that the open writer still expects; undefined when nobody writes. */
  expected: number | undefined;
}

export function createSpool(init: { readonly folder: string; readonly bytesMax: number }): Spool {
  const entries = new Map<string, Entry>();
  const pins = new Map<string, ReadonlySet<string>>();
  const proofs = new Map<string, Promise<boolean>>();
  let uses = 0;

  const path = (digits: string, entry: Pick<Entry, 'state'>): string =>
    join(init.folder, `${digits}.nar${entry.state === 'partial' ? '.part' : ''}`);
  const bytes = (): number => [...entries.values()].reduce((sum, entry) => sum + entry.bytes, 0);
  const expected = (): number => [...entries.values()].reduce((sum, entry) => sum + (entry.expected ?? 0), 0);
  const touch = (entry: Entry): void => {
    uses += 1;
    entry.usedAt = uses;
  };

  async function drop(digits: string, entry: Entry): Promise<void> {
    entries.delete(digits);
    await rm(path(digits, entry), { force: true });
  }

  async function makeRoom(needed: number): Promise<void> {
    const pinned = new Set([...pins.values()].flatMap((digits) => [...digits]));
    const idle = [...entries]
      .filter(([digits, entry]) => entry.expected === undefined && !pinned.has(digits))
      .sort(([, left], [, right]) => left.usedAt - right.usedAt);
    for (;;) {
      const disk = await statfs(init.folder);
      const free = Math.min(init.bytesMax - bytes(), disk.bavail * disk.bsize - reserveBytes) - expected();
      if (free >= needed) return;
      const [digits, entry] = idle.shift() ?? [];
      if (digits === undefined || entry === undefined) throw diskFull(init.folder, needed, Math.max(0, free));
      await drop(digits, entry);
    }
  }

  async function prove(digits: string, entry: Entry, narSize: number): Promise<boolean> {
    const hash = createHash('sha256');
    if (entry.bytes !== narSize) return false;
    for await (const piece of createReadStream(path(digits, entry), { highWaterMark: 256 * 1024 })) hash.update(piece);
    return toNarHash(hash.digest()) === `sha256:${digits}`;
  }

  async function proveFound(digits: string, entry: Entry): Promise<boolean> {
    const good = await prove(digits, entry, entry.bytes).catch(() => false);
    if (good) entry.state = 'proven';
    else if (entries.get(digits) === entry) await drop(digits, entry);
    return good;
  }

  const holdsNow = (nar: Nar): boolean => {
    const entry = entries.get(narHashDigits(nar.narHash));
    if (entry?.state !== 'proven' || entry.bytes !== nar.narSize) return false;
    touch(entry);
    return true;
  };

  return {
    holdsNow,
    bytes,

    async start() {
      await mkdir(init.folder, { recursive: true, mode: 0o700 });
      for (const name of (await readdir(init.folder)).sort()) {
        const [, digits, part] = fileName.exec(name) ?? [];
        if (digits === undefined || entries.get(digits)?.expected !== undefined) continue;
        const { size } = await stat(join(init.folder, name));
        if (part !== undefined && entries.has(digits)) await rm(join(init.folder, name), { force: true });
        else entries.set(digits, { bytes: size, state: part ? 'partial' : 'unproven', usedAt: 0, expected: undefined });
      }
    },

    async holds(nar) {
      const digits = narHashDigits(nar.narHash);
      const entry = entries.get(digits);
      if (entry?.state === 'unproven') {
        const proof = proofs.get(digits) ?? proveFound(digits, entry).finally(() => proofs.delete(digits));
        proofs.set(digits, proof);
        await proof;
      }
      return holdsNow(nar);
    },

    partialBytes(nar) {
      const entry = entries.get(narHashDigits(nar.narHash));
      return entry?.state === 'partial' ? entry.bytes : 0;
    },

    async write(nar) {
      const digits = narHashDigits(nar.narHash);
      const found = entries.get(digits);
      if (found !== undefined && (found.state !== 'partial' || found.bytes > nar.narSize)) await drop(digits, found);
      const entry = entries.get(digits) ?? { bytes: 0, state: 'partial', usedAt: 0, expected: undefined };
      if (entry.expected !== undefined) throw new Error(`two writers for ${digits}`);
      entry.expected = 0;
      entries.set(digits, entry);
      touch(entry);
      try {
        await makeRoom(nar.narSize - entry.bytes);
        entry.expected = nar.narSize - entry.bytes;
        const file = await open(path(digits, entry), 'a', 0o600);
        return createWriter({ nar, digits, entry, file, path: path(digits, entry), drop, prove, folder: init.folder });
      } catch (cause) {
        entry.expected = undefined;
        if (entry.bytes === 0) entries.delete(digits);
        throw asDiskFull(cause, init.folder, nar.narSize);
      }
    },

    async read(nar) {
      const digits = narHashDigits(nar.narHash);
      const entry = entries.get(digits);
      if (entry === undefined) throw new ParleyError('not-held', `${digits} is not in the spool`, { retryable: true });
      touch(entry);
      const part = path(digits, { state: 'partial' });
      const file = await open(part, 'r').catch(() => open(path(digits, { state: 'proven' }), 'r'));
      return createReader(file);
    },

    pin(owner, nars) {
      pins.set(owner, new Set(nars.map((nar) => narHashDigits(nar.narHash))));
    },

    async unpin(owner) {
      const released = pins.get(owner) ?? new Set();
      pins.delete(owner);
      for (const digits of released) {
        const entry = entries.get(digits);
        if (entry === undefined || entry.expected !== undefined) continue;
        if (![...pins.values()].some((kept) => kept.has(digits))) await drop(digits, entry);
      }
    },
  };
}

interface WriterInit {
  readonly nar: Nar;
  readonly digits: string;
  readonly entry: Entry;
  readonly file: FileHandle;
  readonly path: string;
  readonly folder: string;
  drop(digits: string, entry: Entry): Promise<void>;
  prove(digits: string, entry: Entry, narSize: number): Promise<boolean>;
}

function createWriter({ nar, digits, entry, file, path, folder, drop, prove }: WriterInit): SpoolWriter {
  const setBytes = (bytes: number): void => {
    entry.bytes = bytes;
    entry.expected = nar.narSize - bytes;
  };

  return {
    get bytes() {
      return entry.bytes;
    },

    async append(bytes) {
      try {
        for (let written = 0; written < bytes.byteLength; ) {
          written += (await file.write(bytes, written)).bytesWritten;
        }
      } catch (cause) {
        await file.truncate(0);
        setBytes(0);
        throw asDiskFull(cause, folder, nar.narSize);
      }
      setBytes(entry.bytes + bytes.byteLength);
    },

    async reset() {
      setBytes(0);
      await file.truncate(0);
    },

    async prove() {
      if (!(await prove(digits, entry, nar.narSize))) return false;
      await rename(path, path.slice(0, -'.part'.length));
      entry.state = 'proven';
      return true;
    },

    async close() {
      entry.expected = undefined;
      await file.close();
      if (entry.bytes === 0 && nar.narSize > 0) await drop(digits, entry);
    },
  };
}

function createReader(file: FileHandle): SpoolReader {
  return {
    async read(offset, bytesMax) {
      const buffer = Buffer.allocUnsafe(bytesMax);
      const { bytesRead } = await file.read(buffer, 0, bytesMax, offset);
      return buffer.subarray(0, bytesRead);
    },
    close: () => file.close(),
  };
}

function asDiskFull(cause: unknown, folder: string, needed: number): unknown {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  return code === 'ENOSPC' || code === 'EDQUOT' ? diskFull(folder, needed, 0, cause) : cause;
}

function diskFull(folder: string, needed: number, free: number, cause?: unknown): ParleyError {
  return new ParleyError(
    'disk-full',
    `no room for ${needed} more bytes in '${folder}': ${free} bytes are free for it`,
    {
      hint: 'Free space on that disk or raise the limit of the spool; what is there already is kept.',
      retryable: true,
      cause,
    },
  );
}
