// Owns what every command is given, and the steps that most of them take: submit an entry under the command's id, follow the
// task that came of it, say how it ended.

import type { CommandEvent, ForwardedRequest } from '../../../protocols/control.ts';
import { fromErrorRecord, ParleyError } from '../../../protocols/errors.ts';
import type { EntryDraft } from '../../../protocols/ledger-entries.ts';
import { earlierResult, memberNamed, type StatedCommand } from '../../../protocols/ledger-rules.ts';
import type { LedgerState, Member, Task } from '../../../protocols/ledger-state.ts';
import type { Outcome } from '../../../protocols/outcome.ts';
import type { Catalogue } from '../catalogue.ts';
import type { ControlComponents } from '../control-types.ts';
import { nearNames } from '../selector-core.ts';
import { standingOf } from '../standing-core.ts';
import { taskDetail } from '../task-views-core.ts';
import type { ViewFacts } from '../views-core.ts';

/** Views of a task in between are of no use faster than people read. */
const followPeriodMs = 100;
/** A card is shown without its plan where no reachable peer has it. */
const planTimeoutMs = 3_000;

export type CommandEvents = AsyncGenerator<CommandEvent, void>;

export interface CommandContext {
  readonly components: ControlComponents;
  readonly catalogue: Catalogue;
  readonly request: ForwardedRequest;
  /** The peer at whose socket the command was given. */
  readonly sender: string;
  readonly signal: AbortSignal;
  readonly isOnline: (peer: string) => boolean;
  facts(): ViewFacts;
  /** Called when something that views show has changed. Returns the function that unsubscribes. */
  onChange(listener: () => void): () => void;
  /** Runs one after another what may start a task, so that the number of the next one can be relied on. */
  inTurn<T>(work: () => Promise<T>): Promise<T>;
}

type Draft = EntryDraft extends infer D ? (D extends EntryDraft ? Pick<D, 'kind' | 'body'> : never) : never;

export function stateOf(context: CommandContext): LedgerState {
  return context.components.ledger.state();
}

/**
 * What came of this command when it was given before: the entry that it becomes is applied once under its id.
 * @throws its refusal; ParleyError `id-taken` where the id is another command's.
 */
export function earlierTask(
  context: CommandContext,
  command: StatedCommand | { readonly kind: 'commit-intended' | 'draft-discarded' },
  id = context.request.id,
): { readonly task: string | null } | undefined {
  const known = earlierResult(stateOf(context), { commandId: id, actor: context.request.actor, ...command });
  if (known === undefined) return undefined;
  if (known.error !== null) throw fromErrorRecord({ ...known.error });
  return known;
}

/** Proposes the command's entry; returns the task that it started or acted on. @throws the ledger's refusal. */
export function submit(context: CommandContext, draft: Draft, id = context.request.id): Promise<string | null> {
  return context.inTurn(() => submitInTurn(context, draft, id));
}

/** As `submit`, for callers that have the turn already. */
export async function submitInTurn(
  context: CommandContext,
  draft: Draft,
  id = context.request.id,
): Promise<string | null> {
  const { actor } = context.request;
  const entry = { ...draft, actor, commandId: id } as EntryDraft;
  const { result } = await context.components.ledger.propose(entry, { signal: context.signal });
  if (result.error !== null) throw fromErrorRecord({ ...result.error });
  return result.task;
}

/** A task by its id. @throws ParleyError `task-unknown`. */
export function taskNamed(context: CommandContext, id: string): Task {
  const { tasks } = stateOf(context);
  const task = Object.hasOwn(tasks, id) ? tasks[id] : undefined;
  if (task !== undefined) return task;
  throw new ParleyError('task-unknown', `there is no task '${id}'`, {
    hint: 'See `tasks --all`; the oldest ended ones are forgotten.',
  });
}

/** The member with that name. @throws ParleyError `unknown-host`. */
export function peerNamed(name: string, state: LedgerState): Member {
  const member = memberNamed(state, name);
  if (member !== undefined) return member;
  const near = nearNames(
    name,
    Object.values(state.members).map((each) => each.name),
  );
  throw new ParleyError('unknown-host', `there is no peer '${name}'`, {
    hint: near.length > 0 ? `Did you mean ${near.join(' or ')}?` : 'See the names with `peers`.',
  });
}

export function endEvent(fields: {
  readonly text: string;
  readonly task?: string | null;
  readonly outcome?: Outcome;
  readonly waitsFor?: string | null;
  readonly revision?: string | null;
}): CommandEvent {
  const { text, task = null, outcome = 'succeeded', waitsFor = null, revision = null } = fields;
  return { kind: 'end', outcome, task, waitsFor, text: text.slice(0, 2_000), revision };
}

/** The events of a command that started a task: followed to its end where that was asked for. */
export async function* followOrLeave(context: CommandContext, id: string | null): CommandEvents {
  if (id === null) {
    yield endEvent({ text: 'done' });
    return;
  }
  yield await taskEvent(context, id);
  if (context.request.follow) yield* followTask(context, id);
  else yield endOfLeaving(context, id);
}

/** The card of a task that is not followed, and where it stands: the command itself has done what it was asked. */
export async function* leave(context: CommandContext, id: string): CommandEvents {
  yield await taskEvent(context, id);
  yield endOfLeaving(context, id);
}

function endOfLeaving(context: CommandContext, id: string): CommandEvent {
  const task = taskNamed(context, id);
  const { text } = standingOf(task, stateOf(context), context.facts());
  return endEvent({ text, task: id, revision: task.revision });
}

/** Progress until the task ends, waits for a person, or has only absent devices left; then its card and the end. */
export async function* followTask(context: CommandContext, id: string): CommandEvents {
  let told = '';
  for await (const _ of changes(context)) {
    const task = taskNamed(context, id);
    const standing = standingOf(task, stateOf(context), context.facts());
    if (standing.kind !== 'runs') {
      const waitsFor = standing.kind === 'waits' ? standing.waitsFor.slice(0, 2_000) : null;
      yield await taskEvent(context, id);
      yield endEvent({ text: standing.text, task: id, outcome: standing.outcome, waitsFor, revision: task.revision });
      return;
    }
    const { text, done, total } = standing;
    const now = `${text} ${done}/${total}`;
    if (now === told) continue;
    told = now;
    yield { kind: 'progress', text: text.slice(0, 2_000), ...(total > 0 ? { done, total } : {}) };
  }
}

/** Yields at once, and after each change, at most ten times a second. Ends by throwing the signal's reason. */
export async function* changes(context: CommandContext): AsyncGenerator<void> {
  const { clock } = context.components;
  let changed = Promise.withResolvers<void>();
  const stop = context.onChange(() => changed.resolve());
  const onAbort = () => changed.resolve();
  context.signal.addEventListener('abort', onAbort);
  try {
    for (;;) {
      context.signal.throwIfAborted();
      changed = Promise.withResolvers<void>();
      yield;
      const paused = Promise.withResolvers<void>();
      clock.after(followPeriodMs, () => paused.resolve());
      await Promise.all([paused.promise, changed.promise]);
    }
  } finally {
    stop();
    context.signal.removeEventListener('abort', onAbort);
  }
}

/** The card of a task with its children and plan. */
export async function taskEvent(
  context: CommandContext,
  id: string,
  lines: Parameters<typeof taskDetail>[3]['lines'] = [],
): Promise<CommandEvent> {
  const task = taskNamed(context, id);
  const reading = AbortSignal.any([context.signal, AbortSignal.timeout(planTimeoutMs)]);
  const plan =
    task.plan === null
      ? undefined
      : await context.catalogue.readPlan(task.plan, reading).catch(() => context.signal.throwIfAborted());
  const detail = taskDetail(task, stateOf(context), context.facts(), { plan: plan ?? undefined, lines });
  return { kind: 'view', view: 'task', data: detail };
}
