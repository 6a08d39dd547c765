// Owns what people and the controller do to a task as a whole: finish, abort, retry.

import { isOpen } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Task } from '../../protocols/ledger-state.ts';
import {
  type Change,
  childrenOf,
  type Handler,
  listNames,
  membersByName,
  openTaskOf,
  putTasks,
  refusal,
  taskOf,
} from './state-core.ts';
import { dropRecords, putRecord } from './tables-core.ts';
import { ended, endTask, reason, settle } from './tasks-core.ts';

/**
 * The controller ends a task: one without a parent that has no open order, or a device's child whose order was cancelled
 * and whose device cannot say so itself.
 */
export const taskFinished: Handler<'task-finished'> = (state, body) => {
  const task = openTaskOf(state, body.task, body.attempt);
  const why = body.reason === null ? null : reason('other', body.reason);
  if (task.parent === null) {
    const ordered = childrenOf(state, task).filter((child) => isOpen(child) && child.order !== null);
    if (ordered.length > 0) {
      const hosts = listNames(ordered.map((child) => child.host ?? child.id));
      throw refusal('orders-open', `cannot end task '${task.id}': ${hosts} still have its order`);
    }
    const failed = why !== null && body.outcome !== 'succeeded' ? reason('error', why.text) : why;
    return { state: endTask(state, task, body.outcome, failed), task: task.id };
  }
  const order = task.host === null ? undefined : state.orders[task.host];
  const current = task.order !== null && order?.number === task.order ? order : undefined;
  if (task.type !== 'deploy-device' || (current !== undefined && !current.cancelled)) {
    throw refusal(
      'orders-open',
      `cannot end task '${task.id}': only its ${task.host === null ? 'builder' : 'device'} can`,
    );
  }
  let next = putTasks(state, ended(state, task, body.outcome, why));
  if (current !== undefined) {
    const closed = { ...current, outcome: body.outcome, reason: body.reason };
    next = putRecord(next, 'orders', current.host, closed);
  }
  return { state: settle(next, task.parent), task: task.id };
};

/** Cancels what has no order yet. Where an order is out, its device decides: the controller cancels the order. */
export const taskAborted: Handler<'task-aborted'> = (state, body, meta) => {
  const task = taskOf(state, body.task);
  if (!isOpen(task)) throw refusal('task-ended', `cannot abort '${task.id}': it has ended as ${task.outcome}`);
  if (task.type === 'commit') {
    throw refusal('not-abortable', `cannot abort '${task.id}': every voter carries the commit out as it was recorded`);
  }
  if (task.abortedBy !== null)
    throw refusal('already-aborted', `'${task.id}' was aborted by ${task.abortedBy} already`);
  if (task.parent !== null) return abortChild(state, task, meta.actor);
  const why = reason('person', `aborted by ${meta.actor}`);
  const open = childrenOf(state, task).filter(isOpen);
  const ordered = open.filter((child) => child.order !== null);
  const aborted = { ...task, abortedBy: meta.actor };
  if (ordered.length === 0) return { state: endTask(state, aborted, 'cancelled', why), task: task.id };
  const cancelled = open.filter((child) => child.order === null).map((child) => ended(state, child, 'cancelled', why));
  const hosts = listNames(ordered.map((child) => child.host ?? child.id));
  const text = `aborted by ${meta.actor}; already ordered: ${hosts}, which go back unless they are past the point of no return`;
  const waiting: Task = { ...aborted, reason: reason('person', text) };
  return { state: putTasks(state, waiting, ...cancelled), task: task.id };
};

function abortChild(state: LedgerState, child: Task, actor: string): Change {
  if (child.type !== 'deploy-device') {
    throw refusal('not-abortable', `cannot abort '${child.id}' alone`, `Abort '${child.parent}' instead.`);
  }
  const why = reason('person', `aborted by ${actor}`);
  if (child.order !== null) {
    const text = `aborted by ${actor}; the device goes back unless it is past the point of no return`;
    const waiting: Task = { ...child, abortedBy: actor, reason: reason('person', text) };
    return { state: putTasks(state, waiting), task: child.id };
  }
  const next = putTasks(state, ended(state, { ...child, abortedBy: actor }, 'cancelled', why));
  return { state: settle(next, child.parent), task: child.id };
}

/** Opens what failed again, at the next attempt. What an approved plan covers is ordered anew without another approval. */
export const taskRetried: Handler<'task-retried'> = (state, body) => {
  const task = taskOf(state, body.task);
  if (task.parent !== null) {
    throw refusal(
      'not-retriable',
      `cannot retry '${task.id}' alone`,
      `Retry '${task.parent}': it repeats what failed.`,
    );
  }
  if (isOpen(task)) throw refusal('task-running', `cannot retry '${task.id}': it has not ended yet`);
  if (task.outcome === 'succeeded') throw refusal('nothing-to-retry', `nothing to retry in '${task.id}': it succeeded`);
  if (task.type === 'commit') {
    const hint = 'Commit again: the draft is still there.';
    throw refusal('not-retriable', `cannot retry '${task.id}': a commit is made once`, hint);
  }
  if (task.type === 'deploy' && task.revision !== state.head) {
    const text = `cannot retry '${task.id}': it deploys ${task.revision}, and the project is at ${state.head}`;
    throw refusal('head-moved', text, 'Deploy again.');
  }
  const reopened = reopen(state, task);
  return { state: settle(reopened, task.id), task: task.id };
};

function reopen(state: LedgerState, task: Task): LedgerState {
  const attempt = task.attempt + 1;
  const children = childrenOf(state, task);
  const there = membersByName(state);
  const isGone = (host: string) => task.type !== 'build' && !there.has(host);
  const failed = children.filter(
    (child) => child.host !== null && child.outcome !== 'succeeded' && !isGone(child.host),
  );
  const plan = task.plan === null ? undefined : state.plans[task.plan];
  const planned = plan?.approved === true && failed.every((child) => plan.hosts.includes(child.host ?? ''));
  if (task.type === 'rollback' && !planned) {
    throw refusal('not-retriable', `cannot retry '${task.id}': its plan is no longer kept`, 'Roll back again.');
  }
  const again: Task = {
    ...task,
    status: 'running',
    outcome: null,
    reason: null,
    endedAtMs: null,
    abortedBy: null,
    attempt,
    stage: planned ? 'order' : task.type === 'update-inputs' ? 'work' : 'evaluate',
    plan: planned ? task.plan : null,
    evaluation: planned ? task.evaluation : null,
  };
  if (task.type === 'build') {
    // Hosts that failed alone have a stand-in for the build they never got; the next attempt gives them a real one.
    const standIns = new Set(failed.map((child) => child.id));
    const kept = task.children.filter((id) => !standIns.has(id));
    return putTasks(dropRecords(state, 'tasks', standIns), { ...again, children: kept });
  }
  const pending = failed.map(
    (child): Task => ({
      ...child,
      status: 'pending',
      outcome: null,
      reason: null,
      startedAtMs: null,
      endedAtMs: null,
      abortedBy: null,
      stage: 'work',
      order: null,
      failedUnits: [],
      attempt,
    }),
  );
  return putTasks(state, again, ...pending);
}
