// Owns the jobs that builders do for the coordinator: evaluate a commit, build one derivation, refresh inputs. Results are
// proposed; what a builder says was wrong becomes the task's end.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { InputChange } from '../../../protocols/build-job.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import type { LedgerState, Task } from '../../../protocols/ledger-state.ts';
import { clipText } from '../../../protocols/primitives.ts';
import { type BuilderWish, type ChosenBuilder, chooseBuilder } from '../builders.ts';
import type { JobOptions } from '../control-types.ts';
import { childrenOf, type DueBuild, isStarted } from '../coordinator-core.ts';
import { draftBody } from '../draft-core.ts';
import { currentState, type JobContext, propose, storeBytes, storeRecord } from './job-context.ts';

export async function evaluate(task: Task, context: JobContext): Promise<void> {
  const { peer, name, builder } = choose(context, { preferred: task.builder });
  const text = `evaluating ${task.hosts.length} ${task.hosts.length === 1 ? 'host' : 'hosts'} on ${name}`;
  context.log(task.id, 'info', text);
  context.report(task.id, { text, done: 0, total: task.hosts.length });
  const options = { task: task.id, signal: context.signal };
  const evaluation = await builder.evaluate({ revision: revisionOf(task), hosts: task.hosts }, options);
  const hash = await storeRecord(context, evaluation);
  await context.catalogue.readEvaluation(hash, context.signal);
  const body = { task: task.id, attempt: task.attempt, evaluation: hash, builder: peer };
  await propose(context, { kind: 'evaluation-finished', actor: 'controller', body });
}

/** Builds one derivation for all hosts that share it. A failure is the build's result, not the job's. */
export async function build(task: Task, due: DueBuild, context: JobContext): Promise<void> {
  const { drvPath, hosts } = due;
  const before = buildChild(currentState(context), task, drvPath);
  const { peer, name, builder } = choose(context, { system: due.system, preferred: before?.builder ?? task.builder });
  const { id: taskId, attempt } = task;
  if (!isStarted(currentState(context), task, drvPath) || before?.builder !== peer) {
    const body = { task: taskId, attempt, drvPath, hosts: [...hosts], builder: peer };
    await propose(context, { kind: 'build-started', actor: 'controller', body });
  }
  const child = buildChild(currentState(context), task, drvPath)?.id ?? taskId;
  const text = `building for ${hosts.join(', ')} on ${name}`;
  context.log(child, 'info', text);
  const options: JobOptions = {
    ...{ task: child, signal: context.signal },
    onProgress: ({ done, expected }) => context.report(child, { text, done, total: expected }),
  };
  try {
    const source = { revision: revisionOf(task), host: hosts[0] ?? '' };
    const result = await builder.build({ drvPath, source }, options);
    const manifest = await storeRecord(context, result.manifest);
    await context.components.keepTwice(manifest, peer, { signal: context.signal });
    const body = { task: taskId, attempt, drvPath, closure: result.storePath, manifest };
    await propose(context, { kind: 'build-finished', actor: 'controller', body });
  } catch (error) {
    if (context.signal.aborted || !(error instanceof ParleyError) || error.retryable) throw error;
    context.log(child, 'error', error.message);
    const body = { task: taskId, attempt, drvPath, reason: clipText(error.message) };
    await propose(context, { kind: 'build-failed', actor: 'controller', body });
  }
}

/** Refreshes the inputs of the draft, or of the head where there is none; the result is the new draft. */
export async function updateInputs(task: Task, context: JobContext): Promise<void> {
  const { project } = context.components;
  const base = revisionOf(task);
  const { draft, head } = currentState(context);
  if (project === null) throw new ParleyError('no-repository', 'this peer holds no copy of the project');
  if (head !== base)
    throw new ParleyError('head-moved', `the project moved on to ${head} while its inputs were updated`);
  const { builder, name } = choose(context, {});
  context.log(task.id, 'info', `updating inputs on ${name}`);
  context.report(task.id, { text: `updating inputs on ${name}`, done: 0, total: 0 });
  const { tree, pack } = draft ?? { tree: base, pack: null };
  const options = { task: task.id, signal: context.signal };
  const result = await builder.update({ tree, base, pack, inputs: task.inputs }, options);
  if (result.changes.length === 0) return finish(task, describeNothing(task, currentState(context)), context);
  await project.ensureRevision(base, { signal: context.signal });
  if (pack !== null) await project.ensurePack(pack, { signal: context.signal });
  const folder = await mkdtemp(join(tmpdir(), 'parley-update-'));
  try {
    await project.checkout(tree, folder);
    await writeFile(join(folder, 'flake.lock'), result.lockFile);
    const updated = await project.treeOf(folder, base);
    const hash = await storeBytes(context, updated.pack);
    const body = draftBody({
      base,
      previous: draft?.hash ?? null,
      tree: updated.tree,
      pack: hash,
      files: updated.files,
    });
    await propose(context, { kind: 'draft-staged', actor: task.actor, body });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const described = describeChanges(result.changes);
  for (const line of described) context.log(task.id, 'info', line);
  return finish(task, `${described.join('; ')}: see it with \`diff\`, keep it with \`commit\``, context);
}

async function finish(task: Task, text: string, context: JobContext): Promise<void> {
  const reason = clipText(text);
  const body = { task: task.id, attempt: task.attempt, outcome: 'succeeded' as const, reason };
  await propose(context, { kind: 'task-finished', actor: 'controller', body });
}

/** After a change of controllers the draft may hold the refreshed inputs already. */
function describeNothing(task: Task, { draft }: LedgerState): string {
  const isStaged =
    draft?.files.some(({ path }) => path === 'flake.lock') && draft.stagedAtMs >= (task.startedAtMs ?? 0);
  return isStaged ? 'the refreshed inputs are in the draft: see them with `diff`' : 'every input is up to date already';
}

function describeChanges(changes: readonly InputChange[]): string[] {
  const shown = changes
    .slice(0, 20)
    .map(({ name, before, after }) => `${name}: ${before ?? 'new'} → ${after ?? 'gone'}`);
  return changes.length > shown.length ? [...shown, `and ${changes.length - shown.length} more`] : shown;
}

function choose(context: JobContext, wish: BuilderWish): ChosenBuilder {
  return chooseBuilder(currentState(context), wish, { ...context.components, isOnline: context.isOnline });
}

function buildChild(state: LedgerState, task: Task, drvPath: string): Task | undefined {
  const current = state.tasks[task.id];
  if (current === undefined) return undefined;
  return childrenOf(state, current).find((child) => child.drvPath === drvPath);
}

function revisionOf(task: Task): string {
  if (task.revision !== null) return task.revision;
  throw new Error(`task '${task.id}' names no commit`);
}
