// Owns the messages by which a peer has another one evaluate, build or update for it: `/parley/build/1`. One stream is one
// job: a request, then events until the result or an error. Results are larger than one message and travel in parts.

import * as v from 'valibot';
import { logLineCharactersMax, membersMax } from './limits.ts';
import { manifestBytesMax, manifestSchema } from './manifest.ts';
import {
  bytesSchema,
  countSchema,
  drvPathSchema,
  errorRecordSchema,
  hashSchema,
  nameSchema,
  revisionSchema,
  storePathSchema,
  taskIdSchema,
} from './primitives.ts';
import { programRunSchema } from './program-run.ts';

export const buildProtocol = '/parley/build/1';
/** A request lists at most membersMax hosts. */
export const buildRequestBytesMax = 256 * 1024;
/** Bytes of a result in one message. */
export const buildPartBytesMax = 256 * 1024;
/** The largest result is a manifest; an evaluation of membersMax hosts with long errors stays below it too. */
export const buildResultBytesMax = manifestBytesMax + 1024 * 1024;
/** A builder without news says so this often, so that a dead one is told from a busy one. */
export const buildAlivePeriodMs = 5_000;
/** Silence after which a builder is taken for dead: four missed signs of life. */
export const buildSilenceMsMax = 20_000;
/** Jobs that one peer may have open at a builder: a deploy builds a few closures at a time. */
export const buildStreamsPerPeerMax = 16;
/** Log lines waiting for a slow reader; older ones are left out and counted. */
export const buildLogQueueMax = 1_000;

const inputNameSchema = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z_][A-Za-z0-9_'./-]{0,127}$/, 'expected the name of an input'),
);

export const evaluateRequestSchema = v.object({
  revision: revisionSchema,
  /** Hosts to evaluate; absent: all of the flake's. */
  hosts: v.optional(v.pipe(v.array(nameSchema), v.maxLength(membersMax))),
});
export type EvaluateRequest = v.InferOutput<typeof evaluateRequestSchema>;

export const buildRequestSchema = v.object({
  drvPath: drvPathSchema,
  /** Where the derivation comes from, for a builder that did not evaluate it itself. */
  source: v.optional(v.object({ revision: revisionSchema, host: nameSchema })),
});
export type BuildRequest = v.InferOutput<typeof buildRequestSchema>;

export const updateRequestSchema = v.object({
  /** Git tree (or commit) whose inputs are refreshed. */
  tree: revisionSchema,
  /** Commit that the tree builds on; the builder gets it first. */
  base: v.nullable(revisionSchema),
  /** Blob with the git objects that base lacks; null where the tree is the base's own. */
  pack: v.nullable(hashSchema),
  /** Inputs to refresh; empty: all. */
  inputs: v.pipe(v.array(inputNameSchema), v.maxLength(64)),
});
export type UpdateRequest = v.InferOutput<typeof updateRequestSchema>;

export const buildJobSchema = v.variant('kind', [
  v.object({ kind: v.literal('evaluate'), ...evaluateRequestSchema.entries }),
  v.object({ kind: v.literal('build'), ...buildRequestSchema.entries }),
  v.object({ kind: v.literal('update'), ...updateRequestSchema.entries }),
]);
export type BuildJob = v.InferOutput<typeof buildJobSchema>;

/** What the asking side sends: the job, and later perhaps that nobody wants it any more. A lost stream is no cancellation. */
export const buildAskSchema = v.variant('kind', [
  v.object({
    kind: v.literal('job'),
    version: v.literal(1),
    /** The task whose log, kept by the builder, takes the job's lines; without it they are sent to the asker. */
    task: v.optional(taskIdSchema),
    job: buildJobSchema,
  }),
  v.object({ kind: v.literal('cancel') }),
]);
export type BuildAsk = v.InferOutput<typeof buildAskSchema>;

export const buildLogLineSchema = v.object({
  /** `build` is a line that a derivation's own builder printed; the others are Nix's. */
  level: v.picklist(['error', 'warning', 'info', 'debug', 'build']),
  text: v.pipe(v.string(), v.maxLength(2 * logLineCharactersMax)),
  drvPath: v.optional(drvPathSchema),
  /** Set on a line that says that a program was run. */
  program: v.optional(programRunSchema),
});
export type BuildLogLine = v.InferOutput<typeof buildLogLineSchema>;

export const buildProgressSchema = v.object({
  done: countSchema,
  expected: countSchema,
  running: countSchema,
  failed: countSchema,
});
export type BuildProgress = v.InferOutput<typeof buildProgressSchema>;

export const buildEventSchema = v.variant('kind', [
  v.object({ kind: v.literal('alive') }),
  v.object({ kind: v.literal('log'), line: buildLogLineSchema }),
  v.object({ kind: v.literal('progress'), progress: buildProgressSchema }),
  v.object({
    kind: v.literal('part'),
    bytes: v.pipe(
      bytesSchema,
      v.check((bytes) => bytes.byteLength <= buildPartBytesMax, `expected at most ${buildPartBytesMax} bytes`),
    ),
  }),
  /** All parts have come; joined they are the deterministic encoding of the job's result. */
  v.object({ kind: v.literal('result') }),
  v.object({ kind: v.literal('error'), error: errorRecordSchema }),
]);
export type BuildEvent = v.InferOutput<typeof buildEventSchema>;

export const evaluatedHostSchema = v.object({
  name: nameSchema,
  /** The toplevel's derivation, the path that it will have, and the system that builds it. */
  toplevel: v.nullable(
    v.object({ drvPath: drvPathSchema, storePath: storePathSchema, system: v.pipe(v.string(), v.maxLength(64)) }),
  ),
  /** Set when the host could not be evaluated: then toplevel is null. */
  error: v.nullable(errorRecordSchema),
});
export type EvaluatedHost = v.InferOutput<typeof evaluatedHostSchema>;

export const evaluationSchema = v.object({
  revision: revisionSchema,
  /** The flake's output of that name as plain data, not checked yet; null where it has none. */
  parley: v.unknown(),
  /** Every host of the flake, evaluated or not. */
  hostNames: v.pipe(v.array(nameSchema), v.maxLength(membersMax)),
  hosts: v.pipe(v.array(evaluatedHostSchema), v.maxLength(membersMax)),
});
export type Evaluation = v.InferOutput<typeof evaluationSchema>;

export const buildResultSchema = v.object({ storePath: storePathSchema, manifest: manifestSchema });
export type BuildResult = v.InferOutput<typeof buildResultSchema>;

export const inputChangeSchema = v.object({
  /** The input, or `input/its-input` for one further in. */
  name: v.pipe(v.string(), v.maxLength(512)),
  /** Short forms for people: a revision with its date, or a hash. Null: was not there, is gone. */
  before: v.nullable(v.pipe(v.string(), v.maxLength(128))),
  after: v.nullable(v.pipe(v.string(), v.maxLength(128))),
});
export type InputChange = v.InferOutput<typeof inputChangeSchema>;

export const updateResultSchema = v.object({
  /** The new text of flake.lock. */
  lockFile: v.pipe(v.string(), v.maxLength(16 * 1024 * 1024)),
  /** Empty when everything was up to date. */
  changes: v.pipe(v.array(inputChangeSchema), v.maxLength(10_000)),
});
export type UpdateResult = v.InferOutput<typeof updateResultSchema>;
