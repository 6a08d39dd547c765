// Owns the form in which a log lies on the disk: entries with the hash that ties them together, the sealed records of its
// start and end, the parts of a received snapshot; and reading each with the checks that notice what was altered.

import { decode, encode, sha256Hex } from '../../protocols/codec.ts';
import * as records from '../../protocols/consensus-record.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import type { KeyValueStore, StoreOperation } from '../interfaces.ts';
import { endOf, numberedKey } from '../keys.ts';
import { damaged } from './log-damage.ts';

/** Where an entry lies in the chain. */
export type ChainPlace = Pick<records.ChainedEntry, 'index' | 'chainHash'>;

/** The state machine's encoded state with what it stands for: made here for a follower, or received from the leader. */
export interface Snapshot {
  readonly metadata: records.SnapshotMetadata;
  readonly body: Uint8Array;
}

export const tailKey = 'tail';
export const snapshotKey = 'snapshot';
const entryPrefix = 'entry/';
const bodyPrefix = 'snapshot-body/';
/** Entries read at once while opening. */
const pageEntries = 1_000;
const recordBytesMax = messageBytesMax;
export const noBodyHash = sha256Hex('');

export const entryKey = (index: number): string => numberedKey(entryPrefix, index);
export const bodyKey = (part: number): string => `${bodyPrefix}${String(part).padStart(4, '0')}`;

export function metadataOf({
  index,
  term,
  chainHash,
  configuration,
}: records.SnapshotMetadata): records.SnapshotMetadata {
  return { index, term, chainHash, configuration };
}

export function putEntries(before: string, entries: readonly records.ChainedEntry[]): StoreOperation[] {
  let previous = before;
  return entries.map((entry) => {
    const value = encode({ version: 1, ...entry, previous });
    previous = entry.chainHash;
    return { type: 'put', key: entryKey(entry.index), value };
  });
}

export function chainEntries(start: string, entries: readonly records.RaftEntry[]): records.ChainedEntry[] {
  let previous = start;
  return entries.map(({ index, term, type, data }) => {
    const chainHash = records.entryChainHash(previous, { index, term, type, data });
    previous = chainHash;
    return { index, term, type, data, chainHash };
  });
}

export async function readEntries(
  store: KeyValueStore,
  base: records.SnapshotMetadata,
): Promise<records.ChainedEntry[]> {
  const entries: records.ChainedEntry[] = [];
  let previous = base.chainHash;
  let next = base.index + 1;
  let from = entryPrefix;
  for (;;) {
    const page = await store.range({ gte: from, lt: endOf(entryPrefix), limit: pageEntries });
    for (const [key, value] of page) {
      const entry = chainedEntry(key, value, { index: next - 1, chainHash: previous });
      entries.push(entry);
      previous = entry.chainHash;
      next += 1;
    }
    const last = page.at(-1);
    if (last === undefined || page.length < pageEntries) return entries;
    from = `${last[0]}\0`;
  }
}

/** The entry in a record, which follows on a place of the chain. @throws ParleyError `damaged-log`. */
function chainedEntry(key: string, value: Uint8Array, place: ChainPlace): records.ChainedEntry {
  const record = decodeRecord(records.entryRecordSchema, value, key);
  const next = place.index + 1;
  if (key !== entryKey(next) || record.index !== next) {
    throw damaged(`the entry ${next} is missing: '${key}' follows`);
  }
  const { index, term, type, data, chainHash } = record;
  if (record.previous !== place.chainHash || records.entryChainHash(place.chainHash, record) !== chainHash) {
    throw damaged(`the entry ${index} does not fit the hash chain`);
  }
  return { index, term, type, data, chainHash };
}

/** The entry after a place of the chain, whatever became of the rest of the log; undefined where there is none that fits. */
export async function soundEntryAfter(
  store: KeyValueStore,
  place: ChainPlace,
): Promise<records.ChainedEntry | undefined> {
  const key = entryKey(place.index + 1);
  try {
    const value = await store.get(key);
    return value && chainedEntry(key, value, place);
  } catch {
    return undefined;
  }
}

/** The sealed records of a log, where it starts and the body of the snapshot that it was sent, each undefined where it is missing or damaged. */
export async function soundRecords(store: KeyValueStore): Promise<{
  readonly tail: records.TailRecord | undefined;
  readonly base: records.SnapshotMetadata | undefined;
  readonly received: Snapshot | undefined;
}> {
  const orNone = <T>(read: Promise<T | undefined>): Promise<T | undefined> => read.catch(() => undefined);
  const tail = await orNone(readTail(store));
  const snapshot = await orNone(readSnapshot(store));
  const body = snapshot && (await orNone(readBody(store, snapshot)));
  const base = snapshot && metadataOf(snapshot);
  return { tail, base, received: base && body && { metadata: base, body } };
}

export async function readBody(
  store: KeyValueStore,
  { parts, bodyHash }: Pick<records.SnapshotRecord, 'parts' | 'bodyHash'>,
): Promise<Uint8Array | undefined> {
  if (parts === 0) return undefined;
  const pairs = await store.range({ gte: bodyPrefix, lt: bodyKey(parts) });
  const body = new Uint8Array(Buffer.concat(pairs.map(([, value]) => value)));
  if (pairs.length !== parts || sha256Hex(body) !== bodyHash) {
    throw damaged('the snapshot that was received is not whole');
  }
  return body;
}

export function putTail(tail: Omit<records.TailRecord, 'version' | 'seal'>): StoreOperation {
  return putSealed(tailKey, { version: 1, ...tail });
}

export function putSnapshot(base: records.SnapshotMetadata, parts: number, bodyHash: string): StoreOperation {
  const { index, term, chainHash, configuration } = base;
  return putSealed(snapshotKey, { version: 1, index, term, chainHash, configuration, parts, bodyHash });
}

function putSealed(key: string, record: object): StoreOperation {
  return { type: 'put', key, value: encode({ ...record, seal: records.sealOf(record) }) };
}

/** @throws ParleyError `damaged-log`. */
export function readTail(store: KeyValueStore): Promise<records.TailRecord | undefined> {
  return readSealed(store, tailKey, records.tailRecordSchema);
}

/** @throws ParleyError `damaged-log`. */
export function readSnapshot(store: KeyValueStore): Promise<records.SnapshotRecord | undefined> {
  return readSealed(store, snapshotKey, records.snapshotRecordSchema);
}

async function readSealed<T extends { seal: string }>(
  store: KeyValueStore,
  key: string,
  schema: Parameters<typeof decode<T>>[0],
): Promise<T | undefined> {
  const bytes = await store.get(key);
  if (bytes === undefined) return undefined;
  const record = decodeRecord(schema, bytes, key);
  if (records.sealOf(record) !== record.seal) throw damaged(`the record '${key}' does not fit its seal`);
  return record;
}

function decodeRecord<T>(schema: Parameters<typeof decode<T>>[0], bytes: Uint8Array, key: string): T {
  try {
    return decode(schema, bytes, recordBytesMax, `record '${key}'`);
  } catch (cause) {
    throw damaged(`the record '${key}' cannot be read`, cause);
  }
}

export function partsOf(body: Uint8Array): Uint8Array[] {
  const size = records.snapshotPartBytesMax;
  return Array.from({ length: Math.ceil(body.byteLength / size) }, (_, part) =>
    body.subarray(part * size, (part + 1) * size),
  );
}
