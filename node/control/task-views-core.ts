// Owns the making of task views: a task with its reason and progress, its children, and its plan with who may still say yes.
// Pure.

import { approversOf, isOpen, memberNamed } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Task } from '../../protocols/ledger-state.ts';
import type { Plan } from '../../protocols/plan.ts';
import { clipText } from '../../protocols/primitives.ts';
import type { LogLine, PlanView, TaskDetail, TasksView, TaskView } from '../../protocols/views.ts';
import { type ViewFacts, waitReason } from './views-core.ts';

/** In a task's detail: what people may still look through. */
const processesMax = 200;
const messagesPerLevelMax = 50;
/** Ended tasks that `tasks` shows without `--all`. */
const endedShownMax = 20;

export function taskView(task: Task, state: LedgerState, facts: ViewFacts): TaskView {
  return {
    id: task.id,
    type: task.type,
    status: task.status,
    outcome: task.outcome,
    reason: isOpen(task) ? waitReason(task, state, facts) : task.reason,
    parent: task.parent,
    children: task.children,
    actor: task.actor,
    attempt: task.attempt,
    stage: task.stage,
    selector: task.selector,
    hosts: task.hosts,
    host: task.host,
    revision: task.revision,
    plan: task.plan,
    closure: task.closure,
    failedUnits: task.failedUnits,
    simulated: task.simulated,
    submittedAtMs: task.submittedAtMs,
    startedAtMs: task.startedAtMs,
    endedAtMs: task.endedAtMs,
    progress: progressOf(task, state, facts),
  };
}

/** Open tasks and the newest ended ones (or all), newest first, each followed by its children. */
export function tasksView(state: LedgerState, facts: ViewFacts, all: boolean): TasksView {
  const roots = Object.values(state.tasks)
    .filter((task) => task.parent === null)
    .sort((a, b) => numberOf(b) - numberOf(a));
  const ended = roots.filter((task) => !isOpen(task));
  const shown = new Set(all ? ended : ended.slice(0, endedShownMax));
  const tasks = roots
    .filter((task) => isOpen(task) || shown.has(task))
    .flatMap((task) => [task, ...childrenOf(task, state)]);
  return { version: 1, tasks: tasks.map((task) => taskView(task, state, facts)) };
}

export interface TaskDetailParts {
  readonly plan: Plan | undefined;
  /** Lines of the task's logs; the programs and Nix's messages are among them. */
  readonly lines: readonly LogLine[];
}

export function taskDetail(task: Task, state: LedgerState, facts: ViewFacts, parts: TaskDetailParts): TaskDetail {
  return {
    version: 1,
    task: taskView(task, state, facts),
    children: childrenOf(task, state).map((child) => taskView(child, state, facts)),
    plan: planView(task, state, parts.plan),
    processes: processesOf(parts.lines),
    messages: messagesOf(parts.lines),
  };
}

/** The programs that were run, in the order in which they ended; of very many those that failed and the newest. */
function processesOf(lines: readonly LogLine[]): TaskDetail['processes'] {
  const programs = lines.flatMap(({ peer, program }) => (program === undefined ? [] : [{ peer, ...program }]));
  const excess = programs.length - processesMax;
  if (excess <= 0) return programs;
  const gone = new Set(programs.filter(({ exitCode }) => exitCode === 0).slice(0, excess));
  return programs.filter((program) => !gone.has(program)).slice(-processesMax);
}

/** What Nix said, by level, and our own errors and warnings; of each level the newest, each once. */
function messagesOf(lines: readonly LogLine[]): TaskDetail['messages'] {
  const levels = (['error', 'warning', 'info'] as const).map((level) => {
    const wanted = lines.filter((line) => line.level === level && (level !== 'info' || line.stream === 'nix'));
    const texts = new Set(wanted.filter(({ program }) => program === undefined).map(({ text }) => text));
    return [...texts].slice(-messagesPerLevelMax).map((text) => ({ level, text: clipText(text) }));
  });
  return levels.flat();
}

function planView(task: Task, state: LedgerState, plan: Plan | undefined): PlanView | null {
  const record = task.plan === null ? undefined : state.plans[task.plan];
  if (task.plan === null || record === undefined) return null;
  const isOpenPlan = record.needsApproval && !record.approved && !record.rejected && isOpen(task);
  return {
    plan: task.plan,
    needsApproval: record.needsApproval,
    approved: record.approved,
    rejected: record.rejected,
    changesPolicy: record.changesPolicy,
    author: record.author,
    mayApprove: isOpenPlan ? approversOf(state, record) : [],
    approvals: record.approvals,
    hosts: (plan?.hosts ?? []).map(({ host, before, closure }) => ({ host, before, closure })),
    leftOut: plan?.leftOut ?? [],
    closures: (plan?.closures ?? []).map(({ closure, pathCount, narBytes, changes, changesLeftOut }) => ({
      closure,
      pathCount,
      narBytes,
      changes,
      changesLeftOut,
    })),
  };
}

function progressOf(task: Task, state: LedgerState, facts: ViewFacts): TaskView['progress'] {
  const job = isOpen(task) ? facts.progress(task.id) : undefined;
  if (task.type === 'deploy-device') return deviceProgress(task, state, facts);
  if (task.children.length === 0 || task.stage === 'evaluate') {
    const unit = task.type === 'build' && task.parent !== null ? 'derivations' : 'parts';
    return job === undefined ? { done: 0, total: 0, unit, text: '' } : { ...job, unit };
  }
  const isBuilding = task.stage === 'build' || task.type === 'build';
  const children = childrenOf(task, state).filter((child) => (child.type === 'deploy-device') !== isBuilding);
  const done = children.filter((child) => !isOpen(child)).length;
  const total = isBuilding ? Math.max(children.length, done) : children.length;
  return { done, total, unit: 'parts', text: isBuilding ? 'closures built' : 'hosts done' };
}

function deviceProgress(task: Task, state: LedgerState, facts: ViewFacts): TaskView['progress'] {
  const member = task.host === null ? undefined : memberNamed(state, task.host);
  const { online, beat } = member === undefined ? { online: false, beat: null } : facts.presence(member.peer);
  const activity = online && isOpen(task) && beat?.activity?.order === task.order ? beat?.activity : null;
  if (!activity) return { done: isOpen(task) ? 0 : 1, total: 1, unit: 'parts', text: '' };
  const text = activity.text === '' ? activity.state : activity.text;
  return { done: activity.bytesDone, total: activity.bytesTotal, unit: 'bytes', text };
}

export function childrenOf(task: Task, state: LedgerState): Task[] {
  return task.children.flatMap((id) => state.tasks[id] ?? []);
}

function numberOf(task: Task): number {
  return Number.parseInt(task.id.slice(1), 10);
}
