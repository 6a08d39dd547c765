// Owns the answers that `--json` prints and that every rendering is made of: status, peers, tasks, a task, history.
// Fields are added, never renamed or removed.

import * as v from 'valibot';
import { bytesBySiteSchema } from './beat.ts';
import { noticeSchema, reasonSchema } from './ledger-state.ts';
import { outcomeSchema, taskStatusSchema, taskTypeSchema } from './outcome.ts';
import { closureChangeSchema } from './plan.ts';
import { operatorRoleSchema } from './policy.ts';
import {
  actorSchema,
  countSchema,
  hashSchema,
  nameSchema,
  peerIdSchema,
  revisionSchema,
  roleSchema,
  siteSchema,
  storePathSchema,
  taskIdSchema,
  textSchema,
  timeMsSchema,
} from './primitives.ts';
import { programRunSchema } from './program-run.ts';

const word = v.pipe(v.string(), v.maxLength(64));

export const peerViewSchema = v.object({
  name: nameSchema,
  peer: peerIdSchema,
  site: siteSchema,
  roles: v.array(roleSchema),
  /** Tags of the host in the policy in force. */
  tags: v.optional(v.array(nameSchema)),
  /** A monitored host or a member that never reported has null closures. */
  online: v.boolean(),
  controller: v.boolean(),
  running: v.nullable(storePathSchema),
  booted: v.nullable(storePathSchema),
  /** Closure of the newest order for the host. */
  desired: v.nullable(storePathSchema),
  /** Commit of the running closure, where the ledger knows it. */
  commit: v.nullable(revisionSchema),
  /** Outcome of the newest ended order. */
  outcome: v.nullable(outcomeSchema),
  reason: v.nullable(textSchema),
  /** True when the device accepts no order until a person has looked at it; `reason` says why. */
  alarmed: v.optional(v.boolean(), false),
  lastSeenMs: v.nullable(timeMsSchema),
  ledgerIndex: v.nullable(countSchema),
  activity: v.nullable(textSchema),
  /** What keeps a voter from its work, and what to do about it; null while nothing does. */
  trouble: v.optional(v.nullable(textSchema)),
  bytesBySite: bytesBySiteSchema,
});
export type PeerView = v.InferOutput<typeof peerViewSchema>;

export const statusViewSchema = v.object({
  version: v.literal(1),
  fleet: hashSchema,
  /** Name of the controller; null while there is none. */
  controller: v.nullable(nameSchema),
  term: countSchema,
  ledgerIndex: countSchema,
  ledgerTimeMs: timeMsSchema,
  /** False when the answering peer could not confirm with the controller: then the view is what this peer last knew. */
  current: v.boolean(),
  head: v.nullable(revisionSchema),
  draftFiles: countSchema,
  policyRevision: v.nullable(revisionSchema),
  peers: v.array(peerViewSchema),
  /** Hosts of the policy that have no peer (yet). */
  hostsWithoutPeer: v.array(nameSchema),
  /** Operators of the policy in force. */
  operators: v.optional(v.array(nameSchema)),
  waiting: v.array(v.object({ task: taskIdSchema, reason: reasonSchema })),
  /** What somebody should do something about before it matters. */
  warnings: v.optional(v.array(textSchema)),
});
export type StatusView = v.InferOutput<typeof statusViewSchema>;

export const taskViewSchema = v.object({
  id: taskIdSchema,
  type: taskTypeSchema,
  status: taskStatusSchema,
  outcome: v.nullable(outcomeSchema),
  reason: v.nullable(reasonSchema),
  parent: v.nullable(taskIdSchema),
  children: v.array(taskIdSchema),
  actor: actorSchema,
  attempt: countSchema,
  stage: word,
  selector: v.nullable(textSchema),
  hosts: v.array(nameSchema),
  host: v.nullable(nameSchema),
  revision: v.nullable(revisionSchema),
  plan: v.nullable(hashSchema),
  closure: v.nullable(storePathSchema),
  failedUnits: v.array(v.string()),
  simulated: v.boolean(),
  submittedAtMs: timeMsSchema,
  startedAtMs: v.nullable(timeMsSchema),
  endedAtMs: v.nullable(timeMsSchema),
  /** Parts done and in all: hosts of a deploy, bytes of a fetch, derivations of a build. */
  progress: v.object({
    done: countSchema,
    total: countSchema,
    unit: v.picklist(['parts', 'bytes', 'derivations']),
    text: textSchema,
  }),
});
export type TaskView = v.InferOutput<typeof taskViewSchema>;

export const planViewSchema = v.object({
  plan: hashSchema,
  needsApproval: v.boolean(),
  approved: v.boolean(),
  rejected: v.boolean(),
  changesPolicy: v.boolean(),
  author: actorSchema,
  /** Operators who may still approve; with no policy, root on a voter. */
  mayApprove: v.array(actorSchema),
  approvals: v.array(
    v.object({ actor: actorSchema, verdict: word, atMs: timeMsSchema, reason: v.nullable(textSchema) }),
  ),
  hosts: v.array(v.object({ host: nameSchema, before: v.nullable(storePathSchema), closure: storePathSchema })),
  leftOut: v.array(v.object({ host: nameSchema, reason: textSchema })),
  closures: v.array(
    v.object({
      closure: storePathSchema,
      pathCount: countSchema,
      narBytes: countSchema,
      changes: v.array(closureChangeSchema),
      changesLeftOut: countSchema,
    }),
  ),
});
export type PlanView = v.InferOutput<typeof planViewSchema>;

export const taskDetailSchema = v.object({
  version: v.literal(1),
  task: taskViewSchema,
  children: v.array(taskViewSchema),
  plan: v.nullable(planViewSchema),
  /** Programs that were run for it, secrets removed, with how they ended; Nix's own messages by level. */
  processes: v.array(v.object({ peer: nameSchema, ...programRunSchema.entries })),
  messages: v.array(v.object({ level: v.picklist(['error', 'warning', 'info']), text: textSchema })),
});
export type TaskDetail = v.InferOutput<typeof taskDetailSchema>;

export const tasksViewSchema = v.object({ version: v.literal(1), tasks: v.array(taskViewSchema) });
export type TasksView = v.InferOutput<typeof tasksViewSchema>;

export const historyViewSchema = v.object({
  version: v.literal(1),
  commits: v.array(
    v.object({
      revision: revisionSchema,
      author: word,
      atMs: timeMsSchema,
      message: textSchema,
      hosts: v.array(nameSchema),
    }),
  ),
});
export type HistoryView = v.InferOutput<typeof historyViewSchema>;

export const diffViewSchema = v.object({
  version: v.literal(1),
  base: v.nullable(revisionSchema),
  files: v.array(v.object({ path: v.string(), change: v.picklist(['added', 'modified', 'deleted']) })),
  /** Unified diff, cut at diffBytesMax with a last line that says so. */
  patch: v.string(),
});
export type DiffView = v.InferOutput<typeof diffViewSchema>;
export const diffBytesMax = 256 * 1024;

export const logLineSchema = v.object({
  atMs: timeMsSchema,
  peer: nameSchema,
  task: taskIdSchema,
  stream: v.picklist(['stdout', 'stderr', 'nix', 'parley']),
  level: v.picklist(['error', 'warning', 'info', 'debug']),
  text: v.string(),
  /** Set on a line that says that a program was run. */
  program: v.optional(programRunSchema),
});
export type LogLine = v.InferOutput<typeof logLineSchema>;

export const noticesViewSchema = v.object({ version: v.literal(1), notices: v.array(noticeSchema) });

/** View `whoami`: as whom the peer takes the person that asks. */
export const whoamiViewSchema = v.object({
  version: v.literal(1),
  actor: actorSchema,
  roles: v.array(operatorRoleSchema),
  /** The peer whose socket was used. */
  peer: nameSchema,
  controller: v.nullable(nameSchema),
});
export type WhoamiView = v.InferOutput<typeof whoamiViewSchema>;

/** View `invite`: shown once; the ledger keeps only the hash of the token's secret. */
export const inviteViewSchema = v.object({
  version: v.literal(1),
  token: v.string(),
  name: nameSchema,
  site: siteSchema,
  roles: v.array(roleSchema),
  expiresAtMs: timeMsSchema,
  warnings: v.optional(v.array(textSchema)),
});
export type InviteView = v.InferOutput<typeof inviteViewSchema>;

/** View `voters`: who votes, who is on the way to it or from it, and what the fleet survives. */
export const votersViewSchema = v.object({
  version: v.literal(1),
  current: v.boolean(),
  voters: v.array(
    v.object({
      name: nameSchema,
      peer: peerIdSchema,
      /** Its number in consensus, never used twice; null until it gets one. */
      raftId: v.nullable(countSchema),
      /** `joining` is to vote and does not yet, `leaving` votes and is not to. */
      standing: v.picklist(['votes', 'joining', 'leaving']),
      online: v.boolean(),
      /** Whether it has (nearly) all entries; null while it is away or has not said. */
      caughtUp: v.nullable(v.boolean()),
      ledgerIndex: v.nullable(countSchema),
      lastSeenMs: v.nullable(timeMsSchema),
      controller: v.boolean(),
    }),
  ),
  /** Votes that every decision needs. */
  majority: countSchema,
  /** How many of the voters that are there may be lost before the fleet stops. */
  spare: countSchema,
  /** A change of voters that is under way; `waitsFor` is null while it goes on. */
  change: v.nullable(v.object({ text: textSchema, waitsFor: v.nullable(textSchema) })),
  warnings: v.array(textSchema),
});
export type VotersView = v.InferOutput<typeof votersViewSchema>;

/** View `selection`: the hosts that a selector came to, shown before anything is done with them. */
export const selectionViewSchema = v.object({
  version: v.literal(1),
  selector: textSchema,
  hosts: v.array(nameSchema),
  /** Hosts that the selector names too and that cannot be deployed to, each with its reason. */
  leftOut: v.array(v.object({ host: nameSchema, reason: textSchema })),
});
export type SelectionView = v.InferOutput<typeof selectionViewSchema>;
