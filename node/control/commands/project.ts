// Owns the commands about the project: commit the draft, drop it, refresh the inputs.

import type { Command } from '../../../protocols/control.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import { isOpen } from '../../../protocols/ledger-rules.ts';
import {
  type CommandContext,
  type CommandEvents,
  earlierTask,
  endEvent,
  followOrLeave,
  stateOf,
  submit,
} from './command-context.ts';

type Of<N extends Command['name']> = Extract<Command, { name: N }>;

export async function* commit(context: CommandContext, command: Of<'commit'>): CommandEvents {
  const task = await submitCommit(context, command.message, context.request.id);
  yield* followOrLeave(context, task);
}

export async function* discard(context: CommandContext): CommandEvents {
  const files = stateOf(context).draft?.fileCount ?? 0;
  if (earlierTask(context, { kind: 'draft-discarded' }) === undefined) {
    await submit(context, { kind: 'draft-discarded', body: {} });
  }
  yield endEvent({ text: files === 0 ? 'the draft is discarded' : `the draft is discarded: ${fileWords(files)}` });
}

export async function* update(context: CommandContext, command: Of<'update'>): CommandEvents {
  const draft = { kind: 'update-requested', body: { inputs: command.inputs } } as const;
  const earlier = earlierTask(context, draft);
  yield* followOrLeave(context, earlier ? earlier.task : await submit(context, draft));
}

/** Starts the commit of the draft, once for this id; returns its task. @throws ParleyError `nothing-to-commit` and others. */
export async function submitCommit(
  context: CommandContext,
  message: string | null,
  id: string,
): Promise<string | null> {
  const earlier = earlierTask(context, { kind: 'commit-intended' }, id);
  if (earlier !== undefined) return earlier.task;
  const { draft } = stateOf(context);
  if (draft === null) {
    throw new ParleyError('nothing-to-commit', 'there is nothing to commit: no file of the project has changed', {
      hint: 'Change files in the work folder, or `update` its inputs; `diff` shows what there is to commit.',
    });
  }
  const body = {
    draft: draft.hash,
    message:
      message ??
      defaultMessage(
        draft.files.map(({ path }) => path),
        draft.fileCount,
      ),
  };
  return submit(context, { kind: 'commit-intended', body }, id);
}

/** Waits until the commit is made. @returns the new commit. @throws ParleyError `commit-failed`. */
export async function committed(context: CommandContext, id: string): Promise<string> {
  const state = await context.components.ledger.waitFor(({ tasks }) => {
    const task = tasks[id];
    return task === undefined || !isOpen(task);
  }, context.signal);
  const task = state.tasks[id];
  if (task?.outcome === 'succeeded' && task.revision !== null) return task.revision;
  throw new ParleyError('commit-failed', `the commit '${id}' failed: ${task?.reason?.text ?? 'its task is forgotten'}`);
}

export function fileWords(count: number): string {
  return count === 1 ? '1 file' : `${count} files`;
}

function defaultMessage(paths: readonly string[], count: number): string {
  const shown = paths.slice(0, 3).join(', ');
  return `Change ${count > 3 ? `${shown} and ${count - 3} more` : shown || fileWords(count)}`.slice(0, 2_000);
}
