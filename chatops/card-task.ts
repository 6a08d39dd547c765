// Owns the cards of tasks: the list, and one task with its tree, its plan and what was said.

import type { LogLine, TaskDetail, TasksView, TaskView } from '../protocols/views.ts';
import type { CardContext } from './card-context.ts';
import { renderPlan } from './card-plan.ts';
import { type Cell, outcomeTone, renderTable, statusTone } from './paint.ts';
import {
  bytesText,
  clean,
  cleanLines,
  columnsMax,
  countText,
  cut,
  cutInside,
  durationText,
  timeText,
  wrap,
} from './words.ts';

const messagesShownMax = 20;
const messageLinesShownMax = 30;
const processesShownMax = 12;
const hostsShownMax = 6;

/** One row for each task, as the peer ordered them; under it those parts that run, wait or went wrong. */
export function renderTasks(view: TasksView, context: CardContext): string[] {
  const shown = view.tasks.filter(({ parent, outcome }) => parent === null || outcome !== 'succeeded');
  if (view.tasks.length === 0) return ["No tasks ('tasks --all' shows those that ended)."];
  return renderTable(
    [
      { title: 'task', columnsMax: 18 },
      { title: 'what', columnsMax: 32 },
      { title: 'by', columnsMax: 12 },
      { title: 'state', columnsMax: 16 },
      { title: 'detail', columnsMax },
    ],
    shown.map((task) => [
      { text: task.parent === null ? task.id : `  ${task.id}`, tone: 'strong' },
      { text: whatText(task) },
      { text: task.actor },
      stateCell(task),
      { text: detailText(task, context) },
    ]),
    context.columns,
    context.paint,
  );
}

/** The task, a row for each child, its plan while it counts, Nix's errors and warnings, and the programs that ran. */
export function renderTask(detail: TaskDetail, context: CardContext): string[] {
  const { task } = detail;
  const state = stateCell(task);
  const heading = `${context.paint('strong', task.id)} ${whatText(task)}: ${context.paint(state.tone ?? 'plain', state.text)}`;
  const about = [`by ${task.actor}`, timeText(task.submittedAtMs), ...tookText(task)];
  if (task.revision !== null) about.push(`commit ${task.revision.slice(0, 8)}`);
  if (task.attempt > 1) about.push(`attempt ${task.attempt}`);
  // How long it took stands above already.
  const said = task.outcome !== null && task.reason === null && !task.simulated ? '' : detailText(task, context);
  return [
    heading,
    `  ${about.join(', ')}`,
    ...(said === '' ? [] : wrap(said, context.columns, 2)),
    ...failedUnits(task, context),
    ...childRows(detail, context),
    ...(detail.plan === null ? [] : ['', ...renderPlan(detail.plan, task.id, context)]),
    ...messages(detail, context),
    ...processes(detail, context),
  ];
}

/** `running`, `waiting`, or how it ended. */
export function stateCell(task: TaskView): Cell {
  if (task.outcome !== null) return { text: task.outcome, tone: outcomeTone(task.outcome) };
  if (task.status === 'running' && task.reason?.kind === 'approval') return { text: 'waiting', tone: 'warn' };
  return { text: task.status, tone: statusTone(task.status) };
}

/** One line of a program's output, with where it comes from. */
export function renderLogLine(line: LogLine, context: CardContext): string {
  const tone = { error: 'bad', warning: 'warn', info: 'plain', debug: 'dim' } as const;
  const level = line.level === 'error' || line.level === 'warning' ? `${line.level}: ` : '';
  const [text = ''] = cleanLines(line.text.replaceAll('\n', ' '));
  return `${context.paint('dim', `${line.task} ${line.peer}`)} ${context.paint(tone[line.level], level + text)}`;
}

function whatText(task: TaskView): string {
  if (task.selector !== null && task.type !== 'rollback') return `${task.type} ${clean(task.selector)}`;
  if (task.host !== null) return `${task.type} ${task.host}`;
  if (task.type === 'rollback' && task.hosts.length === 1) return `rollback ${task.hosts[0]}`;
  return task.hosts.length === 0 ? task.type : `${task.type} ${hostsText(task.hosts)}`;
}

export function hostsText(hosts: readonly string[]): string {
  if (hosts.length <= hostsShownMax) return hosts.join(', ');
  return `${hosts.slice(0, hostsShownMax).join(', ')} and ${countText(hosts.length - hostsShownMax, 'more host')}`;
}

/** Why it waits or ended so; else how far it is. */
function detailText(task: TaskView, context: CardContext): string {
  const simulated = task.simulated ? ' (switch simulated)' : '';
  if (task.reason !== null) return clean(task.reason.text) + simulated;
  if (task.outcome !== null) return tookText(task).join('') + simulated;
  const progress = progressText(task);
  const since = task.startedAtMs === null ? '' : ` for ${durationText(context.nowMs - task.startedAtMs)}`;
  if (progress !== '') return progress;
  return task.startedAtMs === null ? '' : `${task.stage}${since}`;
}

function progressText(task: TaskView): string {
  const { done, total, unit, text } = task.progress;
  if (total === 0 || (unit === 'parts' && total === 1)) return clean(text);
  const counted = unit === 'parts' ? `${done} of ${total}` : `${done} of ${total} ${unit}`;
  const amount = unit === 'bytes' ? `${bytesText(done)} of ${bytesText(total)}` : counted;
  return text === '' ? amount : `${clean(text)}: ${amount}`;
}

function tookText(task: TaskView): string[] {
  if (task.endedAtMs === null) return [];
  return [`took ${durationText(task.endedAtMs - (task.startedAtMs ?? task.submittedAtMs))}`];
}

function failedUnits(task: TaskView, context: CardContext): string[] {
  if (task.failedUnits.length === 0) return [];
  return wrap(`failed units: ${clean(task.failedUnits.join(', '))}`, context.columns, 2);
}

function childRows(detail: TaskDetail, context: CardContext): string[] {
  const isDoneBuild = (child: TaskView) => child.type === 'build' && child.outcome === 'succeeded';
  const doneBuilds = detail.children.filter(isDoneBuild).length;
  const builds = doneBuilds === 0 ? [] : [`  ${countText(doneBuilds, 'build')} succeeded`];
  const others = detail.children.filter((child) => !isDoneBuild(child));
  if (others.length === 0) return builds;
  const rows = others.map((child) => [
    { text: child.id, tone: 'strong' as const },
    { text: child.type === 'deploy-device' ? 'switch' : child.type },
    { text: child.host ?? hostsText(child.hosts) },
    stateCell(child),
    { text: childDetail(child, context) },
  ]);
  const columns = [
    { title: 'task', columnsMax: 20 },
    { title: 'what', columnsMax: 8 },
    { title: 'for', columnsMax: 24 },
    { title: 'state', columnsMax: 15 },
    { title: 'detail', columnsMax },
  ];
  const table = renderTable(columns, rows, context.columns - 2, context.paint).map((line) => `  ${line}`);
  return [...builds, ...table];
}

function childDetail(child: TaskView, context: CardContext): string {
  const detail = detailText(child, context);
  const unnamed = child.failedUnits.filter((unit) => !detail.includes(clean(unit)));
  return unnamed.length === 0 ? detail : `failed units: ${clean(unnamed.join(', '))}; ${detail}`;
}

function messages(detail: TaskDetail, context: CardContext): string[] {
  const wanted = detail.messages.filter(({ level }) => level !== 'info');
  if (wanted.length === 0) return [];
  const shown = wanted.slice(-messagesShownMax).flatMap(({ level, text }) => {
    const lines = cleanLines(text);
    const kept = lines.slice(0, messageLinesShownMax).map((line) => `  ${cut(line, context.columns - 2)}`);
    if (lines.length > kept.length) kept.push(`  … ${countText(lines.length - kept.length, 'more line')}`);
    return [context.paint(level === 'error' ? 'bad' : 'warn', `${level}:`), ...kept];
  });
  const left = wanted.length - messagesShownMax;
  return ['', ...shown, ...(left > 0 ? [`(${countText(left, 'earlier message')}: 'logs ${detail.task.id}')`] : [])];
}

function processes(detail: TaskDetail, context: CardContext): string[] {
  const { processes: all, task } = detail;
  if (all.length === 0) return [];
  const shown = all.slice(-processesShownMax);
  const left = all.length - shown.length;
  return [
    '',
    `Programs that ran${left > 0 ? ` (${countText(left, 'earlier one')}: 'logs ${task.id}')` : ''}:`,
    ...shown.map(({ peer, command, exitCode }) => {
      const end = exitCode === null ? ' (ended early)' : exitCode === 0 ? '' : ` (status ${exitCode})`;
      const before = `  ${peer}${end}: `;
      return before + cutInside(clean(command), context.columns - before.length);
    }),
  ];
}
