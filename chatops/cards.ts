// Owns the way from a view to text: which card draws which view. Pure: data in, lines out. Other front ends draw the same
// views in their own way.

import { check, type Schema } from '../protocols/codec.ts';
import type { Notice } from '../protocols/ledger-state.ts';
import {
  type DiffView,
  diffViewSchema,
  type HistoryView,
  historyViewSchema,
  type InviteView,
  inviteViewSchema,
  noticesViewSchema,
  type SelectionView,
  selectionViewSchema,
  statusViewSchema,
  taskDetailSchema,
  tasksViewSchema,
  votersViewSchema,
  type WhoamiView,
  whoamiViewSchema,
} from '../protocols/views.ts';
import type { CardContext } from './card-context.ts';
import { renderPeers, renderStatus, renderWarnings } from './card-status.ts';
import { hostsText, renderTask, renderTasks } from './card-task.ts';
import { renderVoters } from './card-voters.ts';
import { renderTable } from './paint.ts';
import { clean, cleanLines, columnsMax, countText, shortHash, timeText, wrap } from './words.ts';

type Card = (data: unknown, context: CardContext) => string[];

const cards: Readonly<Record<string, Card>> = {
  status: card(statusViewSchema, renderStatus),
  peers: card(statusViewSchema, renderPeers),
  tasks: card(tasksViewSchema, renderTasks),
  task: card(taskDetailSchema, renderTask),
  history: card(historyViewSchema, renderHistory),
  diff: card(diffViewSchema, renderDiff),
  whoami: card(whoamiViewSchema, renderWhoami),
  voters: card(votersViewSchema, renderVoters),
  invite: card(inviteViewSchema, renderInvite),
  selection: card(selectionViewSchema, renderSelection),
  notices: card(noticesViewSchema, (view, context) => view.notices.flatMap((notice) => renderNotice(notice, context))),
};

/**
 * Draws a view. A view that this release has no card for is drawn field by field.
 * @throws ParleyError `malformed` when the data is not what the view's name says.
 */
export function renderView(view: string, data: unknown, context: CardContext): string[] {
  const draw = Object.hasOwn(cards, view) ? cards[view] : undefined;
  return (draw ?? renderFields)(data, context);
}

function card<T>(schema: Schema<T>, draw: (view: T, context: CardContext) => string[]): Card {
  return (data, context) => draw(check(schema, data, 'view'), context);
}

/** A notice, with the word for its level first. */
export function renderNotice(notice: Notice, context: CardContext): string[] {
  const tone = { info: 'strong', approval: 'warn', failure: 'bad' } as const;
  const word = { info: 'Notice', approval: 'Approval needed', failure: 'Failure' } as const;
  const text = `${word[notice.level]} ${notice.number}: ${clean(notice.text)}`;
  const lines = wrap(text, context.columns - 2);
  const rest = lines.slice(1).map((line) => `  ${line}`);
  return [context.paint(tone[notice.level], lines[0] ?? ''), ...rest];
}

function renderWhoami(view: WhoamiView, context: CardContext): string[] {
  const roles = view.roles.length === 0 ? 'no role: you may look' : view.roles.join(', ');
  const controller = view.controller === null ? 'there is no controller now' : `the controller is ${view.controller}`;
  return [`You are ${context.paint('strong', view.actor)} (${roles}) at ${view.peer}; ${controller}.`];
}

/** The token stands alone on its line, whole, so that it can be copied. */
function renderInvite(view: InviteView, context: CardContext): string[] {
  return [
    `${context.paint('strong', view.name)} may join once, at site ${view.site} as ${view.roles.join(', ')}, until ${timeText(view.expiresAtMs)} UTC:`,
    '',
    clean(view.token),
    '',
    `On that machine: parley join TOKEN, then parley run`,
    ...renderWarnings(view.warnings ?? [], context),
  ];
}

function renderSelection(view: SelectionView, context: CardContext): string[] {
  const hosts =
    view.hosts.length === 0 ? 'no host' : `${countText(view.hosts.length, 'host')}: ${view.hosts.join(', ')}`;
  const leftOut = view.leftOut.map(({ host, reason }) => `left out: ${host}, ${clean(reason)}`);
  return [
    ...wrap(`${clean(view.selector)} is ${hosts}`, context.columns),
    ...leftOut.flatMap((line) => wrap(line, context.columns, 2)),
  ];
}

function renderHistory(view: HistoryView, context: CardContext): string[] {
  if (view.commits.length === 0) return ['Nothing has been committed yet.'];
  const columns = [
    { title: 'commit', columnsMax: 8 },
    { title: 'when (UTC)', columnsMax: 19 },
    { title: 'by', columnsMax: 14 },
    { title: 'message', columnsMax: 34 },
    { title: 'runs on', columnsMax },
  ];
  const rows = view.commits.map((commit) => [
    { text: shortHash(commit.revision), tone: 'strong' as const },
    { text: timeText(commit.atMs) },
    { text: clean(commit.author) },
    { text: clean(commit.message) },
    { text: hostsText(commit.hosts) },
  ]);
  return renderTable(columns, rows, context.columns, context.paint);
}

function renderDiff(view: DiffView, context: CardContext): string[] {
  if (view.files.length === 0) return ['No draft: nothing differs from the newest commit.'];
  const files = view.files.map(({ path, change }) => `  ${change.padEnd(8)} ${clean(path)}`);
  const base = view.base === null ? 'nothing committed before' : `against commit ${shortHash(view.base)}`;
  const heading = context.paint('strong', `Draft of ${countText(view.files.length, 'file')}, ${base}`);
  return [heading, ...files, '', ...cleanLines(view.patch).map((line) => paintPatchLine(line, context))];
}

function paintPatchLine(line: string, context: CardContext): string {
  if (line.startsWith('+++') || line.startsWith('---')) return context.paint('strong', line);
  if (line.startsWith('+')) return context.paint('good', line);
  if (line.startsWith('-')) return context.paint('bad', line);
  return line.startsWith('@@') ? context.paint('busy', line) : line;
}

function renderFields(data: unknown, context: CardContext): string[] {
  if (data === null || typeof data !== 'object') return [clean(String(data))];
  return Object.entries(data)
    .filter(([name]) => name !== 'version')
    .map(([name, value]) => `${context.paint('dim', `${clean(name)}:`)} ${clean(fieldText(value))}`);
}

function fieldText(value: unknown): string {
  if (typeof value === 'string') return value;
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value.join(', ');
  return JSON.stringify(value);
}
