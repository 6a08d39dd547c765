// Owns the gathering of a task's logs from the peers that ran parts of it: the controllers (voters) for evaluating, building
// and planning, each device for its switch. A peer that cannot be asked leaves a line that says so.

import { isOpen, memberNamed } from '../../../protocols/ledger-rules.ts';
import type { LedgerState, Task } from '../../../protocols/ledger-state.ts';
import type { LogLine } from '../../../protocols/views.ts';
import { mergeAsync } from '../merge-async.ts';
import type { CommandContext } from './command-context.ts';

/** After a task has ended, followers get this long to receive what its log still holds. */
const endGraceMs = 1_000;

interface Source {
  readonly peer: string;
  readonly task: string;
}

type LogContext = Pick<CommandContext, 'components' | 'signal' | 'isOnline'>;

/** All lines there are, part by part; only of the task itself and of parts that did not go well with `troubled`. */
export async function* readTaskLogs(
  context: LogContext,
  id: string,
  parts: 'all' | 'troubled',
): AsyncGenerator<LogLine> {
  const state = context.components.ledger.state();
  for (const source of sourcesOf(state, id)) {
    const { outcome, parent } = state.tasks[source.task] ?? {};
    const isCalm = parent !== null && (outcome === null || outcome === 'succeeded');
    if (parts === 'all' || !isCalm) yield* readSource(context, source, false, context.signal);
  }
}

/** The lines of all parts as they come, until the task has ended. */
export async function* followTaskLogs(context: LogContext, id: string): AsyncGenerator<LogLine> {
  const { ledger } = context.components;
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  const merged = mergeAsync<LogLine>(signal);
  const known = new Set<string>();
  const addSources = () => {
    const state = ledger.state();
    for (const source of sourcesOf(state, id)) {
      const key = `${source.peer} ${source.task}`;
      if (known.has(key)) continue;
      known.add(key);
      merged.add(readSource(context, source, true, signal));
    }
    const task = state.tasks[id];
    if (task === undefined || !isOpen(task)) context.components.clock.after(endGraceMs, () => over.abort());
  };
  const stop = ledger.onApplied(addSources);
  try {
    addSources();
    yield* merged.items();
  } finally {
    stop();
    over.abort();
  }
}

/** Where parts of a task left lines. A device writes under its child or, before it reads the ledger's tree, under the parent. */
function sourcesOf(state: LedgerState, id: string): Source[] {
  const task = state.tasks[id];
  if (task === undefined) return [];
  const parts = [task, ...task.children.flatMap((child) => state.tasks[child] ?? [])];
  const sources = parts.flatMap((part) => peersOf(part, state).map((peer) => ({ peer, task: part.id })));
  const devices = parts
    .filter((part) => part.type === 'deploy-device' && part.parent !== null)
    .flatMap((part) => peersOf(part, state).map((peer) => ({ peer, task: part.parent ?? part.id })));
  const unique = new Map([...sources, ...devices].map((source) => [`${source.peer} ${source.task}`, source]));
  return [...unique.values()];
}

function peersOf(task: Task, state: LedgerState): string[] {
  if (task.type === 'deploy-device') {
    const member = task.host === null ? undefined : memberNamed(state, task.host);
    return member === undefined ? [] : [member.peer];
  }
  return Object.values(state.members)
    .filter((member) => member.roles.includes('voter'))
    .map((member) => member.peer);
}

async function* readSource(
  context: Omit<LogContext, 'signal'>,
  source: Source,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<LogLine> {
  const { journal, ledger, clock, mesh } = context.components;
  const name = ledger.state().members[source.peer]?.name ?? 'unknown';
  const note = (why: string): LogLine => ({
    atMs: clock.nowMs(),
    peer: name,
    task: source.task,
    stream: 'parley',
    level: 'warning',
    text: `the log on ${name} cannot be read: ${why}`,
  });
  const isDevice = taskIsDevice(ledger.state(), source.task);
  if (source.peer !== mesh.self && !context.isOnline(source.peer)) {
    if (isDevice) yield note('it is offline');
    return;
  }
  try {
    yield* journal.readLogs({ peer: source.peer, task: source.task, follow, signal });
  } catch (error) {
    if (signal.aborted) return;
    if (isDevice) yield note((error as Error).message);
  }
}

function taskIsDevice(state: LedgerState, id: string): boolean {
  return state.tasks[id]?.type === 'deploy-device';
}
