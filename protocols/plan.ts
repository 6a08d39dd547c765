// Owns the plan: what a deploy would do. It is a blob; its hash is what people approve and what orders name.

import * as v from 'valibot';
import { membersMax } from './limits.ts';
import { policySchema } from './policy.ts';
import {
  countSchema,
  drvPathSchema,
  hashSchema,
  nameSchema,
  revisionSchema,
  storePathSchema,
  taskIdSchema,
  textSchema,
} from './primitives.ts';

/** One package that differs between the host's closure of now and of the plan. */
export const closureChangeSchema = v.object({
  name: v.pipe(v.string(), v.maxLength(256)),
  before: v.pipe(v.array(v.pipe(v.string(), v.maxLength(128))), v.maxLength(16)),
  after: v.pipe(v.array(v.pipe(v.string(), v.maxLength(128))), v.maxLength(16)),
});
export type ClosureChange = v.InferOutput<typeof closureChangeSchema>;

export const plannedHostSchema = v.object({
  host: nameSchema,
  /** The toplevel to switch to. */
  closure: storePathSchema,
  /** Hash of the manifest blob that binds the closure's content. */
  manifest: hashSchema,
  /** What the host was last known to run; null for a host that never reported. */
  before: v.nullable(storePathSchema),
});
export type PlannedHost = v.InferOutput<typeof plannedHostSchema>;

export const plannedClosureSchema = v.object({
  closure: storePathSchema,
  drvPath: v.nullable(drvPathSchema),
  manifest: hashSchema,
  builder: nameSchema,
  pathCount: countSchema,
  narBytes: countSchema,
  changes: v.pipe(v.array(closureChangeSchema), v.maxLength(256)),
  /** Changes beyond the listed ones. */
  changesLeftOut: countSchema,
});
export type PlannedClosure = v.InferOutput<typeof plannedClosureSchema>;

export const planSchema = v.object({
  version: v.literal(1),
  task: taskIdSchema,
  attempt: countSchema,
  revision: revisionSchema,
  hosts: v.pipe(v.array(plannedHostSchema), v.maxLength(membersMax)),
  closures: v.pipe(v.array(plannedClosureSchema), v.maxLength(membersMax)),
  /** Hosts that were asked for and are left out, each with its reason (evaluation or build failed, unchanged, monitored only). */
  leftOut: v.pipe(v.array(v.object({ host: nameSchema, reason: textSchema })), v.maxLength(membersMax)),
  /** The commit's own policy; adopted when this deploy first succeeds. */
  policy: v.nullable(policySchema),
  /** True when that policy differs from the one in force: then an approver under the old one is always needed. */
  changesPolicy: v.boolean(),
});
export type Plan = v.InferOutput<typeof planSchema>;

/** Plans hold up to membersMax hosts and closures with their changes. */
export const planBytesMax = 16 * 1024 * 1024;
