// Owns the folder where NARs arrive: one file for each NarHash, `.part` until hash and size are proven, bounded in size,
// least recently used first to go. Files found at the start are hashed again before they count, so nothing needs a sync.

import { mkdir, readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import { narHashDigits } from '../../protocols/nix32.ts';
import {
  diskFull,
  type Entry,
  entryPath,
  isGenuine,
  type Nar,
  openReader,
  openWriter,
  type SpoolReader,
  type SpoolWriter,
} from './spool-file.ts';

/** Space left free on the disk for everybody else's small writes: ledger, journal, logs. */
const reserveBytes = 8 * 1024 * 1024;
const fileName = /^([0-9a-df-np-sv-z]{52})\.nar(\.part)?$/;

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
  /**
   * Opens what there is of a NAR, proven or not.
   * @throws ParleyError `not-held` (retryable).
   */
  read(nar: Nar): Promise<SpoolReader>;
  /** Keeps these NARs until the owner lets go of them; a second call replaces the first. */
  pin(owner: string, nars: readonly Nar[]): void;
  /** Lets go and removes whatever no other owner keeps and nobody writes. */
  unpin(owner: string): Promise<void>;
  /** Removes what no owner keeps and nobody used since the sweep before. */
  sweep(): Promise<void>;
  bytes(): number;
}

type MutableEntry = { -readonly [Key in keyof Entry]: Entry[Key] };

interface Table {
  readonly folder: string;
  readonly bytesMax: number;
  readonly entries: Map<string, MutableEntry>;
  readonly pins: Map<string, ReadonlySet<string>>;
  readonly proofs: Map<string, Promise<void>>;
  /** Files on their way out, which a new file of the same name must wait for. */
  readonly removals: Map<string, Promise<void>>;
  uses: number;
  /** The count of uses at the last sweep. */
  sweptAt: number;
  /** Sum of the entries' bytes. */
  bytes: number;
  /** Sum of what open writers still expect. */
  expectedBytes: number;
}

export function createSpool(init: { readonly folder: string; readonly bytesMax: number }): Spool {
  const table = createTable(init);
  const find = (nar: Nar): MutableEntry | undefined => table.entries.get(nar.narHash.slice('sha256:'.length));

  const holdsNow = (nar: Nar): boolean => {
    const entry = find(nar);
    return entry?.state === 'proven' && entry.bytes === nar.narSize;
  };

  return {
    holdsNow,
    start: () => scan(table),
    bytes: () => table.bytes,

    async holds(nar) {
      const entry = find(nar);
      if (entry?.state === 'unproven') {
        const { digits } = entry;
        const proof = table.proofs.get(digits) ?? proveFound(table, entry).finally(() => table.proofs.delete(digits));
        table.proofs.set(digits, proof);
        await proof;
      }
      return holdsNow(nar);
    },

    partialBytes(nar) {
      const entry = find(nar);
      return entry?.state === 'partial' ? entry.bytes : 0;
    },

    write: (nar) => write(table, nar),

    async read(nar) {
      const entry = find(nar);
      if (entry !== undefined) {
        touch(table, entry);
        return await openReader(table.folder, entry.digits);
      }
      throw new ParleyError('not-held', `${nar.narHash} is not in the spool`, { retryable: true });
    },

    pin: (owner, nars) => void table.pins.set(owner, new Set(nars.map((nar) => narHashDigits(nar.narHash)))),

    async unpin(owner) {
      const released = table.pins.get(owner) ?? new Set();
      table.pins.delete(owner);
      const kept = pinned(table);
      for (const digits of released) {
        const entry = kept.has(digits) ? undefined : table.entries.get(digits);
        if (entry !== undefined && entry.expectedBytes === undefined) await drop(table, entry);
      }
    },

    async sweep() {
      const stale = evictable(table).filter((entry) => entry.usedAt <= table.sweptAt);
      table.sweptAt = table.uses;
      for (const entry of stale) if (entry.expectedBytes === undefined) await drop(table, entry);
    },
  };
}

function createTable(init: { readonly folder: string; readonly bytesMax: number }): Table {
  const maps = { entries: new Map(), pins: new Map(), proofs: new Map(), removals: new Map() };
  return { ...init, ...maps, uses: 0, sweptAt: 0, bytes: 0, expectedBytes: 0 };
}

async function scan(table: Table): Promise<void> {
  const { folder, entries } = table;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (const name of (await readdir(folder)).sort()) {
    const [, digits, part] = fileName.exec(name) ?? [];
    if (digits === undefined || entries.get(digits)?.expectedBytes !== undefined) continue;
    const { size } = await stat(join(folder, name));
    const state = part === undefined ? 'unproven' : 'partial';
    if (state === 'partial' && entries.has(digits)) await rm(join(folder, name), { force: true });
    else account(table, add(table, digits, state), size, undefined);
  }
}

async function proveFound(table: Table, entry: MutableEntry): Promise<void> {
  if (await isGenuine(table.folder, entry, entry.bytes).catch(() => false)) entry.state = 'proven';
  else if (table.entries.get(entry.digits) === entry) await drop(table, entry);
}

async function write(table: Table, nar: Nar): Promise<SpoolWriter> {
  const { folder } = table;
  const digits = narHashDigits(nar.narHash);
  await table.removals.get(digits);
  const found = table.entries.get(digits);
  const isUsable = found === undefined || (found.state === 'partial' && found.bytes <= nar.narSize);
  if (!isUsable) await drop(table, found);
  const entry = table.entries.get(digits) ?? add(table, digits, 'partial');
  if (entry.expectedBytes !== undefined) throw new Error(`two writers for ${digits}`);
  account(table, entry, entry.bytes, 0);
  touch(table, entry);
  const setBytes = (bytes: number): void => account(table, entry, bytes, nar.narSize - bytes);
  const onClose = async (): Promise<void> => {
    account(table, entry, entry.bytes, undefined);
    if (entry.bytes === 0) await drop(table, entry);
  };
  try {
    await makeRoom(table, entry, nar.narSize - entry.bytes);
    return await openWriter({ folder, entry, nar, setBytes, onClose });
  } catch (error) {
    await onClose();
    throw error;
  }
}

/** Removes what nobody keeps, the least recently used first, until the rest of an entry has room; reserves that. */
async function makeRoom(table: Table, entry: MutableEntry, neededBytes: number): Promise<void> {
  let idle: MutableEntry[] | undefined;
  for (;;) {
    const disk = await statfs(table.folder);
    const onDisk = disk.bavail * disk.bsize - reserveBytes;
    const freeBytes = Math.min(onDisk, table.bytesMax - table.bytes) - table.expectedBytes;
    if (freeBytes >= neededBytes) return account(table, entry, entry.bytes, neededBytes);
    idle ??= evictable(table);
    const oldest = idle.shift();
    if (oldest === undefined) throw diskFull(table.folder, neededBytes, Math.max(0, freeBytes));
    const isIdle = oldest.expectedBytes === undefined && table.entries.get(oldest.digits) === oldest;
    if (isIdle) await drop(table, oldest);
  }
}

function evictable(table: Table): MutableEntry[] {
  const kept = pinned(table);
  return [...table.entries.values()]
    .filter((entry) => entry.expectedBytes === undefined && !kept.has(entry.digits))
    .sort((left, right) => left.usedAt - right.usedAt);
}

function pinned({ pins }: Table): ReadonlySet<string> {
  return new Set([...pins.values()].flatMap((digits) => [...digits]));
}

function add({ entries }: Table, digits: string, state: Entry['state']): MutableEntry {
  const entry: MutableEntry = { digits, bytes: 0, state, usedAt: 0, expectedBytes: undefined };
  entries.set(digits, entry);
  return entry;
}

async function drop(table: Table, entry: MutableEntry): Promise<void> {
  const path = entryPath(table.folder, entry.digits, entry.state);
  account(table, entry, 0, undefined);
  table.entries.delete(entry.digits);
  const removal = rm(path, { force: true }).finally(() => table.removals.delete(entry.digits));
  table.removals.set(entry.digits, removal);
  await removal;
}

function account(table: Table, entry: MutableEntry, bytes: number, expectedBytes: number | undefined): void {
  table.bytes += bytes - entry.bytes;
  table.expectedBytes += (expectedBytes ?? 0) - (entry.expectedBytes ?? 0);
  entry.bytes = bytes;
  entry.expectedBytes = expectedBytes;
}

function touch(table: Table, entry: MutableEntry): void {
  table.uses += 1;
  entry.usedAt = table.uses;
}
