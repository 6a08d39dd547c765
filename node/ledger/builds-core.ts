// Owns the first half of a deploy and the whole of a build: what was asked for, what was evaluated and built, and which
// hosts failed on the way. Results of an earlier attempt are refused.

import { childTaskId, isOpen } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Task } from '../../protocols/ledger-state.ts';
import { addHostNotice } from './notices-core.ts';
import {
  childrenOf,
  deviceMember,
  firstLine,
  type Handler,
  listNames,
  membersByName,
  newChild,
  openTaskOf,
  putChildren,
  putTasks,
  refusal,
} from './state-core.ts';
import { counts, ended, endTask, reason, settle, startTask } from './tasks-core.ts';

export const buildRequested: Handler<'build-requested'> = (state, body, meta) => {
  checkHosts(body.hosts);
  const { revision, selector, hosts } = body;
  return startTask(state, meta, { type: 'build', revision, selector, hosts, keepGoing: true, stage: 'evaluate' });
};

export const deployRequested: Handler<'deploy-requested'> = (state, body, meta) => {
  checkHosts(body.hosts);
  const members = membersByName(state);
  for (const host of body.hosts) deviceMember(members, host);
  if (body.revision !== state.head) {
    const text = `cannot deploy ${body.revision}: the project is at ${state.head ?? 'no commit yet'}`;
    throw refusal('head-moved', text, 'Ask for the deploy again.', true);
  }
  const { revision, selector, hosts, keepGoing } = body;
  return startTask(state, meta, { type: 'deploy', revision, selector, hosts, keepGoing, stage: 'evaluate' });
};

function checkHosts(hosts: readonly string[]): void {
  if (hosts.length === 0) throw refusal('no-hosts', 'the selection names no host', 'See the names with `peers`.');
  if (new Set(hosts).size !== hosts.length) throw refusal('hosts-repeated', 'the selection names a host twice');
}

export const evaluationFinished: Handler<'evaluation-finished'> = (state, body) => {
  const task = preparing(state, body.task, body.attempt);
  if (task.stage !== 'evaluate') throw refusal('late-result', `task '${task.id}' is evaluated already`);
  const { evaluation, builder } = body;
  const next = putTasks(state, { ...task, evaluation, builder, stage: 'build' });
  return { state: advance(next, task.id), task: task.id };
};

export const hostFailed: Handler<'host-failed'> = (state, body) => {
  const task = preparing(state, body.task, body.attempt);
  if (!task.hosts.includes(body.host)) {
    throw refusal('host-unknown', `task '${task.id}' has nothing to do with host '${body.host}'`);
  }
  if (!task.keepGoing) {
    const why = reason('error', `${body.host} failed to ${body.stage}: ${body.reason}`);
    return { state: endTask(state, task, 'failed', why), task: task.id };
  }
  const text = `failed to ${body.stage}: ${body.reason}`;
  return { state: advance(failHosts(state, task, [body.host], text), task.id), task: task.id };
};

export const buildStarted: Handler<'build-started'> = (state, body) => {
  const task = preparing(state, body.task, body.attempt);
  const strangers = body.hosts.filter((host) => !task.hosts.includes(host));
  if (strangers.length > 0 || body.hosts.length === 0) {
    throw refusal('host-unknown', `task '${task.id}' has nothing to do with ${listNames(strangers) || 'no host'}`);
  }
  const builds = childrenOf(state, task).filter((child) => child.drvPath !== null);
  const known = builds.find((child) => child.drvPath === body.drvPath);
  if (known !== undefined && !isOpen(known) && counts(task, known)) {
    throw refusal('late-result', `build '${known.id}' has ended: ${known.outcome}`);
  }
  const id = known?.id ?? childTaskId(task.id, `build-${builds.length + 1}`);
  const child: Task = {
    ...(known ?? newChild(state, task, { id, type: 'build' })),
    status: 'running',
    outcome: null,
    reason: null,
    endedAtMs: null,
    stage: 'work',
    attempt: task.attempt,
    hosts: body.hosts,
    drvPath: body.drvPath,
    builder: body.builder,
    startedAtMs: known !== undefined && isOpen(known) ? known.startedAtMs : state.timeMs,
  };
  return { state: putChildren(state, task, [child]), task: child.id };
};

export const buildFinished: Handler<'build-finished'> = (state, body) => {
  const { task, child } = runningBuild(state, body.task, body.attempt, body.drvPath);
  const built = { ...ended(state, child, 'succeeded', null), closure: body.closure, manifest: body.manifest };
  return { state: advance(putTasks(state, built), task.id), task: child.id };
};

export const buildFailed: Handler<'build-failed'> = (state, body) => {
  const { task, child } = runningBuild(state, body.task, body.attempt, body.drvPath);
  const why = reason('error', body.reason);
  const failed = putTasks(state, ended(state, child, 'failed', why));
  if (!task.keepGoing) {
    const text = `build for ${listNames(child.hosts)} failed: ${firstLine(body.reason)}`;
    return { state: endTask(failed, task, 'failed', reason('error', text)), task: child.id };
  }
  const next = task.type === 'build' ? failed : failHosts(failed, task, child.hosts, `build failed: ${body.reason}`);
  return { state: advance(next, task.id), task: child.id };
};

/** A deploy or build that has no plan yet. */
function preparing(state: LedgerState, id: string, attempt: number): Task {
  const task = openTaskOf(state, id, attempt);
  if (task.stage !== 'evaluate' && task.stage !== 'build' && task.stage !== 'plan') {
    throw refusal('late-result', `task '${id}' is past its builds: stage '${task.stage}'`);
  }
  return task;
}

function runningBuild(state: LedgerState, id: string, attempt: number, drvPath: string): { task: Task; child: Task } {
  const task = preparing(state, id, attempt);
  const child = childrenOf(state, task).find((candidate) => candidate.drvPath === drvPath);
  if (child === undefined) throw refusal('build-unknown', `task '${id}' has no build of '${drvPath}'`);
  if (!isOpen(child)) throw refusal('late-result', `build '${child.id}' has ended: ${child.outcome}`);
  return { task, child };
}

/** Hosts that fail alone: each gets an ended child, so that its failure is part of the outcome. */
function failHosts(state: LedgerState, task: Task, hosts: readonly string[], text: string): LedgerState {
  const why = reason('error', text);
  const type = task.type === 'build' ? 'build' : 'deploy-device';
  const failed: Task[] = [];
  for (const host of hosts) {
    const id = childTaskId(task.id, host);
    const known = state.tasks[id];
    if (known !== undefined && counts(task, known)) continue;
    const fields = type === 'build' ? { id, type, host, hosts: [host] } : ({ id, type, host } as const);
    const child = known ?? newChild(state, task, fields as Pick<Task, 'id' | 'type'>);
    failed.push(ended(state, { ...child, attempt: task.attempt }, 'failed', why));
  }
  const current = state.tasks[task.id] ?? task;
  let next = failed.length === 0 ? state : putChildren(state, current, failed);
  for (const child of failed) next = addHostNotice(next, current, child.host ?? child.id, 'failed', text);
  return next;
}

/** The deploys that have no plan yet go on without a host that left. */
export function leaveOut(state: LedgerState, host: string, text: string): LedgerState {
  let next = state;
  for (const task of Object.values(state.tasks)) {
    const isPreparing = task.stage === 'evaluate' || task.stage === 'build' || task.stage === 'plan';
    if (task.type !== 'deploy' || !isOpen(task) || !isPreparing || !task.hosts.includes(host)) continue;
    const id = childTaskId(task.id, host);
    const known = next.tasks[id];
    if (known !== undefined && counts(task, known)) continue;
    const child = known ?? newChild(next, task, { id, type: 'deploy-device', host });
    const last = ended(next, { ...child, attempt: task.attempt }, 'cancelled', reason('other', text));
    next = advance(putChildren(next, next.tasks[task.id] ?? task, [last]), task.id);
  }
  return next;
}

/** Goes to the stage `plan` once every host is built or has failed; ends the task when nothing is left to do. */
function advance(state: LedgerState, id: string): LedgerState {
  const settled = settle(state, id);
  const task = settled.tasks[id];
  if (task === undefined || task.type !== 'deploy' || task.stage !== 'build') return settled;
  const covered = new Set<string>();
  for (const child of childrenOf(settled, task)) {
    if (!counts(task, child)) continue;
    for (const host of child.host === null ? child.hosts : [child.host]) covered.add(host);
  }
  return task.hosts.every((host) => covered.has(host)) ? putTasks(settled, { ...task, stage: 'plan' }) : settled;
}
