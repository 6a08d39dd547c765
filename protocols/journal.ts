// Owns the journal's reports and their exchange (`/parley/journal/1`), and the exchange of task logs (`/parley/logs/1`).
// A report is one peer's signed word about itself; reports of one incarnation form a hash chain without gaps.

import * as v from 'valibot';
import { encode, hashOf } from './codec.ts';
import { messageBytesMax } from './limits.ts';
import { outcomeSchema } from './outcome.ts';
import {
  countSchema,
  errorRecordSchema,
  hashSchema,
  peerIdSchema,
  signatureSchema,
  storePathSchema,
  taskIdSchema,
  textSchema,
  timeMsSchema,
} from './primitives.ts';
import { logLineSchema } from './views.ts';

export const journalProtocol = '/parley/journal/1';
export const logsProtocol = '/parley/logs/1';

/** One report: a reason and 64 unit names at their longest, with the envelope. */
export const reportBytesMax = 96 * 1024;
/** Reports in one page: one disk read and one message. */
export const reportsPerPageMax = 64;
export const journalRequestBytesMax = 1024;
export const journalPageBytesMax = messageBytesMax;
/** Reports kept that nobody acknowledged: months of a device that is cut off. */
export const reportsKeptMax = 4_096;
/** `previous` of the first report of an incarnation. */
export const firstPrevious = '0'.repeat(64);

const unitNameSchema = v.pipe(v.string(), v.maxLength(256));
export const failedUnitsSchema = v.pipe(v.array(unitNameSchema), v.maxLength(64));

/** The states of an order on its device (design §8); `undoing` leads back, `ended` is an order that was never armed. */
export const orderStateSchema = v.picklist([
  'ordered',
  'checked',
  'fetched',
  'rooted',
  'armed',
  'testing',
  'active',
  'healthy',
  'confirmed',
  'committed',
  'undoing',
  'cleaned',
]);
export type OrderState = v.InferOutput<typeof orderStateSchema>;

/** How an order ended, as the ledger's `device-reported` takes it over. */
export const orderEndSchema = v.object({
  order: countSchema,
  outcome: outcomeSchema,
  reason: v.nullable(textSchema),
  failedUnits: failedUnitsSchema,
  /** True when nothing of the closure was run: it needs a booted systemd. */
  simulated: v.boolean(),
});
export type OrderEnd = v.InferOutput<typeof orderEndSchema>;

/** Body of each kind of report. */
export const reportBodySchemas = {
  'device-booted': v.object({ bootId: v.pipe(v.string(), v.maxLength(64)) }),
  'order-accepted': v.object({
    order: countSchema,
    task: taskIdSchema,
    closure: storePathSchema,
    manifest: hashSchema,
  }),
  'order-step': v.object({ order: countSchema, state: orderStateSchema }),
  'order-ended': orderEndSchema,
  /** The running system changed outside an order, or was found changed. */
  'running-changed': v.object({ before: v.nullable(storePathSchema) }),
  /** Something that a person must look at: two orders under one number. */
  'device-alarmed': v.object({ text: textSchema }),
} as const;
export type ReportKind = keyof typeof reportBodySchemas;
export type ReportBody<K extends ReportKind> = v.InferOutput<(typeof reportBodySchemas)[K]>;

const header = {
  version: v.literal(1),
  peer: peerIdSchema,
  /** Rises when the journal was lost or restored; sequence numbers start again at 1. */
  incarnation: v.pipe(countSchema, v.minValue(1)),
  sequence: v.pipe(countSchema, v.minValue(1)),
  /** Hash of the report before it, firstPrevious for the first. */
  previous: hashSchema,
  timeMs: timeMsSchema,
  running: v.nullable(storePathSchema),
  booted: v.nullable(storePathSchema),
};
const reportOf = <K extends ReportKind>(kind: K) =>
  v.object({ ...header, kind: v.literal(kind), body: reportBodySchemas[kind], signature: signatureSchema });

export const reportSchema = v.variant('kind', [
  reportOf('device-booted'),
  reportOf('order-accepted'),
  reportOf('order-step'),
  reportOf('order-ended'),
  reportOf('running-changed'),
  reportOf('device-alarmed'),
]);
export type Report = v.InferOutput<typeof reportSchema>;
/** What the writer says; the journal adds the rest. */
export type ReportDraft = {
  [K in ReportKind]: {
    readonly kind: K;
    readonly running: string | null;
    readonly booted: string | null;
    readonly body: ReportBody<K>;
  };
}[ReportKind];
export type UnsignedReport = Omit<Report, 'signature'>;

/** The bytes that a report's signature is over. */
export function reportSigningBytes(report: UnsignedReport): Uint8Array {
  const { signature: _, ...unsigned } = report as Report;
  return encode({ context: 'parley/report/1', report: unsigned });
}

/** A report's hash, which its successor names. The signature is left out: it adds nothing that the rest does not fix. */
export function reportHash(report: UnsignedReport): string {
  const { signature: _, ...unsigned } = report as Report;
  return hashOf(unsigned);
}

/** The last report of a journal; sequence 0 for none yet in this incarnation. */
export const journalHeadSchema = v.object({ incarnation: countSchema, sequence: countSchema, hash: hashSchema });

/** Asks for reports of `incarnation` from a sequence number on; a peer of a newer incarnation answers from its own first. */
export const journalRequestSchema = v.object({ version: v.literal(1), incarnation: countSchema, from: countSchema });
export type JournalRequest = v.InferOutput<typeof journalRequestSchema>;

/** Reports in order, possibly none. `lastSequence` is the newest on the peer's disk. */
export const journalAnswerSchema = v.variant('kind', [
  v.object({
    kind: v.literal('page'),
    incarnation: countSchema,
    lastSequence: countSchema,
    reports: v.pipe(v.array(reportSchema), v.maxLength(reportsPerPageMax)),
  }),
  v.object({ kind: v.literal('error'), error: errorRecordSchema }),
]);
export type JournalAnswer = v.InferOutput<typeof journalAnswerSchema>;

/** Bytes kept of one task's log: the beginning and the end are what people read. */
export const taskLogBytesMax = 4 * 1024 * 1024;
export const taskLogHeadBytesMax = 1024 * 1024;
/** All logs of one peer: the oldest leave first. */
export const taskLogsBytesMax = 256 * 1024 * 1024;
/** What is written at once, and the most of one page. A line at its longest takes 16 KiB. */
export const logChunkBytesMax = 64 * 1024;
/** Lines in one page of a log: a chunk of empty lines has about this many. */
export const logLinesPerPageMax = 1_000;
export const logsRequestBytesMax = 1024;
/** A chunk and one line beyond it, with its envelope; every line repeats peer, task and time. */
export const logsPageBytesMax = 512 * 1024;

/** A part of a log on disk. */
export const logChunkSchema = v.object({ lines: v.array(logLineSchema) });
/** Which parts of a task's log are on disk. */
export const logIndexSchema = v.object({
  startedAtMs: timeMsSchema,
  chunks: v.pipe(v.array(v.object({ first: countSchema, count: countSchema, bytes: countSchema })), v.maxLength(4_096)),
});

/** Asks for the log of one task from a line number on. */
export const logsRequestSchema = v.object({
  version: v.literal(1),
  task: taskIdSchema,
  from: countSchema,
  /** Stay until the log ends. */
  follow: v.boolean(),
});
export type LogsRequest = v.InferOutput<typeof logsRequestSchema>;

/** One page; the answer is over when the sender closes. `next` is the line number to go on with. */
export const logsPageSchema = v.object({
  lines: v.pipe(v.array(logLineSchema), v.maxLength(logLinesPerPageMax)),
  next: countSchema,
});
export type LogsPage = v.InferOutput<typeof logsPageSchema>;
