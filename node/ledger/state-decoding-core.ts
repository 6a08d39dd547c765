// Owns decoding a whole state in small steps, the counterpart of state-encoding-core.ts: it takes the bytes that decodeState()
// takes and gives the same state, and the caller may do other things between steps. A state of 16 MiB at once holds the event
// loop for longer than an election takes. Each record is decoded by itself; here is only what lies around the records.

import { check, decode, type Schema } from '../../protocols/codec.ts';
import { snapshotBytesMax } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { type LedgerState, ledgerStateSchema } from '../../protocols/ledger-state.ts';
import { isTableName } from './tables-core.ts';

/** Bytes of records decoded in one step: a few milliseconds. */
const stepBytes = 32 * 1024;
/** Containers in one another; a state has about six. */
const depthMax = 32;
const what = 'ledger snapshot';
/** CBOR's major types that are looked at here. */
const bytesType = 2;
const textType = 3;
const arrayType = 4;
const mapType = 5;
const simpleType = 7;
/** From here on a head's number follows in 1, 2, 4 or 8 bytes. */
const firstLongKind = 24;
const texts = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** How far the bytes of a state are read. */
interface Cursor {
  readonly bytes: Uint8Array;
  at: number;
}

/** Yields after each step and returns the state. @throws ParleyError `malformed` or `too-large`. */
export function* decodeStateInSteps(bytes: Uint8Array): Generator<undefined, LedgerState> {
  if (bytes.byteLength > snapshotBytesMax) {
    throw new ParleyError('too-large', `${what} has ${bytes.byteLength} bytes: the limit is ${snapshotBytesMax}`);
  }
  const cursor = { bytes, at: 0 };
  const { entries: schemas } = ledgerStateSchema;
  const fields: Record<string, unknown> = {};
  for (const name of keysOf(cursor)) {
    if (isTableName(name)) fields[name] = yield* decodeTable(cursor, schemas[name], name);
    else if (isFieldName(name)) fields[name] = decodeItem<unknown>(cursor, schemas[name], name);
    else skipItem(cursor, 0);
  }
  if (cursor.at !== bytes.byteLength) throw malformed('it goes on after its end');
  const missing = Object.keys(schemas).find((name) => !Object.hasOwn(fields, name));
  if (missing !== undefined) throw malformed(`its field '${missing}' is missing`);
  return fields as LedgerState;
}

function isFieldName(name: string): name is keyof LedgerState {
  return Object.hasOwn(ledgerStateSchema.entries, name);
}

function* decodeTable(
  cursor: Cursor,
  { key: keySchema, value: schema }: { readonly key: Schema<string>; readonly value: Schema<unknown> },
  name: string,
): Generator<undefined, Record<string, unknown>> {
  const records: [key: string, record: unknown][] = [];
  let stop = cursor.at + stepBytes;
  for (const key of keysOf(cursor)) {
    records.push([check(keySchema, key, `${what}, key of '${name}'`), decodeItem(cursor, schema, name)]);
    if (cursor.at < stop) continue;
    stop = cursor.at + stepBytes;
    yield undefined;
  }
  return Object.fromEntries(records);
}

/** Reads a map's head and then each key; whoever takes a key reads its value before the next one. */
function* keysOf(cursor: Cursor): Generator<string> {
  const { major, count } = readHead(cursor);
  if (major !== mapType) throw malformed('a map was expected');
  let before: Uint8Array | undefined;
  for (let left = count; left > 0; left -= 1) {
    const head = readHead(cursor);
    if (head.major !== textType) throw malformed('a key is no text');
    const key = takeBytes(cursor, head.count);
    if (before !== undefined && !isBefore(before, key)) throw malformed('keys are out of order');
    before = key;
    yield textOf(key);
  }
}

const isBefore = (a: Uint8Array, b: Uint8Array): boolean =>
  a.byteLength === b.byteLength ? Buffer.compare(a, b) < 0 : a.byteLength < b.byteLength;

/** The item that begins here, judged by its schema. */
function decodeItem<T>(cursor: Cursor, schema: Schema<T>, name: string): T {
  const start = cursor.at;
  skipItem(cursor, 0);
  const bytes = cursor.bytes.subarray(start, cursor.at);
  return decode(schema, bytes, bytes.byteLength, `${what}, '${name}'`);
}

function skipItem(cursor: Cursor, depth: number): void {
  if (depth > depthMax) throw malformed('it is nested too deeply');
  const { major, count } = readHead(cursor);
  if (major === bytesType || major === textType) takeBytes(cursor, count);
  // Numbers and simple values are no more than their head; whatever else there is, the library refuses with its item.
  const items = major === mapType ? 2 * count : major === arrayType ? count : 0;
  for (let left = items; left > 0; left -= 1) skipItem(cursor, depth + 1);
}

/** An item's major type, and the number that comes with it in as few bytes as it takes: a length, a count or a value. */
function readHead(cursor: Cursor): { readonly major: number; readonly count: number } {
  const [word = 0] = takeBytes(cursor, 1);
  const [major, kind] = [word >> 5, word & 31];
  if (kind < firstLongKind) return { major, count: kind };
  const size = 2 ** (kind - firstLongKind);
  if (size > 8) throw malformed('it has an item of unknown length');
  let count = 0;
  for (const byte of takeBytes(cursor, size)) count = count * 256 + byte;
  const least = size === 1 ? firstLongKind : 256 ** (size / 2);
  // What looks like the number of a simple item is a float.
  if (count < least && major !== simpleType) throw malformed('it has a length that is written longer than needed');
  return { major, count };
}

function takeBytes(cursor: Cursor, count: number): Uint8Array {
  const end = cursor.at + count;
  if (end > cursor.bytes.byteLength) throw malformed('it breaks off');
  const taken = cursor.bytes.subarray(cursor.at, end);
  cursor.at = end;
  return taken;
}

function textOf(bytes: Uint8Array): string {
  try {
    return texts.decode(bytes);
  } catch (cause) {
    throw malformed('a key is no text', cause);
  }
}

function malformed(text: string, cause?: unknown): ParleyError {
  return new ParleyError('malformed', `${what} is not deterministic CBOR: ${text}`, { cause });
}
