// Owns what the core's handlers share: refusals, which are thrown and recorded by the caller, and reading and making tasks.
// Records never change: a change makes a new one and puts it into its table (tables-core.ts).

import { ParleyError } from '../../protocols/errors.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import type { EntryBody, EntryKind } from '../../protocols/ledger-entries.ts';
import { isOpen } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Member, Task } from '../../protocols/ledger-state.ts';
import { clipText } from '../../protocols/primitives.ts';
import { putRecord } from './tables-core.ts';

/** What an entry says besides its body. Its time is the state's `timeMs` by the time a handler sees it. */
export interface EntryMeta {
  /** The entry's index; an order's number. */
  readonly index: number;
  readonly actor: string;
  readonly commandId: string | null;
  /** Those that this peer has accepted. */
  readonly generations: readonly GenerationRecord[];
}

/** What applying came to: the next state and the task that the entry started or acted on. */
export interface Change {
  readonly state: LedgerState;
  readonly task?: string;
}

/** Applies one kind of entry; throws a ParleyError to refuse it. */
export type Handler<K extends EntryKind> = (state: LedgerState, body: EntryBody<K>, meta: EntryMeta) => Change;

/** A refusal: recorded as the result of the entry's command, and nothing else changes. */
export function refusal(code: string, message: string, hint?: string, retryable = false): ParleyError {
  return new ParleyError(code, clipText(message), hint === undefined ? { retryable } : { hint, retryable });
}

/** Of a reason in a notice or in its parent's reason: long enough for a store path and what happened to it. */
const firstLineCharactersMax = 300;

/** The first line of a reason for texts that name several or have little room, cut at a word; its task keeps all of it. */
export function firstLine(text: string): string {
  const [line = ''] = text.trimStart().split('\n', 1);
  const whole = line.trimEnd().replace(/:$/, '');
  if (whole.length <= firstLineCharactersMax) return whole;
  const start = whole.slice(0, firstLineCharactersMax - 1);
  const blank = start.lastIndexOf(' ');
  return `${blank > firstLineCharactersMax / 2 ? start.slice(0, blank) : start}…`;
}

/** Names for people: the first ten, and how many more there are. */
export function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 10).join(', ');
  return names.length > 10 ? `${shown} and ${names.length - 10} more` : shown;
}

/** @throws ParleyError `task-unknown`. */
export function taskOf(state: LedgerState, id: string): Task {
  const task = state.tasks[id];
  if (task === undefined) {
    throw refusal(
      'task-unknown',
      `there is no task '${id}'`,
      'List the tasks with `tasks`; the oldest ended ones leave.',
    );
  }
  return task;
}

/** @throws ParleyError `task-unknown`, `task-ended`, or `late-result` for a result of an earlier attempt. */
export function openTaskOf(state: LedgerState, id: string, attempt: number): Task {
  const task = taskOf(state, id);
  if (!isOpen(task)) throw refusal('task-ended', `task '${id}' has ended: ${task.outcome}`);
  if (task.attempt !== attempt) {
    throw refusal('late-result', `a result for attempt ${attempt} of task '${id}': it is at attempt ${task.attempt}`);
  }
  return task;
}

export function childrenOf(state: LedgerState, task: Task): Task[] {
  const children: Task[] = [];
  for (const id of task.children) {
    const child = state.tasks[id];
    if (child !== undefined) children.push(child);
  }
  return children;
}

/** Stores new or changed tasks. */
export function putTasks(state: LedgerState, ...changed: readonly Task[]): LedgerState {
  let next = state;
  for (const task of changed) next = putRecord(next, 'tasks', task.id, task);
  return next;
}

/** Adds children that the parent does not list yet. */
export function putChildren(state: LedgerState, parent: Task, changed: readonly Task[]): LedgerState {
  const known = new Set(parent.children);
  const added = changed.map((child) => child.id).filter((id) => !known.has(id));
  return putTasks(state, { ...parent, children: [...parent.children, ...added] }, ...changed);
}

/** @throws ParleyError `member-unknown`. */
export function memberOf(state: LedgerState, peer: string): Member {
  const member = state.members[peer];
  if (member === undefined) throw refusal('member-unknown', `peer '${peer}' is no member of this fleet`);
  return member;
}

/** The device of that name. @throws ParleyError `host-unknown`. */
export function deviceMember(membersByName: ReadonlyMap<string, Member>, host: string): Member {
  const member = membersByName.get(host);
  if (member === undefined || member.roles.includes('monitor')) {
    const actual = member === undefined ? 'no member has that name' : 'it is only monitored';
    throw refusal('host-unknown', `cannot deploy to '${host}': ${actual}`, 'See the names with `peers`.');
  }
  return member;
}

/** Members by name, without those that are leaving. */
export function membersByName(state: LedgerState): Map<string, Member> {
  const staying = Object.values(state.members).filter(({ leaving }) => leaving === undefined);
  return new Map(staying.map((member) => [member.name, member]));
}

const emptyTask = {
  status: 'running',
  outcome: null,
  reason: null,
  parent: null,
  children: [],
  attempt: 1,
  startedAtMs: null,
  endedAtMs: null,
  revision: null,
  selector: null,
  hosts: [],
  inputs: [],
  keepGoing: false,
  commit: null,
  stage: 'work',
  evaluation: null,
  builder: null,
  plan: null,
  host: null,
  drvPath: null,
  closure: null,
  manifest: null,
  order: null,
  failedUnits: [],
  simulated: false,
  abortedBy: null,
} satisfies Partial<Task>;

/** A child of a task, with its attempt; pending unless `fields` say otherwise. */
export function newChild(state: LedgerState, parent: Task, fields: Pick<Task, 'id' | 'type'> & Partial<Task>): Task {
  return {
    ...emptyTask,
    status: 'pending',
    parent: parent.id,
    actor: parent.actor,
    commandId: null,
    attempt: parent.attempt,
    revision: parent.revision,
    submittedAtMs: state.timeMs,
    ...fields,
  };
}

/** A task without a parent, running, under the next number. */
export function newTask(state: LedgerState, meta: EntryMeta, fields: Pick<Task, 'type'> & Partial<Task>): Task {
  return {
    ...emptyTask,
    id: `t${state.nextTaskNumber}`,
    actor: meta.actor,
    commandId: meta.commandId,
    submittedAtMs: state.timeMs,
    startedAtMs: state.timeMs,
    ...fields,
  };
}
