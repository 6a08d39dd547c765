// Owns the plan card: what a person reads before saying yes. It names every host, each closure's size and changes, who is
// left out and why, who may approve, and the command that does.

import type { ClosureChange } from '../protocols/plan.ts';
import type { PlanView } from '../protocols/views.ts';
import type { CardContext } from './card-context.ts';
import { type Cell, renderTable } from './paint.ts';
import { bytesText, clean, columnsMax, countText, cut, shortHash, shortPath, timeText, wrap } from './words.ts';

type PlannedClosureView = PlanView['closures'][number];

/** Lines of changes for one closure, and for all of a plan together: a card must stay readable. */
const changesShownMax = 12;
const changesInAllMax = 36;

/** A plan that a person has to decide, in full; one that is decided, in a few lines. */
export function renderPlan(plan: PlanView, task: string, context: CardContext): string[] {
  const isOpen = plan.needsApproval && !plan.approved && !plan.rejected;
  const counts = `${countText(plan.hosts.length, 'host')}, ${countText(plan.closures.length, 'closure')}`;
  return [
    `${context.paint('strong', `Plan ${shortHash(plan.plan)}`)} by ${plan.author}: ${counts}`,
    ...(isOpen ? details(plan, context) : []),
    ...leftOut(plan, context),
    ...(plan.changesPolicy ? ['  It changes operators, hosts or approvals: an approver must always agree.'] : []),
    ...verdictLines(plan, context),
    ...callToApprove(plan, task, context),
  ];
}

function details(plan: PlanView, context: CardContext): string[] {
  const closures = new Map(plan.closures.map((closure) => [closure.closure, closure]));
  const known = plan.hosts.filter(isChange).map(({ closure }) => closure);
  return [
    ...hostRows(plan, closures, context),
    ...[...new Set(known)].flatMap((name) => changeLines(closures.get(name), plan, context)),
  ];
}

/** A host that never reported, or goes again to what it runs, has no list of changes. */
function isChange(host: PlanView['hosts'][number]): boolean {
  return host.before !== null && host.before !== host.closure;
}

function hostRows(plan: PlanView, closures: ReadonlyMap<string, PlannedClosureView>, context: CardContext): string[] {
  if (plan.hosts.length === 0) return ['  No host changes.'];
  const rows: Cell[][] = plan.hosts.map(({ host, before, closure }) => {
    const planned = closures.get(closure);
    const size =
      planned === undefined ? '-' : `${countText(planned.pathCount, 'path')}, ${bytesText(planned.narBytes)}`;
    return [
      { text: host, tone: 'strong' },
      { text: before === null ? 'unknown' : shortPath(before) },
      { text: shortPath(closure) },
      { text: size },
      { text: closure.slice('/nix/store/'.length + 33) },
    ];
  });
  const columns = [
    { title: 'host', columnsMax: 24 },
    { title: 'now', columnsMax: 8 },
    { title: 'then', columnsMax: 8 },
    { title: 'size', columnsMax: 22 },
    { title: 'closure', columnsMax },
  ];
  return renderTable(columns, rows, context.columns - 2, context.paint).map((line) => `  ${line}`);
}

/** What changes on the hosts that get this closure instead of another one. */
function changeLines(closure: PlannedClosureView | undefined, plan: PlanView, context: CardContext): string[] {
  if (closure === undefined || closure.changes.length === 0) return [];
  const hosts = plan.hosts.filter((host) => host.closure === closure.closure && isChange(host));
  const shownMax = Math.min(changesShownMax, Math.max(2, Math.floor(changesInAllMax / plan.closures.length)));
  const shown = closure.changes.slice(0, shownMax).map((change) => `    ${changeText(change)}`);
  const rest = closure.changes.length - shown.length + closure.changesLeftOut;
  return [
    `  On ${context.paint('strong', hosts.map(({ host }) => host).join(', '))}:`,
    ...shown,
    ...(rest > 0 ? [`    and ${countText(rest, 'more change')}`] : []),
  ].map((line) => cut(line, context.columns + paintSlack));
}

/** A painted line is longer than what it shows. */
const paintSlack = 16;

function changeText(change: ClosureChange): string {
  const before = clean(change.before.join(', '));
  const after = clean(change.after.join(', '));
  const name = clean(change.name);
  if (change.before.length === 0) return `new     ${name} ${after}`.trimEnd();
  if (change.after.length === 0) return `gone    ${name} ${before}`.trimEnd();
  return before === after ? `rebuilt ${name} ${after}`.trimEnd() : `changed ${name} ${before} → ${after}`;
}

/** Hosts with the same reason share a line. */
function leftOut(plan: PlanView, context: CardContext): string[] {
  if (plan.leftOut.length === 0) return [];
  const byReason = Map.groupBy(plan.leftOut, ({ reason }) => clean(reason));
  const lines = [...byReason].map(([reason, hosts]) => `${hosts.map(({ host }) => host).join(', ')}: ${reason}`);
  return ['  Left out:', ...lines.flatMap((line) => wrap(line, context.columns, 4))];
}

function verdictLines(plan: PlanView, context: CardContext): string[] {
  return plan.approvals.map(({ actor, verdict, atMs, reason }) => {
    const word = verdict === 'approve' ? context.paint('good', 'approved') : context.paint('bad', 'rejected');
    return `  ${word} by ${actor} at ${timeText(atMs)}${reason === null ? '' : `: ${clean(reason)}`}`;
  });
}

function callToApprove(plan: PlanView, task: string, context: CardContext): string[] {
  if (plan.rejected) return [`  ${context.paint('bad', 'Rejected.')}`];
  if (plan.approved) return [];
  if (!plan.needsApproval) return ['  Needs no approval.'];
  const people = plan.mayApprove.length === 0 ? 'nobody that the policy in force names' : plan.mayApprove.join(' or ');
  return [
    ...wrap(`Needs approval by ${people}:`, context.columns - 2).map((line) => `  ${context.paint('warn', line)}`),
    `    approve ${task}`,
    `    reject ${task} REASON`,
  ];
}
