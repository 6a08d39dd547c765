// Owns the small schemas that records are made of. A field that two records share is defined here once.

import * as v from 'valibot';
import { textCharactersMax } from './limits.ts';

/** 64 lower-case hex digits. */
export const hashSchema = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hex digits'));
/** A libp2p peer id in its base58 text form (Ed25519 keys only: `12D3KooW…`). */
export const peerIdSchema = v.pipe(
  v.string(),
  v.regex(/^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/, 'expected an Ed25519 peer id'),
);
/** Records are keyed by names and ids: these words name what every JavaScript object has, and schemas drop some of them. */
const isNoObjectWord = (word: string) => !(word in Object.prototype || word === 'prototype');
/** The name of a peer; the device's host in `nixosConfigurations` has the same name. */
export const nameSchema = v.pipe(
  v.string(),
  v.regex(
    /^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?$/,
    'expected a host name of letters, digits, ".", "-" and "_"',
  ),
  v.check(isNoObjectWord, 'expected another name than a reserved word'),
);
export const siteSchema = nameSchema;
/** A full store path with a 32-character hash part. */
export const storePathSchema = v.pipe(
  v.string(),
  v.maxLength(256),
  v.regex(/^\/nix\/store\/[0-9a-df-np-sv-z]{32}-[0-9a-zA-Z+\-._?=]+$/, 'expected a store path'),
);
export const drvPathSchema = v.pipe(storePathSchema, v.endsWith('.drv'));
/** A git commit id (SHA-1 form). */
export const revisionSchema = v.pipe(v.string(), v.regex(/^[0-9a-f]{40}$/, 'expected a git commit id'));
/** Milliseconds since the epoch, by the clock that the record's field names. */
export const timeMsSchema = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
export const countSchema = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** A command's id: a ULID or a chat platform's interaction id. */
export const commandIdSchema = v.pipe(
  v.string(),
  v.regex(/^[0-9A-Za-z:_-]{8,128}$/, 'expected a command id'),
  v.check(isNoObjectWord, 'expected another id than a reserved word'),
);
/** `t12` for a task, `t12/web1` for a child of it. */
export const taskIdSchema = v.pipe(
  v.string(),
  v.maxLength(96),
  v.regex(/^t[1-9][0-9]*(\/[A-Za-z0-9._-]+)?$/, 'expected a task id'),
);
export const textSchema = v.pipe(v.string(), v.maxLength(textCharactersMax));
/** A text that fits textSchema: one that is longer is cut and marked. */
export const clipText = (text: string): string =>
  text.length <= textCharactersMax ? text : `${text.slice(0, textCharactersMax - 1)}…`;
/** Who acts: `root@host` for a local socket, else an operator's name. */
export const actorSchema = v.pipe(v.string(), v.maxLength(130), v.regex(/^[A-Za-z0-9_.@-]+$/, 'expected an actor'));
export const bytesSchema = v.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected bytes');
/** A multiaddr's text; the mesh parses it. */
export const addressSchema = v.pipe(v.string(), v.startsWith('/'), v.maxLength(512));
/** An Ed25519 signature (64 bytes). */
export const signatureSchema = v.pipe(
  bytesSchema,
  v.check((bytes) => bytes.byteLength === 64, 'expected 64 bytes'),
);

export const roleSchema = v.picklist(['member', 'voter', 'builder', 'monitor']);
export type Role = v.InferOutput<typeof roleSchema>;

export const errorRecordSchema = v.object({
  code: v.pipe(v.string(), v.maxLength(64)),
  message: v.pipe(v.string(), v.maxLength(4 * textCharactersMax)),
  hint: v.optional(textSchema),
  retryable: v.boolean(),
});
