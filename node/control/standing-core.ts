// Owns the words for where a task stands, and whether following it is over: it has ended, it waits for a person, or all that
// is left are devices that are away. Pure.

import { approversOf, isOpen } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Task } from '../../protocols/ledger-state.ts';
import type { Outcome } from '../../protocols/outcome.ts';
import { childrenOf, taskView } from './task-views-core.ts';
import { type ViewFacts, waitReason } from './views-core.ts';

export type Standing =
  | { readonly kind: 'runs'; readonly text: string; readonly done: number; readonly total: number }
  | { readonly kind: 'ended'; readonly outcome: Outcome; readonly text: string }
  /** Nothing goes on until somebody does something; `outcome` is what came of it so far. */
  | { readonly kind: 'waits'; readonly outcome: Outcome; readonly waitsFor: string; readonly text: string };

const hostsNamedMax = 5;

export function standingOf(task: Task, state: LedgerState, facts: ViewFacts): Standing {
  if (task.outcome !== null) {
    const reason = task.reason === null ? '' : `: ${task.reason.text}`;
    return { kind: 'ended', outcome: task.outcome, text: `${taskWords(task)} ${outcomeWords(task.outcome)}${reason}` };
  }
  const approval = waitsForApproval(task, state);
  if (approval !== undefined) return approval;
  return waitsForDevices(task, state, facts) ?? running(task, state, facts);
}

/** `t12 deploy of 1a2b3c4 to web1, web2`. */
export function taskWords(task: Task): string {
  const revision = task.revision === null ? '' : ` of ${task.revision.slice(0, 8)}`;
  switch (task.type) {
    case 'deploy':
      return `${task.id} deploy${revision} to ${hostWords(task.hosts)}`;
    case 'build':
      return `${task.id} build${revision} for ${hostWords(task.hosts)}`;
    case 'rollback':
      return `${task.id} rollback of ${hostWords(task.hosts)}`;
    case 'deploy-device':
      return `${task.id} switch of ${task.host ?? '?'}`;
    case 'update-inputs':
      return `${task.id} update of ${task.inputs.length === 0 ? 'all inputs' : task.inputs.join(', ')}`;
    case 'commit':
      return `${task.id} commit${revision}`;
  }
}

export function hostWords(hosts: readonly string[]): string {
  const shown = hosts.slice(0, hostsNamedMax).join(', ');
  return hosts.length > hostsNamedMax ? `${shown} and ${hosts.length - hostsNamedMax} more` : shown;
}

function outcomeWords(outcome: Outcome): string {
  const words: Partial<Record<Outcome, string>> = {
    degraded: 'is degraded',
    refused: 'was refused',
    'needs-reboot': 'needs a reboot',
    'rolled-back': 'was rolled back',
    'rollback-failed': 'could not be rolled back',
    cancelled: 'was cancelled',
    superseded: 'was superseded',
    'skipped-offline': 'was skipped, being offline',
    quarantined: 'is quarantined',
    unknown: 'ended in an unknown way',
  };
  return words[outcome] ?? outcome;
}

function waitsForApproval(task: Task, state: LedgerState): Standing | undefined {
  const record = task.plan === null ? undefined : state.plans[task.plan];
  if (record === undefined || task.stage !== 'approval' || record.approved || record.rejected) return undefined;
  const approvers = approversOf(state, record);
  const who = approvers.length === 0 ? 'an approver, and there is none' : orWords(approvers);
  const waitsFor = `approval by ${who}`;
  return { kind: 'waits', outcome: 'succeeded', waitsFor, text: `${taskWords(task)} waits for ${waitsFor}` };
}

/** Every device that is left is away: they get their order when they return, and nobody needs to watch until then. */
function waitsForDevices(task: Task, state: LedgerState, facts: ViewFacts): Standing | undefined {
  const parts = task.parent === null ? childrenOf(task, state) : [task];
  const open = parts.filter(isOpen);
  const reasons = open.map((child) => (child.order === null ? undefined : waitReason(child, state, facts)));
  if (open.length === 0 || reasons.some((reason) => reason?.kind !== 'device')) return undefined;
  const failed = parts.find((part) => part.outcome !== null && !calmOutcomes.includes(part.outcome));
  const outcome = failed?.outcome ?? 'succeeded';
  const waitsFor = `the return of ${hostWords(open.flatMap((child) => child.host ?? []))}`;
  const said = reasons.map((reason) => reason?.text ?? '').slice(0, hostsNamedMax);
  return { kind: 'waits', outcome, waitsFor, text: `${taskWords(task)} waits for ${waitsFor} (${said.join('; ')})` };
}

const calmOutcomes: readonly Outcome[] = ['succeeded', 'superseded', 'cancelled'];

function running(task: Task, state: LedgerState, facts: ViewFacts): Standing {
  const { progress, reason } = taskView(task, state, facts);
  const words = reason?.text ?? facts.progress(task.id)?.text ?? stageWords(task, state, facts);
  return { kind: 'runs', text: `${taskWords(task)}: ${words}`, done: progress.done, total: progress.total };
}

function stageWords(task: Task, state: LedgerState, facts: ViewFacts): string {
  const open = childrenOf(task, state).filter(isOpen);
  switch (task.stage) {
    case 'evaluate':
      return 'evaluating';
    case 'build':
      return open.map((child) => facts.progress(child.id)?.text).find((text) => text !== undefined) ?? 'building';
    case 'plan':
      return 'making the plan';
    case 'approval':
      return 'waiting for approval';
    case 'order':
      return 'giving orders';
    case 'switch':
      return `switching ${open
        .map((child) => deviceWords(child, state, facts))
        .slice(0, hostsNamedMax)
        .join(', ')}`;
    case 'work':
      return task.type === 'deploy-device' ? deviceWords(task, state, facts) : 'working';
    case 'ended':
      return 'ended';
  }
}

function deviceWords(child: Task, state: LedgerState, facts: ViewFacts): string {
  const { text } = taskView(child, state, facts).progress;
  return text === '' ? (child.host ?? child.id) : `${child.host} (${text})`;
}

function orWords(names: readonly string[]): string {
  const shown = names.slice(0, hostsNamedMax);
  const rest = names.length > shown.length ? [`${names.length - shown.length} more`] : [];
  return [...shown, ...rest].join(' or ');
}
