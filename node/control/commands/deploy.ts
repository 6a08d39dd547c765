// Owns the commands that lead to switches: build, deploy, the people's yes and no, retry, abort. What a selector comes to is
// resolved here and shown first.

import type { Command, CommandEvent } from '../../../protocols/control.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import type { LedgerState } from '../../../protocols/ledger-state.ts';
import type { SelectionView } from '../../../protocols/views.ts';
import type { Described } from '../catalogue.ts';
import { hostsOf, type Selection, selectKnown } from '../hosts-core.ts';
import { selectHosts } from '../selector-core.ts';
import { stepId } from '../step-ids-core.ts';
import {
  type CommandContext,
  type CommandEvents,
  earlierTask,
  followOrLeave,
  leave,
  stateOf,
  submit,
  taskNamed,
} from './command-context.ts';
import { committed, fileWords, submitCommit } from './project.ts';

type Of<N extends Command['name']> = Extract<Command, { name: N }>;

export async function* build(context: CommandContext, command: Of<'build'>): CommandEvents {
  const earlier = earlierTask(context, { kind: 'build-requested', body: { selector: command.selector } });
  if (earlier !== undefined) {
    yield* followOrLeave(context, earlier.task);
    return;
  }
  const revision = headOf(stateOf(context));
  const described = yield* describe(context, revision);
  const hosts = hostsOf(stateOf(context), described);
  const selected = selectHosts(command.selector, hosts);
  const inFlake = new Set(described?.hostNames ?? selected);
  const building = selected.filter((host) => inFlake.has(host));
  const leftOut = selected
    .filter((host) => !inFlake.has(host))
    .map((host) => ({ host, reason: 'the flake has no such host' }));
  yield selectionEvent(command.selector, { hosts: building, leftOut });
  checkSome(command.selector, { hosts: building, leftOut }, 'built');
  const body = { revision, selector: command.selector, hosts: building };
  yield* followOrLeave(context, await submit(context, { kind: 'build-requested', body }));
}

export async function* deploy(context: CommandContext, command: Of<'deploy'>): CommandEvents {
  const { selector, keepGoing } = command;
  const earlier = earlierTask(context, { kind: 'deploy-requested', body: { selector, keepGoing } });
  if (earlier !== undefined) {
    yield* followOrLeave(context, earlier.task);
    return;
  }
  const isCommitted = command.commitMessage === null || (yield* commitFirst(context, command.commitMessage));
  const revision = headOf(stateOf(context));
  const described = yield* describe(context, revision);
  const state = stateOf(context);
  const selection = selectKnown(selector, hostsOf(state, described));
  yield selectionEvent(selector, selection);
  checkSome(selector, selection, 'deployed to');
  if (state.draft !== null && state.draft.fileCount > 0) {
    yield {
      kind: 'progress',
      text: `the draft (${fileWords(state.draft.fileCount)}) is not committed and not part of this`,
    };
  }
  const body = { revision, selector, hosts: selection.hosts, keepGoing };
  const started = await submit(context, { kind: 'deploy-requested', body });
  for await (const event of followOrLeave(context, started)) {
    const isMute = isCommitted || event.kind !== 'end';
    yield isMute ? event : { ...event, text: nothingCommitted(revision, event.text) };
  }
}

/** The end of a deploy that was to commit first: progress lines are gone by then. */
function nothingCommitted(revision: string, text: string): string {
  return `there was nothing to commit, this is the head ${revision.slice(0, 8)}: ${text}`.slice(0, 2_000);
}

export async function* decide(context: CommandContext, command: Of<'approve' | 'reject'>): CommandEvents {
  const reason = command.name === 'reject' && command.reason !== null ? { reason: command.reason } : {};
  const said = { task: command.task, verdict: command.name, ...reason };
  if (earlierTask(context, { kind: 'approval-given', body: said }) === undefined) {
    const task = taskNamed(context, command.task);
    const plan = command.plan ?? task.plan;
    if (plan === null) {
      const state = task.outcome === null ? `it is at the stage '${task.stage}'` : `it ended as ${task.outcome}`;
      throw new ParleyError('no-plan', `there is nothing to ${command.name} in task '${task.id}': ${state}`, {
        hint: `See it with \`task ${task.id}\`.`,
      });
    }
    await submit(context, { kind: 'approval-given', body: { ...said, plan } });
  }
  if (command.name === 'approve') yield* followOrLeave(context, command.task);
  else yield* leave(context, command.task);
}

/** Follows the rest of an aborted task; that it is cancelled is what was asked for. */
export async function* abort(context: CommandContext, command: Of<'abort'>): CommandEvents {
  const draft = { kind: 'task-aborted', body: { task: command.task } } as const;
  if (earlierTask(context, draft) === undefined) await submit(context, draft);
  for await (const event of followOrLeave(context, command.task)) {
    yield event.kind === 'end' && event.outcome === 'cancelled' ? { ...event, outcome: 'succeeded' } : event;
  }
}

export async function* retry(context: CommandContext, command: Of<'retry'>): CommandEvents {
  const draft = { kind: 'task-retried', body: { task: command.task } } as const;
  if (earlierTask(context, draft) === undefined) await submit(context, draft);
  yield* followOrLeave(context, command.task);
}

/** @returns whether there was something to commit. */
async function* commitFirst(context: CommandContext, message: string): AsyncGenerator<CommandEvent, boolean> {
  const id = stepId('commit', context.request.id);
  const files = stateOf(context).draft?.fileCount ?? 0;
  if (files === 0 && earlierTask(context, { kind: 'commit-intended' }, id) === undefined) {
    yield { kind: 'progress', text: 'nothing to commit: the newest commit is deployed' };
    return false;
  }
  yield { kind: 'progress', text: 'committing the draft' };
  const task = await submitCommit(context, message, id);
  if (task !== null) await committed(context, task);
  return true;
}

/** The commit's hosts and tags. Without a builder the policy in force has to do; the deploy then waits for one. */
async function* describe(
  context: CommandContext,
  revision: string,
): AsyncGenerator<CommandEvent, Described | undefined> {
  const known = context.catalogue.described(revision);
  if (known !== undefined) return known;
  yield { kind: 'progress', text: `reading the hosts of ${revision.slice(0, 8)}` };
  try {
    return await context.catalogue.describe(revision, { signal: context.signal });
  } catch (error) {
    if (error instanceof ParleyError && error.retryable && !context.signal.aborted) return undefined;
    throw error;
  }
}

function headOf(state: LedgerState): string {
  if (state.head !== null) return state.head;
  throw new ParleyError('no-commit', 'there is nothing to deploy: nothing has been committed yet', {
    hint: 'Put a flake with `nixosConfigurations` into the work folder and `commit` it.',
  });
}

function selectionEvent(selector: string, selection: Selection): CommandEvent {
  const data: SelectionView = { version: 1, selector, ...selection };
  return { kind: 'view', view: 'selection', data };
}

function checkSome(selector: string, { hosts, leftOut }: Selection, what: string): void {
  if (hosts.length > 0) return;
  const reasons = leftOut.slice(0, 5).map(({ host, reason }) => `${host}: ${reason}`);
  throw new ParleyError('empty-selection', `'${selector}' names no host that can be ${what}: ${reasons.join('; ')}`, {
    hint: 'See `peers` for those that can; enrol a device with `invite`.',
  });
}
