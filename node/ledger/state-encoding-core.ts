// Owns encoding a whole state in small steps. It gives the same bytes as `encode`, but a record that has not changed since
// the last time is not encoded again, and the caller may do other things between steps: a fleet of a thousand devices has
// a state of several MiB, and a voter that is busy for half a second loses its leadership.

import { encode } from '../../protocols/codec.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { isTableName } from './tables-core.ts';

/** Records encoded in one step. */
const stepRecords = 64;
/** Bytes put together in one step. */
const stepBytes = 1024 * 1024;

/** Encodings of records, which never change, for as long as the records live. */
const encodings = new WeakMap<object, Uint8Array>();

/** Yields after each step and returns the bytes. */
export function* encodeState(state: LedgerState): Generator<undefined, Uint8Array> {
  const parts: Uint8Array[] = [];
  const fields = Object.entries(state).sort(byKey);
  parts.push(mapHeader(fields.length));
  for (const [name, value] of fields) {
    parts.push(encode(name));
    if (isTableName(name)) yield* encodeTable(state[name], parts);
    else parts.push(encode(value));
  }
  return yield* concatenate(parts);
}

/** Puts many small pieces together; Buffer.concat of tens of thousands of them is slow for nothing but its checks. */
function* concatenate(parts: readonly Uint8Array[]): Generator<undefined, Uint8Array> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let offset = 0;
  let stop = stepBytes;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.byteLength;
    if (offset < stop) continue;
    stop = offset + stepBytes;
    yield undefined;
  }
  return bytes;
}

function* encodeTable(table: Readonly<Record<string, object>>, parts: Uint8Array[]): Generator<undefined, void> {
  const records = Object.entries(table).sort(byKey);
  parts.push(mapHeader(records.length));
  let step = 0;
  for (const [key, record] of records) {
    parts.push(encode(key), encodeRecord(record));
    step += 1;
    if (step % stepRecords === 0) yield undefined;
  }
}

function encodeRecord(record: object): Uint8Array {
  const known = encodings.get(record);
  if (known !== undefined) return known;
  const bytes = encode(record);
  encodings.set(record, bytes);
  return bytes;
}

/** The order of keys in deterministic CBOR: shorter ones first. All keys of a state are ASCII. */
function byKey([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a.length - b.length || (a < b ? -1 : 1);
}

/** The head of a CBOR map with so many pairs (RFC 8949, section 3: major type 5). */
function mapHeader(count: number): Uint8Array {
  if (count < 24) return new Uint8Array([0xa0 | count]);
  if (count < 0x100) return new Uint8Array([0xb8, count]);
  if (count < 0x10000) return new Uint8Array([0xb9, count >> 8, count & 0xff]);
  return new Uint8Array([0xba, count >>> 24, (count >>> 16) & 0xff, (count >>> 8) & 0xff, count & 0xff]);
}
