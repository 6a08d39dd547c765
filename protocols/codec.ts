// Owns the one encoding of everything that is hashed, signed, stored or sent: deterministic CBOR, checked by a schema.
// dag-cbor and the schema library are used through here and the schemas of this folder only.

import { createHash, hash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import * as cbor from '@ipld/dag-cbor';
import * as v from 'valibot';
import { ParleyError } from './errors.ts';

/** A schema whose input and output are the same plain data. */
export type Schema<T> = v.GenericSchema<unknown, T>;

/** Encodes plain data as deterministic CBOR. Absent optional fields must be left out or undefined; both encode alike. */
export function encode(value: unknown): Uint8Array {
  return cbor.encode(withoutUndefined(value));
}

/**
 * Decodes and checks bytes from outside.
 * @throws ParleyError `too-large` over bytesMax, `malformed` when the bytes are not CBOR or do not fit the schema.
 */
export function decode<T>(schema: Schema<T>, bytes: Uint8Array, bytesMax: number, what = 'message'): T {
  if (bytes.byteLength > bytesMax) {
    throw new ParleyError('too-large', `${what} has ${bytes.byteLength} bytes: the limit is ${bytesMax}`);
  }
  let value: unknown;
  try {
    value = cbor.decode(bytes);
  } catch (cause) {
    throw new ParleyError('malformed', `${what} is not deterministic CBOR: ${(cause as Error).message}`, { cause });
  }
  return check(schema, value, what);
}

/** Checks plain data against a schema; the error names the first field that does not fit. */
export function check<T>(schema: Schema<T>, value: unknown, what = 'value'): T {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = v.getDotPath(issue);
  throw new ParleyError('malformed', `${what} does not fit its schema${path ? ` at '${path}'` : ''}: ${issue.message}`);
}

/** What `check` would complain about first, for texts that people read: the field's dotted path and what is wrong with it. */
export function problemOf(
  schema: Schema<unknown>,
  value: unknown,
): { readonly path: string | null; readonly message: string } | undefined {
  const result = v.safeParse(schema, value, { abortEarly: true });
  return result.success ? undefined : { path: v.getDotPath(result.issues[0]), message: result.issues[0].message };
}

/** SHA-256 of bytes as 64 lower-case hex digits, the form of every hash in records. */
export function sha256Hex(bytes: Uint8Array | string): string {
  return hash('sha256', bytes, 'hex');
}

/** Bytes hashed at a time beside the event loop's other work: about a millisecond. */
const hashStepBytes = 256 * 1024;

/** sha256Hex() in steps: 16 MiB at once hold the event loop, and with it heartbeats, for 100 ms. */
export function* sha256HexSteps(bytes: Uint8Array): Generator<undefined, string> {
  const hashing = createHash('sha256');
  for (let at = 0; at < bytes.byteLength; at += hashStepBytes) {
    hashing.update(bytes.subarray(at, at + hashStepBytes));
    yield undefined;
  }
  return hashing.digest('hex');
}

/** sha256HexSteps() beside the event loop's other work. */
export function sha256HexInSteps(bytes: Uint8Array): Promise<string> {
  return inSteps(sha256HexSteps(bytes));
}

/** Computes step by step; between two the event loop goes on. */
export async function inSteps<Result>(steps: Generator<undefined, Result>): Promise<Result> {
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done) return step.value;
    await nextTurn();
  }
}

/** SHA-256 of the deterministic encoding of a value. */
export function hashOf(value: unknown): string {
  return sha256Hex(encode(value));
}

/** The value itself where nothing in it is undefined, as in most: copies cost more than looking. */
function withoutUndefined(value: unknown): unknown {
  return holdsUndefined(value) ? copyWithoutUndefined(value) : value;
}

function holdsUndefined(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(holdsUndefined);
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return false;
  for (const field of Object.values(value)) if (field === undefined || holdsUndefined(field)) return true;
  return false;
}

function copyWithoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyWithoutUndefined);
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return value;
  const copy: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(value)) if (field !== undefined) copy[key] = copyWithoutUndefined(field);
  return copy;
}
