// Owns the outbox: which notices there are, when they count as delivered, and which leave when there are too many.

import type { LedgerState, Notice, Task } from '../../protocols/ledger-state.ts';
import { noticesKeptMax } from '../../protocols/ledger-state.ts';
import type { Outcome } from '../../protocols/outcome.ts';
import { clipText } from '../../protocols/primitives.ts';
import { firstLine, type Handler, listNames, refusal } from './state-core.ts';

/** Places that one notice can be delivered to: the chat adapters and the console. */
const sinksMax = 8;
/** Failing hosts of one task that get a notice each; the task's last notice names them all. */
const failureNoticesPerTaskMax = 10;

/** Adds a notice. Where there are too many, the oldest leaves: progress first, then what was delivered, then the rest. */
export function addNotice(state: LedgerState, level: Notice['level'], task: string | null, text: string): LedgerState {
  const number = state.nextNoticeNumber;
  const notice: Notice = { number, atMs: state.timeMs, level, task, text: clipText(text), deliveredTo: [] };
  const kept = state.notices.length < noticesKeptMax ? state.notices : withoutOldest(state.notices);
  return { ...state, nextNoticeNumber: number + 1, notices: [...kept, notice] };
}

function withoutOldest(notices: readonly Notice[]): Notice[] {
  const victim =
    notices.find((notice) => notice.level === 'info') ??
    notices.find((notice) => notice.deliveredTo.length > 0) ??
    notices[0];
  return notices.filter((notice) => notice !== victim);
}

/** Tells at once that a host did not come out well; a task with very many of them is told at its end. */
export function addHostNotice(state: LedgerState, task: Task, host: string, outcome: Outcome, text: string | null) {
  const before = state.notices.filter((notice) => notice.task === task.id && notice.level === 'failure').length;
  if (before >= failureNoticesPerTaskMax) return state;
  return addNotice(
    state,
    'failure',
    task.id,
    `${host} ${describeOutcome(outcome)}${text ? `: ${firstLine(text)}` : ''}`,
  );
}

const outcomeWords: Record<Outcome, string> = {
  succeeded: 'succeeded',
  degraded: 'is degraded',
  refused: 'was refused',
  'needs-reboot': 'needs a reboot',
  'rolled-back': 'was rolled back',
  'rollback-failed': 'could not be rolled back',
  failed: 'failed',
  cancelled: 'was cancelled',
  superseded: 'was superseded',
  'skipped-offline': 'was skipped, being offline',
  quarantined: 'is quarantined',
  unknown: 'ended in an unknown way',
};

export function describeOutcome(outcome: Outcome): string {
  return outcomeWords[outcome];
}

/** A task in a person's words: `deploy of 1a2b3c4 to web1, web2`. */
export function describeTask(task: Task): string {
  const revision = task.revision === null ? '' : ` of ${task.revision.slice(0, 7)}`;
  if (task.type === 'deploy') return `deploy${revision} to ${listNames(task.hosts)}`;
  if (task.type === 'rollback') return `rollback of ${listNames(task.hosts)}`;
  if (task.type === 'build') return `build${revision} for ${listNames(task.hosts)}`;
  if (task.type === 'update-inputs') {
    return task.inputs.length === 0 ? 'update of all inputs' : `update of ${listNames(task.inputs)}`;
  }
  return task.type;
}

/** The notice that a task has ended; people who did it themselves need no alarm. */
export function addEndNotice(state: LedgerState, task: Task): LedgerState {
  if (task.outcome === null || task.parent !== null) return state;
  if (task.type === 'commit' && task.outcome === 'succeeded') {
    const text = `${task.actor} committed ${task.revision?.slice(0, 7)}: ${task.commit?.message ?? ''}`;
    return addNotice(state, 'info', task.id, text);
  }
  const calm: readonly Outcome[] = ['succeeded', 'refused', 'cancelled', 'superseded'];
  const reason = task.reason === null ? '' : `: ${firstLine(task.reason.text)}`;
  const text = `${describeTask(task)} ${describeOutcome(task.outcome)}${reason}`;
  return addNotice(state, calm.includes(task.outcome) ? 'info' : 'failure', task.id, text);
}

export const noticeDelivered: Handler<'notice-delivered'> = (state, body) => {
  const notice = state.notices.find((candidate) => candidate.number === body.notice);
  if (notice === undefined) throw refusal('notice-unknown', `there is no notice ${body.notice}`);
  if (notice.deliveredTo.includes(body.sink)) return { state };
  if (notice.deliveredTo.length >= sinksMax) {
    throw refusal(
      'too-many-sinks',
      `notice ${body.notice} went to ${sinksMax} places already: no room for '${body.sink}'`,
    );
  }
  const delivered = { ...notice, deliveredTo: [...notice.deliveredTo, body.sink] };
  return { state: { ...state, notices: state.notices.map((each) => (each === notice ? delivered : each)) } };
};
