// Owns the gathering of a task's logs from the peers that ran parts of it: voters for what they did as controllers, builders
// for their jobs, each device for its switch. A peer that cannot be asked leaves a line that says so.

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

/** All lines there are, part by part. */
export async function* readTaskLogs(context: LogContext, id: string): AsyncGenerator<LogLine> {
  const read = readerOf(context, false, context.signal);
  for (const source of sourcesOf(context.components.ledger.state(), id)) yield* read(source);
}

/** As many lines as can be had before the signal aborts, all peers asked at once; in the order of their time. */
export async function gatherTaskLogs(context: LogContext, id: string, linesMax: number): Promise<LogLine[]> {
  const read = readerOf(context, false, context.signal);
  const merged = mergeAsync<LogLine>(context.signal);
  // One peer answers one question after the other: it takes only so many streams.
  for (const sources of Map.groupBy(sourcesOf(context.components.ledger.state(), id), ({ peer }) => peer).values()) {
    merged.add(inTurn(sources, read));
  }
  const lines: LogLine[] = [];
  for await (const line of merged.items()) if (lines.push(line) >= linesMax) break;
  return lines.sort((one, other) => one.atMs - other.atMs);
}

async function* inTurn(sources: readonly Source[], read: (source: Source) => AsyncIterable<LogLine>) {
  for (const source of sources) yield* read(source);
}

/** The lines of all parts as they come, until the task has ended. */
export async function* followTaskLogs(context: LogContext, id: string): AsyncGenerator<LogLine> {
  const { ledger } = context.components;
  const atFirst = ledger.state().tasks[id];
  if (atFirst === undefined || !isOpen(atFirst)) return yield* readTaskLogs(context, id);
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  const merged = mergeAsync<LogLine>(signal);
  const read = readerOf(context, true, signal);
  const known = new Set<string>();
  const addSources = () => {
    const state = ledger.state();
    for (const source of sourcesOf(state, id)) {
      const key = `${source.peer} ${source.task}`;
      if (known.has(key)) continue;
      known.add(key);
      merged.add(read(source));
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

/** Where parts of a task left lines. */
function sourcesOf(state: LedgerState, id: string): Source[] {
  const task = state.tasks[id];
  if (task === undefined) return [];
  const parts = [task, ...task.children.flatMap((child) => state.tasks[child] ?? [])];
  return parts.flatMap((part) => peersOf(part, state).map((peer) => ({ peer, task: part.id })));
}

function peersOf(task: Task, state: LedgerState): string[] {
  if (task.type === 'deploy-device') {
    const member = task.host === null ? undefined : memberNamed(state, task.host);
    return member === undefined ? [] : [member.peer];
  }
  return Object.values(state.members)
    .filter(({ peer, roles }) => roles.includes('voter') || peer === task.builder)
    .map((member) => member.peer);
}

/** Reads one source after another; of a peer that cannot be asked it says so once. */
function readerOf(context: LogContext, follow: boolean, signal: AbortSignal) {
  const { journal, ledger, clock } = context.components;
  const told = new Set<string>();

  function* noteOnce({ peer, task }: Source, why: string): Generator<LogLine> {
    if (told.has(peer)) return;
    told.add(peer);
    const name = ledger.state().members[peer]?.name ?? 'unknown';
    const text = `what ${name} logged cannot be read: ${why}`;
    yield { atMs: clock.nowMs(), peer: name, task, stream: 'parley', level: 'warning', text };
  }

  return async function* readSource(source: Source): AsyncGenerator<LogLine> {
    const { peer, task } = source;
    if (!canAsk(context, peer)) return yield* noteOnce(source, whyNot(context));
    try {
      yield* journal.readLogs({ peer, task, follow, signal });
    } catch (error) {
      if (!signal.aborted) yield* noteOnce(source, (error as Error).message);
    }
  };
}

/** A voter knows by beats who is there and works; any other peer gets none and knows of its own connections alone. */
function canAsk(context: LogContext, peer: string): boolean {
  const { mesh, ledger } = context.components;
  if (peer === mesh.self || context.isOnline(peer)) return true;
  return !isVoter(ledger.state(), mesh.self) && mesh.connectedPeers().some((connected) => connected.peer === peer);
}

function whyNot({ components: { mesh, ledger } }: LogContext): string {
  const state = ledger.state();
  if (isVoter(state, mesh.self)) return 'it is offline';
  const voters = Object.values(state.members).filter(({ peer }) => isVoter(state, peer));
  const names = voters.map(({ name }) => name).sort();
  return `this peer has no connection to it; a voter knows more, ask on ${names.slice(0, 5).join(' or ')}`;
}

function isVoter({ members }: LedgerState, peer: string): boolean {
  return members[peer]?.roles.includes('voter') === true;
}
