// Owns what front ends say to a peer over its local socket, and what peers forward to the controller: one command, a
// stream of events, one end. Front ends parse text into these; the peer never parses a person's text.

import * as v from 'valibot';
import { entryBodySchemas } from './ledger-entries.ts';
import { textCharactersMax } from './limits.ts';
import { outcomeSchema } from './outcome.ts';
import {
  actorSchema,
  bytesSchema,
  commandIdSchema,
  countSchema,
  errorRecordSchema,
  hashSchema,
  nameSchema,
  peerIdSchema,
  revisionSchema,
  roleSchema,
  siteSchema,
  taskIdSchema,
  textSchema,
} from './primitives.ts';
import { logLineSchema } from './views.ts';

export const controlProtocol = '/parley/control/1';
/** Commands are short; answers are pages of views. */
export const commandBytesMax = 64 * 1024;
/** One event: the detail of a deploy over membersMax hosts with its plan stays below it. */
export const controlEventBytesMax = 32 * 1024 * 1024;

const selectorSchema = v.pipe(
  v.string(),
  v.minLength(1, 'it is empty'),
  v.maxLength(1_024, 'it is longer than 1024 characters'),
);
const messageSchema = v.pipe(
  v.string(),
  v.maxLength(textCharactersMax, `it is longer than ${textCharactersMax} characters`),
);
/** `t12`, or the unique beginning of a plan hash is not accepted: people name tasks. */
const command = <N extends string, E extends v.ObjectEntries>(name: N, entries: E) =>
  v.object({ name: v.literal(name), ...entries });

export const commandSchema = v.variant('name', [
  command('status', {}),
  command('peers', {}),
  command('whoami', {}),
  command('diff', {}),
  command('discard', {}),
  command('commit', { message: v.nullable(messageSchema) }),
  command('update', { inputs: v.pipe(v.array(v.pipe(v.string(), v.maxLength(128))), v.maxLength(64)) }),
  command('build', { selector: selectorSchema }),
  /** `commit: message` first commits the draft; without it a draft that is not committed is named in the answer and left alone. */
  command('deploy', { selector: selectorSchema, keepGoing: v.boolean(), commitMessage: v.nullable(messageSchema) }),
  /** `plan` is what the person looked at, where the front end knows it (a button); a stale one is refused. */
  command('approve', { task: taskIdSchema, plan: v.nullable(hashSchema) }),
  command('reject', { task: taskIdSchema, plan: v.nullable(hashSchema), reason: v.nullable(messageSchema) }),
  command('abort', { task: taskIdSchema }),
  command('retry', { task: taskIdSchema }),
  command('rollback', { host: nameSchema }),
  command('tasks', { all: v.boolean() }),
  command('task', { task: taskIdSchema }),
  /** Follows a task until it ends or waits for a person. */
  command('watch', { task: taskIdSchema }),
  command('logs', { task: taskIdSchema, follow: v.boolean() }),
  command('history', {
    limit: v.pipe(countSchema, v.minValue(1, 'it must be at least 1'), v.maxValue(1_000, 'it must be at most 1000')),
  }),
  command('notices', { after: countSchema, follow: v.boolean() }),
  command('invite', {
    peer: nameSchema,
    site: siteSchema,
    roles: v.pipe(v.array(roleSchema), v.minLength(1), v.maxLength(4)),
    expiresInMs: v.pipe(countSchema, v.minValue(1_000), v.maxValue(30 * 24 * 60 * 60 * 1000)),
  }),
  command('voters', {}),
  command('voters-add', { host: nameSchema }),
  command('voters-remove', { host: nameSchema }),
  /** `by` is to vote instead of `host`, in one change. */
  command('voters-replace', { host: nameSchema, by: nameSchema }),
  command('peers-remove', { host: nameSchema }),
]);
export type Command = v.InferOutput<typeof commandSchema>;
export type CommandName = Command['name'];

export const commandRequestSchema = v.object({
  version: v.literal(1),
  /** Asking again with the same id is safe: the command is applied once. */
  id: commandIdSchema,
  command: commandSchema,
  /** Speak as this operator: only where the peer's config allows it (the demo). */
  speakAs: v.optional(nameSchema),
  /** Absolute path of the caller's checkout of the project on this machine; its changes become the draft. */
  workFolder: v.optional(v.pipe(v.string(), v.startsWith('/'), v.maxLength(4_096))),
  /** Follow the task that the command starts until it ends or waits for a person. */
  follow: v.boolean(),
});
export type CommandRequest = v.InferOutput<typeof commandRequestSchema>;

/** A request as a peer forwards it to the controller: the local peer has proven who speaks and has staged the work folder. */
export const forwardedRequestSchema = v.object({
  version: v.literal(1),
  id: commandIdSchema,
  command: commandSchema,
  actor: actorSchema,
  follow: v.boolean(),
});
export type ForwardedRequest = v.InferOutput<typeof forwardedRequestSchema>;

/**
 * An entry that the controller proposes for another peer, which has done the work that it speaks of: a staged work folder,
 * the peer's own new addresses or builder key, a stranger that proved to have a token.
 */
export const forwardedEntrySchema = v.variant('kind', [
  v.object({ kind: v.literal('draft-staged'), body: entryBodySchemas['draft-staged'] }),
  v.object({ kind: v.literal('draft-discarded'), body: entryBodySchemas['draft-discarded'] }),
  v.object({ kind: v.literal('member-updated'), body: entryBodySchemas['member-updated'] }),
  v.object({ kind: v.literal('member-joined'), body: entryBodySchemas['member-joined'] }),
]);
export type ForwardedEntry = v.InferOutput<typeof forwardedEntrySchema>;

/** The first and only message from the peer that forwards. */
export const controlAskSchema = v.variant('kind', [
  v.object({ kind: v.literal('command'), request: forwardedRequestSchema }),
  v.object({
    kind: v.literal('entry'),
    version: v.literal(1),
    id: commandIdSchema,
    actor: actorSchema,
    entry: forwardedEntrySchema,
  }),
]);
export type ControlAsk = v.InferOutput<typeof controlAskSchema>;

/** Bytes of an event in one message: a view may be larger than what one message carries. */
export const controlPartBytesMax = 256 * 1024;

/** What the controller answers: events in parts, then where its ledger stood, so that the asker can wait to see the same. */
export const controlAnswerSchema = v.variant('kind', [
  v.object({ kind: v.literal('part'), bytes: bytesSchema, last: v.boolean() }),
  v.object({ kind: v.literal('done'), ledgerIndex: countSchema }),
  /** The asked peer does not lead (any more); `controller` is whom it believes to lead. */
  v.object({ kind: v.literal('redirect'), controller: v.nullable(peerIdSchema) }),
]);
export type ControlAnswer = v.InferOutput<typeof controlAnswerSchema>;

export const commandEventSchema = v.variant('kind', [
  /** A step that takes longer than a moment: what is done now and what it waits for. Replaces the previous progress. */
  v.object({
    kind: v.literal('progress'),
    text: textSchema,
    done: v.optional(countSchema),
    total: v.optional(countSchema),
  }),
  v.object({ kind: v.literal('log'), line: logLineSchema }),
  /** A view of views.ts, or another record named by `view`. */
  v.object({ kind: v.literal('view'), view: v.pipe(v.string(), v.maxLength(32)), data: v.unknown() }),
  /** The last event of every command that was carried out. */
  v.object({
    kind: v.literal('end'),
    /** The outcome of the task that was followed to its end; `succeeded` for other commands. */
    outcome: outcomeSchema,
    task: v.nullable(taskIdSchema),
    /** Set when the task now waits for a person: exit status 0, and the text says for whom. */
    waitsFor: v.nullable(textSchema),
    text: textSchema,
    revision: v.nullable(revisionSchema),
  }),
  /** The last event of a command that was refused or failed before it started anything, or whose outcome is unknown. */
  v.object({ kind: v.literal('error'), error: errorRecordSchema }),
]);
export type CommandEvent = v.InferOutput<typeof commandEventSchema>;
