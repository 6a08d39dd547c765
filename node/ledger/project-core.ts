// Owns the project's side of the state: the draft, commits one at a time, and the refresh of inputs. A draft replaces only
// the draft that its author saw, and a commit only the head that it was made on.

import { hashOf } from '../../protocols/codec.ts';
import { isOpen } from '../../protocols/ledger-rules.ts';
import type { Draft, LedgerState, Task } from '../../protocols/ledger-state.ts';
import { type Handler, refusal, taskOf } from './state-core.ts';
import { endTask, reason, startTask } from './tasks-core.ts';

/** Hash of what a draft stages; the same content has the same hash, whoever stages it and when. */
export function draftHash(draft: Pick<Draft, 'base' | 'tree' | 'pack' | 'files' | 'fileCount'>): string {
  const { base, tree, pack, files, fileCount } = draft;
  return hashOf({ base, tree, pack, files, fileCount });
}

export const draftStaged: Handler<'draft-staged'> = (state, body, meta) => {
  refuseWhileRunning(state, 'commit');
  checkHead(state, body.base, 'the draft');
  const { previous, ...content } = body;
  const hash = draftHash(content);
  if (state.draft?.hash === hash) return { state };
  checkDraft(state, previous);
  const draft: Draft = { hash, ...content, actor: meta.actor, stagedAtMs: state.timeMs };
  return { state: { ...state, draft } };
};

export const draftDiscarded: Handler<'draft-discarded'> = (state) => {
  refuseWhileRunning(state, 'commit');
  if (state.draft === null) throw refusal('nothing-to-discard', 'there is no draft to discard');
  return { state: { ...state, draft: null } };
};

export const commitIntended: Handler<'commit-intended'> = (state, body, meta) => {
  refuseWhileRunning(state, 'commit');
  const draft = state.draft;
  if (draft === null || draft.fileCount === 0) {
    throw refusal('nothing-to-commit', 'there is nothing to commit: no file of the project has changed');
  }
  checkDraft(state, body.draft);
  checkHead(state, draft.base, 'the draft');
  return startTask(state, meta, {
    type: 'commit',
    commit: {
      parent: draft.base,
      tree: draft.tree,
      pack: draft.pack,
      message: body.message,
      author: meta.actor,
      timeMs: state.timeMs,
    },
  });
};

/** The commit exists in git on the voters: it becomes the head, and its draft is gone. */
export const commitRecorded: Handler<'commit-recorded'> = (state, body) => {
  const task = taskOf(state, body.task);
  const intent = task.commit;
  if (intent === null) throw refusal('not-a-commit', `task '${task.id}' commits nothing: it is a ${task.type}`);
  if (!isOpen(task)) throw refusal('task-ended', `task '${task.id}' has ended: ${task.outcome}`);
  if (intent.parent !== state.head) {
    const text = `the head is ${state.head ?? 'empty'}, and the commit was made on ${intent.parent ?? 'nothing'}`;
    return { state: endTask(state, task, 'failed', reason('error', text)), task: task.id };
  }
  const draft = state.draft;
  const isItsDraft = draft !== null && draft.base === intent.parent && draft.tree === intent.tree;
  const moved = { ...state, head: body.revision, draft: isItsDraft ? null : draft };
  const done = endTask(moved, { ...task, revision: body.revision }, 'succeeded', null);
  return { state: supersedeWaiting(done, body.revision), task: task.id };
};

/** A new commit voids what still waits for a person's yes: nobody approves a plan for a project that has moved on. */
function supersedeWaiting(state: LedgerState, revision: string): LedgerState {
  let next = state;
  for (const task of Object.values(state.tasks)) {
    if (task.type !== 'deploy' || task.stage !== 'approval' || !isOpen(task)) continue;
    next = supersedeByCommit(next, task, revision);
  }
  return next;
}

/** Ends a deploy that a newer commit came before. */
export function supersedeByCommit(state: LedgerState, task: Task, revision: string): LedgerState {
  const text = `commit ${revision.slice(0, 7)} came before it was approved: deploy again`;
  return endTask(state, task, 'superseded', reason('newer-order', text));
}

export const updateRequested: Handler<'update-requested'> = (state, body, meta) => {
  refuseWhileRunning(state, 'update-inputs');
  if (state.head === null) {
    throw refusal(
      'no-commit',
      'there are no inputs to update: nothing has been committed yet',
      'Commit the project first.',
    );
  }
  return startTask(state, meta, { type: 'update-inputs', revision: state.head, inputs: body.inputs });
};

/** @throws ParleyError `commit-running` or `update-inputs-running`, both retryable. */
function refuseWhileRunning(state: LedgerState, type: 'commit' | 'update-inputs'): void {
  const running = Object.values(state.tasks).find((task) => task.type === type && isOpen(task));
  if (running === undefined) return;
  const what = type === 'commit' ? 'a commit' : 'an update of the inputs';
  throw refusal(
    `${type}-running`,
    `${what} is under way already: task '${running.id}'`,
    'Wait until it has ended.',
    true,
  );
}

/** @throws ParleyError `head-moved`. */
function checkHead(state: LedgerState, base: string | null, what: string): void {
  if (base === state.head) return;
  const text = `${what} is based on ${base ?? 'an empty project'}: the head is ${state.head ?? 'empty'}`;
  throw refusal('head-moved', text, 'Bring the work folder up to date with the head, then try again.');
}

/** @throws ParleyError `draft-moved`. */
function checkDraft(state: LedgerState, seen: string | null): void {
  const actual = state.draft;
  if (seen === (actual?.hash ?? null)) return;
  const text = actual === null ? 'there is none any more' : `${actual.actor} staged another one`;
  throw refusal(
    'draft-moved',
    `the draft is not the one that was looked at: ${text}`,
    'Look at it with `diff` and try again.',
  );
}
