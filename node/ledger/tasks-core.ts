// Owns how tasks start, end and close: a parent ends when its last child has ended, with the worst of their outcomes, and
// no child outlives it. Tasks that ended long ago leave.

import { isOpen } from '../../protocols/ledger-rules.ts';
import {
  type LedgerState,
  type Reason,
  type Task,
  tasksBytesKeptMax,
  tasksRunningMax,
} from '../../protocols/ledger-state.ts';
import { tasksKeptMax } from '../../protocols/limits.ts';
import { type Outcome, statusOf } from '../../protocols/outcome.ts';
import { clipText } from '../../protocols/primitives.ts';
import { addEndNotice, describeOutcome } from './notices-core.ts';
import {
  type Change,
  childrenOf,
  type EntryMeta,
  firstLine,
  listNames,
  newTask,
  putTasks,
  refusal,
} from './state-core.ts';
import { dropRecords } from './tables-core.ts';

/** Starts a task without a parent. @throws ParleyError `too-many-tasks` (retryable). */
export function startTask(
  state: LedgerState,
  meta: EntryMeta,
  fields: Pick<Task, 'type'> & Partial<Task>,
): Change & { readonly task: string } {
  const running = Object.values(state.tasks).filter((task) => task.parent === null && isOpen(task)).length;
  if (running >= tasksRunningMax) {
    const hint = 'Abort tasks that nobody waits for, or wait until some have ended.';
    throw refusal('too-many-tasks', `${running} tasks are running: the limit is ${tasksRunningMax}`, hint, true);
  }
  const task = newTask(state, meta, fields);
  const next = putTasks({ ...state, nextTaskNumber: state.nextTaskNumber + 1 }, task);
  return { state: withoutOldTasks(next), task: task.id };
}

/** The record of a task that ends now. */
export function ended(state: LedgerState, task: Task, outcome: Outcome, reason: Reason | null): Task {
  return {
    ...task,
    status: statusOf(outcome),
    outcome,
    reason: reason === null ? null : { kind: reason.kind, text: clipText(reason.text) },
    stage: 'ended',
    endedAtMs: state.timeMs,
  };
}

export function reason(kind: Reason['kind'], text: string): Reason {
  return { kind, text: clipText(text) };
}

/** Ends a task without a parent and cancels what is left of its children. */
export function endTask(state: LedgerState, task: Task, outcome: Outcome, why: Reason | null): LedgerState {
  const last = ended(state, task, outcome, why);
  const left = childrenOf(state, task).filter(isOpen);
  const cancelled = left.map((child) => ended(state, child, 'cancelled', reason('other', `${task.id} ended`)));
  return addEndNotice(putTasks(state, last, ...cancelled), last);
}

/** Ends the parent when every part of it has ended. */
export function settle(state: LedgerState, parentId: string | null): LedgerState {
  const parent = parentId === null ? undefined : state.tasks[parentId];
  if (parent === undefined || !isOpen(parent)) return state;
  if (parent.type === 'commit' || parent.type === 'update-inputs') return state;
  const parts = parent.type === 'build' ? buildParts(state, parent) : deviceParts(state, parent);
  if (parts === undefined) return state;
  const { outcome, why } = combine(parent, parts);
  return endTask(state, parent, outcome, why);
}

/** The ended builds that cover every host of a build task; undefined while one is missing. */
function buildParts(state: LedgerState, parent: Task): Task[] | undefined {
  const parts = childrenOf(state, parent).filter((child) => counts(parent, child));
  const covered = new Set(parts.flatMap((child) => child.hosts));
  return parent.hosts.every((host) => covered.has(host)) ? parts : undefined;
}

/** The ended switches of every host that is to be switched; undefined while one is missing or nobody has said yes. */
function deviceParts(state: LedgerState, parent: Task): Task[] | undefined {
  const plan = parent.plan === null ? undefined : state.plans[parent.plan];
  if (plan !== undefined && !plan.approved && parent.abortedBy === null) return undefined;
  const devices = childrenOf(state, parent).filter((child) => child.type === 'deploy-device');
  if (devices.some(isOpen)) return undefined;
  const there = new Set(devices.map((child) => child.host));
  const expected = parent.abortedBy === null ? (plan?.hosts ?? parent.hosts) : [];
  return expected.every((host) => there.has(host)) ? devices : undefined;
}

/** An ended child that speaks for the parent's present attempt: what succeeded earlier stays. */
export function counts(parent: Task, child: Task): boolean {
  return !isOpen(child) && (child.outcome === 'succeeded' || child.attempt === parent.attempt);
}

const failureOutcomes: readonly Outcome[] = [
  'failed',
  'rolled-back',
  'rollback-failed',
  'refused',
  'quarantined',
  'skipped-offline',
  'unknown',
];

/** The worst outcome of the parts, with a reason that names who had it. A rollback, having one part, ends as that did. */
function combine(parent: Task, parts: readonly Task[]): { readonly outcome: Outcome; readonly why: Reason | null } {
  const having = (...outcomes: readonly Outcome[]) =>
    parts.filter((part) => part.outcome !== null && outcomes.includes(part.outcome));
  const only = parent.type === 'rollback' ? parts[0] : undefined;
  if (parent.abortedBy !== null) return { outcome: 'cancelled', why: describeAborted(parent, parts) };
  if (only?.outcome) return { outcome: only.outcome, why: only.reason };
  const failed = having(...failureOutcomes);
  if (failed.length > 0) return { outcome: 'failed', why: reason('error', describeParts(failed)) };
  for (const outcome of ['cancelled', 'degraded', 'needs-reboot'] as const) {
    const found = having(outcome);
    if (found.length > 0) return { outcome, why: reason('other', describeParts(found)) };
  }
  const superseded = having('superseded');
  if (superseded.length === 0)
    return { outcome: 'succeeded', why: parts.length === 0 ? reason('other', 'nothing to do') : null };
  const why = reason('newer-order', `${partNames(superseded)} got a newer order`);
  return { outcome: superseded.length === parts.length ? 'superseded' : 'succeeded', why };
}

function describeAborted(parent: Task, parts: readonly Task[]): Reason {
  const switched = parts.filter((part) => part.outcome !== 'cancelled' && part.outcome !== 'superseded');
  const rest = switched.length === 0 ? '' : `; past the point of no return: ${describeParts(switched)}`;
  return reason('person', `aborted by ${parent.abortedBy}${rest}`);
}

/** `web1 was rolled back: unit x failed; web2 failed: …`, cut where a person stops reading. */
function describeParts(parts: readonly Task[]): string {
  const shown = parts.slice(0, 5).map((part) => {
    const text = `${partNames([part])} ${part.outcome === null ? 'runs' : describeOutcome(part.outcome)}`;
    return part.reason === null ? text : `${text}: ${firstLine(part.reason.text)}`;
  });
  if (parts.length > 5) shown.push(`and ${listNames(parts.slice(5).map((part) => partNames([part])))}`);
  return shown.join('; ');
}

function partNames(parts: readonly Task[]): string {
  return listNames(parts.flatMap((part) => (part.host === null ? part.hosts : [part.host])));
}

/** Drops the oldest ended tasks, each with its children, until the kept ones are within their limits; the newest stays. */
function withoutOldTasks(state: LedgerState): LedgerState {
  const roots = Object.values(state.tasks).filter((task) => task.parent === null);
  let count = roots.length;
  let bytes = Object.values(state.tasks).reduce((sum, task) => sum + taskBytes(task), 0);
  if (count <= tasksKeptMax && bytes <= tasksBytesKeptMax) return state;
  const leaving = roots.filter((task) => !isOpen(task)).sort((a, b) => numberOf(a) - numberOf(b));
  leaving.pop();
  const dropped: string[] = [];
  for (const task of leaving) {
    if (count <= tasksKeptMax && bytes <= tasksBytesKeptMax) break;
    for (const gone of [task, ...childrenOf(state, task)]) {
      bytes -= taskBytes(gone);
      dropped.push(gone.id);
    }
    count -= 1;
  }
  return dropRecords(state, 'tasks', dropped);
}

export function numberOf(task: Pick<Task, 'id'>): number {
  return Number.parseInt(task.id.slice(1), 10);
}

/** About what a task's record takes in a snapshot. */
function taskBytes(task: Task): number {
  const names = task.hosts.length + task.children.length + task.failedUnits.length + task.inputs.length;
  return 800 + 16 * names + (task.reason?.text.length ?? 0) + (task.commit?.message.length ?? 0);
}
