// Owns the records that the ledger keeps about what its entries said: the state that every peer derives alike, and that a
// snapshot carries. Plain data, changed by the ledger's core only.

import * as v from 'valibot';
import { voterIdentitySchema, voterSetSchema } from './certificate.ts';
import { memberFactsSchema } from './ledger-entries.ts';
import { outcomeSchema, taskStatusSchema, taskTypeSchema } from './outcome.ts';
import { policySchema } from './policy.ts';
import {
  actorSchema,
  commandIdSchema,
  countSchema,
  drvPathSchema,
  errorRecordSchema,
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

/** Raft ids that are remembered: more than could be given up while one change of voters is under way. */
export const allottedKeptMax = 64;

const text = (lengthMax: number) => v.pipe(v.string(), v.maxLength(lengthMax));

export const memberSchema = v.object({
  ...memberFactsSchema.entries,
  name: nameSchema,
  site: siteSchema,
  roles: v.array(roleSchema),
  /** Allotted to each key that the member votes with; 0 for others. Never used again, not by the same peer either. */
  raftId: countSchema,
  /** The peer whose vote ends once this one's has begun. */
  replaces: v.optional(peerIdSchema),
  /** It was removed, and stays until consensus counts on it no more: the change of voters may need it. */
  leaving: v.optional(v.literal(true)),
  joinedAtMs: timeMsSchema,
});
export type Member = v.InferOutput<typeof memberSchema>;

/** A peer that was removed and may not know it yet. */
export const removedPeerSchema = v.object({ peer: peerIdSchema, name: nameSchema, atMs: timeMsSchema });
export const removedPeersKeptMax = 64;

export const inviteSchema = v.object({
  name: nameSchema,
  site: siteSchema,
  roles: v.array(roleSchema),
  expiresAtMs: timeMsSchema,
  /** The peer that used it; null while open. */
  usedBy: v.nullable(peerIdSchema),
});
export type Invite = v.InferOutput<typeof inviteSchema>;

export const draftSchema = v.object({
  /** Hash of what was staged: the record without this field and the last two. */
  hash: hashSchema,
  base: v.nullable(revisionSchema),
  tree: revisionSchema,
  pack: hashSchema,
  files: v.array(v.object({ path: v.string(), change: v.picklist(['added', 'modified', 'deleted']) })),
  fileCount: countSchema,
  actor: actorSchema,
  stagedAtMs: timeMsSchema,
});
export type Draft = v.InferOutput<typeof draftSchema>;

/** What a commit task must do: everything that the git commit is a function of. */
export const commitIntentSchema = v.object({
  parent: v.nullable(revisionSchema),
  tree: revisionSchema,
  pack: hashSchema,
  message: textSchema,
  author: actorSchema,
  timeMs: timeMsSchema,
});
export type CommitIntent = v.InferOutput<typeof commitIntentSchema>;

/** Why a task waits or ended as it did, for people; `kind` for programs. */
export const reasonSchema = v.object({
  kind: v.picklist(['approval', 'device', 'builder', 'turn', 'error', 'person', 'newer-order', 'other']),
  text: textSchema,
});
export type Reason = v.InferOutput<typeof reasonSchema>;

export const taskSchema = v.object({
  id: taskIdSchema,
  type: taskTypeSchema,
  status: taskStatusSchema,
  outcome: v.nullable(outcomeSchema),
  reason: v.nullable(reasonSchema),
  parent: v.nullable(taskIdSchema),
  children: v.array(taskIdSchema),
  actor: actorSchema,
  commandId: v.nullable(commandIdSchema),
  /** 1 for the first try; a retry adds one. */
  attempt: countSchema,
  submittedAtMs: timeMsSchema,
  startedAtMs: v.nullable(timeMsSchema),
  endedAtMs: v.nullable(timeMsSchema),
  /** What was asked for. Fields that a type does not use are null or empty. */
  revision: v.nullable(revisionSchema),
  selector: v.nullable(textSchema),
  hosts: v.array(nameSchema),
  inputs: v.array(text(128)),
  keepGoing: v.boolean(),
  commit: v.nullable(commitIntentSchema),
  /** How far a parent task is: set by the entries that end each stage. */
  stage: v.picklist(['evaluate', 'build', 'plan', 'approval', 'order', 'switch', 'ended', 'work']),
  evaluation: v.nullable(hashSchema),
  builder: v.nullable(peerIdSchema),
  plan: v.nullable(hashSchema),
  /** For a child that builds or switches one closure. */
  host: v.nullable(nameSchema),
  drvPath: v.nullable(drvPathSchema),
  closure: v.nullable(storePathSchema),
  manifest: v.nullable(hashSchema),
  order: v.nullable(countSchema),
  failedUnits: v.array(text(256)),
  simulated: v.boolean(),
  /** Who aborted it. While its children still run, those are past what can be called back, or wait for their device's word. */
  abortedBy: v.nullable(actorSchema),
});
export type Task = v.InferOutput<typeof taskSchema>;

export const approvalSchema = v.object({
  actor: actorSchema,
  verdict: v.picklist(['approve', 'reject']),
  reason: v.nullable(textSchema),
  atMs: timeMsSchema,
});

export const planRecordSchema = v.object({
  task: taskIdSchema,
  attempt: countSchema,
  revision: v.nullable(revisionSchema),
  author: actorSchema,
  hosts: v.array(nameSchema),
  changesPolicy: v.boolean(),
  /** True when a person must say yes first. */
  needsApproval: v.boolean(),
  approved: v.boolean(),
  rejected: v.boolean(),
  approvals: v.array(approvalSchema),
});
export type PlanRecord = v.InferOutput<typeof planRecordSchema>;

/** The newest order of a host's slot; its number is the index of its entry. */
export const orderSchema = v.object({
  generation: countSchema,
  number: countSchema,
  peer: peerIdSchema,
  host: nameSchema,
  /** The deploy or rollback; the child that the order carries out is `childTaskId(task, host)`. */
  task: taskIdSchema,
  plan: hashSchema,
  closure: storePathSchema,
  manifest: hashSchema,
  revision: v.nullable(revisionSchema),
  givenAtMs: timeMsSchema,
  /** The device is to leave it alone unless it has armed the switch. The outcome says what came of it. */
  cancelled: v.boolean(),
  outcome: v.nullable(outcomeSchema),
  reason: v.nullable(textSchema),
});
export type Order = v.InferOutput<typeof orderSchema>;

/** A closure that a host ran with success: what `rollback` can go back to. */
export const ranClosureSchema = v.object({
  closure: storePathSchema,
  manifest: hashSchema,
  plan: hashSchema,
  revision: v.nullable(revisionSchema),
  order: countSchema,
  atMs: timeMsSchema,
});

/** What a device's journal last said. */
export const deviceSchema = v.object({
  incarnation: countSchema,
  sequence: countSchema,
  running: v.nullable(storePathSchema),
  booted: v.nullable(storePathSchema),
  outcome: v.nullable(outcomeSchema),
  reportedAtMs: timeMsSchema,
  /** Why it accepts no order until a person has looked at it. */
  alarm: v.optional(textSchema),
  /** Newest first, at most ranClosuresMax, each closure once. */
  ran: v.array(ranClosureSchema),
});
export type Device = v.InferOutput<typeof deviceSchema>;

export const noticeSchema = v.object({
  number: countSchema,
  atMs: timeMsSchema,
  level: v.picklist(['info', 'approval', 'failure']),
  task: v.nullable(taskIdSchema),
  text: textSchema,
  deliveredTo: v.array(text(32)),
});
export type Notice = v.InferOutput<typeof noticeSchema>;

/** What applying a command's entry came to; the same command, asked again under its id, gets the same answer. */
export const commandResultSchema = v.object({
  index: countSchema,
  atMs: timeMsSchema,
  task: v.nullable(taskIdSchema),
  error: v.nullable(errorRecordSchema),
  /** Whose command it was and the kind of its entry: an id that others use as well is not theirs. Absent without an id. */
  actor: v.optional(actorSchema),
  kind: v.optional(text(32)),
  /** What it was about, as a short hash (aboutOf): absent where that is not known, and in the states of earlier releases. */
  about: v.optional(text(16)),
});
export type CommandResult = v.InferOutput<typeof commandResultSchema>;

export const ledgerStateSchema = v.object({
  version: v.literal(1),
  /** What entries may say. A peer that knows less skips what it does not know; as a voter it stops. */
  level: countSchema,
  fleet: hashSchema,
  generation: countSchema,
  /** Index of the entry that began the generation; 0 for the founder's. */
  generationIndex: countSchema,
  /** Index and chain hash of the last applied entry. */
  index: countSchema,
  term: countSchema,
  chainHash: hashSchema,
  timeMs: timeMsSchema,
  recoveryKey: text(128),
  members: v.record(peerIdSchema, memberSchema),
  /** The newest, oldest first: by this a removed peer knows that it is one. */
  removedPeers: v.pipe(v.array(removedPeerSchema), v.maxLength(removedPeersKeptMax)),
  nextRaftId: countSchema,
  voters: v.array(countSchema),
  learners: v.array(countSchema),
  /** The rest of the configuration while a change of voters is under way (joint consensus). */
  joint: v.nullable(
    v.object({
      votersOutgoing: v.array(countSchema),
      learnersNext: v.array(countSchema),
      autoLeave: v.boolean(),
    }),
  ),
  /** The voters in force with the keys that certificates are judged by. */
  voterSet: voterSetSchema,
  /**
   * Who the newest raft ids were allotted to, and all that somebody speaks under or is to, oldest first: a change of voters
   * names no others but those in force.
   */
  allotted: v.pipe(v.array(voterIdentitySchema), v.maxLength(allottedKeptMax)),
  /** Index of the `checkpoint-begun` that the newest `checkpoint-made` speaks of; 0 before the first. */
  checkpointIndex: countSchema,
  /** Index of a `checkpoint-begun` whose checkpoint is to follow; 0 for none. */
  checkpointBegun: countSchema,
  /** Index of the newest `checkpoint-made`; 0 before the first. */
  checkpointMade: countSchema,
  invites: v.record(hashSchema, inviteSchema),
  draft: v.nullable(draftSchema),
  /** The project's head; null before the first commit. */
  head: v.nullable(revisionSchema),
  policy: v.nullable(policySchema),
  nextTaskNumber: countSchema,
  tasks: v.record(taskIdSchema, taskSchema),
  plans: v.record(hashSchema, planRecordSchema),
  /** By host: its slot `system`. */
  orders: v.record(nameSchema, orderSchema),
  devices: v.record(nameSchema, deviceSchema),
  nextNoticeNumber: countSchema,
  notices: v.array(noticeSchema),
  commands: v.record(commandIdSchema, commandResultSchema),
});
export type LedgerState = v.InferOutput<typeof ledgerStateSchema>;

/** The highest ledger level that this release understands. */
export const ledgerLevelMax = 1;
export const noticesKeptMax = 200;
/** About the bytes of all tasks with their children, a deploy of the largest fleet and more; tasksKeptMax counts those without a parent. */
export const tasksBytesKeptMax = 4 * 1024 * 1024;
/** Tasks without a parent that may run at once. */
export const tasksRunningMax = 200;
/** Ids of commands kept at most; the oldest of those who gave the most leave first. */
export const commandsKeptMax = 5_000;
export const ranClosuresMax = 8;
export const plansKeptMax = 100;
/** About the bytes of all plan records: their lists of hosts. */
export const plansBytesKeptMax = 1024 * 1024;
