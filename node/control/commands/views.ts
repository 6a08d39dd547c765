// Owns the commands that only look: they are answered from the ledger's state and what this peer knows beside it.

import type { Command } from '../../../protocols/control.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import { rolesOf } from '../../../protocols/ledger-rules.ts';
import type { LedgerState } from '../../../protocols/ledger-state.ts';
import type { DiffView, HistoryView, WhoamiView } from '../../../protocols/views.ts';
import { hostWords } from '../standing-core.ts';
import { tasksView } from '../task-views-core.ts';
import { commitOf, statusView } from '../views-core.ts';
import {
  type CommandContext,
  type CommandEvents,
  changes,
  endEvent,
  followTask,
  stateOf,
  taskEvent,
  taskNamed,
} from './command-context.ts';
import { followTaskLogs, gatherTaskLogs, readTaskLogs } from './task-logs.ts';

type Of<N extends Command['name']> = Extract<Command, { name: N }>;

/** Log lines that are looked through for the programs and messages of a task's card, and how long that may take. */
const cardLinesMax = 50_000;
const cardTimeoutMs = 1_500;

export async function* status(context: CommandContext, command: Of<'status' | 'peers'>): CommandEvents {
  yield { kind: 'view', view: command.name, data: statusView(stateOf(context), context.facts()) };
  yield endEvent({ text: '' });
}

export async function* whoami(context: CommandContext): CommandEvents {
  const state = stateOf(context);
  const { actor } = context.request;
  const { controller } = context.facts();
  const view: WhoamiView = {
    version: 1,
    actor,
    roles: [...rolesOf(state, actor)],
    peer: state.members[context.sender]?.name ?? 'unknown',
    controller: controller === null ? null : (state.members[controller]?.name ?? null),
  };
  yield { kind: 'view', view: 'whoami', data: view };
  yield endEvent({ text: '' });
}

export async function* tasks(context: CommandContext, command: Of<'tasks'>): CommandEvents {
  yield { kind: 'view', view: 'tasks', data: tasksView(stateOf(context), context.facts(), command.all) };
  yield endEvent({ text: '' });
}

export async function* task(context: CommandContext, command: Of<'task'>): CommandEvents {
  taskNamed(context, command.task);
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(cardTimeoutMs)]);
  const lines = await gatherTaskLogs({ ...context, signal }, command.task, cardLinesMax);
  context.signal.throwIfAborted();
  yield await taskEvent(context, command.task, lines);
  yield endEvent({ text: '', task: command.task });
}

export async function* watch(context: CommandContext, command: Of<'watch'>): CommandEvents {
  yield await taskEvent(context, command.task);
  yield* followTask(context, command.task);
}

export async function* logs(context: CommandContext, command: Of<'logs'>): CommandEvents {
  taskNamed(context, command.task);
  const lines = command.follow ? followTaskLogs(context, command.task) : readTaskLogs(context, command.task);
  for await (const line of lines) yield { kind: 'log', line };
  yield endEvent({ text: '', task: command.task });
}

export async function* history(context: CommandContext, command: Of<'history'>): CommandEvents {
  const project = projectOf(context);
  const state = stateOf(context);
  if (state.head !== null) await project.ensureRevision(state.head, { signal: context.signal });
  const commits = await project.history(command.limit);
  const running = hostsByCommit(state);
  const view: HistoryView = {
    version: 1,
    commits: commits.map(({ revision, author, atMs, message }) => ({
      revision,
      author: author.slice(0, 64),
      atMs,
      message: message.slice(0, 2_000),
      hosts: running.get(revision) ?? [],
    })),
  };
  yield { kind: 'view', view: 'history', data: view };
  yield endEvent({ text: '' });
}

/** The draft against the head. A work folder's own changes are shown by the peer at whose socket it lies. */
export async function* diff(context: CommandContext): CommandEvents {
  const { draft, head } = stateOf(context);
  const view: DiffView = { version: 1, base: head, files: draft?.files ?? [], patch: '' };
  if (draft !== null) {
    const project = projectOf(context);
    await project.ensurePack(draft.pack, { signal: context.signal });
    yield { kind: 'view', view: 'diff', data: { ...view, patch: await project.patch(draft.base, draft.tree) } };
  } else yield { kind: 'view', view: 'diff', data: view };
  yield endEvent({ text: '' });
}

export async function* notices(context: CommandContext, command: Of<'notices'>): CommandEvents {
  let after = command.after;
  const fresh = () => stateOf(context).notices.filter((notice) => notice.number > after);
  if (!command.follow) {
    yield { kind: 'view', view: 'notices', data: { version: 1, notices: fresh() } };
    yield endEvent({ text: '' });
    return;
  }
  for await (const _ of changes(context)) {
    const found = fresh();
    const last = found.at(-1);
    if (last === undefined) continue;
    after = last.number;
    yield { kind: 'view', view: 'notices', data: { version: 1, notices: found } };
  }
}

function hostsByCommit(state: LedgerState): Map<string, string[]> {
  const hosts = new Map<string, string[]>();
  for (const [host, device] of Object.entries(state.devices)) {
    const commit = device.running === null ? null : commitOf(host, device.running, state);
    if (commit !== null) hosts.set(commit, [...(hosts.get(commit) ?? []), host].sort());
  }
  return hosts;
}

/** @throws ParleyError `no-repository`: only voters and builders hold the project. */
export function projectOf(context: CommandContext): NonNullable<CommandContext['components']['project']> {
  const { project } = context.components;
  if (project !== null) return project;
  const state = stateOf(context);
  const holders = Object.values(state.members)
    .filter((member) => member.roles.includes('voter') || member.roles.includes('builder'))
    .map((member) => member.name)
    .sort();
  throw new ParleyError('no-repository', 'this peer holds no copy of the project, and no controller could be asked', {
    retryable: true,
    hint: `Ask at ${hostWords(holders)}.`,
  });
}
