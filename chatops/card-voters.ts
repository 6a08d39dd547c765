// Owns the card of the voters: one row for each, then what loss the fleet survives and what a change waits for.

import type { VotersView } from '../protocols/views.ts';
import { type CardContext, columnsMax } from './card-context.ts';
import { presence, renderWarnings } from './card-status.ts';
import { type Cell, renderTable } from './paint.ts';
import { clean, countText, wrap } from './words.ts';

const standings: Readonly<Record<VotersView['voters'][number]['standing'], Cell>> = {
  votes: { text: 'votes', tone: 'good' },
  joining: { text: 'is to vote', tone: 'busy' },
  leaving: { text: 'stops voting', tone: 'warn' },
};

export function renderVoters(view: VotersView, context: CardContext): string[] {
  const columns = [
    { title: 'voter', columnsMax: 20 },
    { title: 'standing', columnsMax: 16 },
    { title: 'state', columnsMax: 16 },
    { title: 'ledger', columnsMax },
  ];
  const rows = view.voters.map((voter): Cell[] => [
    { text: voter.controller ? `${voter.name}*` : voter.name, tone: 'strong' },
    standings[voter.standing],
    presence(voter, context),
    ledgerCell(voter),
  ]);
  const change = view.change === null ? [] : changeLines(view.change, context);
  const stale = 'Not current: the controller could not be asked. This is what the answering peer last knew.';
  return [
    ...(view.current ? [] : [context.paint('warn', stale)]),
    ...renderTable(columns, rows, context.columns, context.paint),
    '',
    ...wrap(lossText(view), context.columns),
    ...change,
    ...renderWarnings(view.warnings, context),
  ];
}

function ledgerCell({ caughtUp, ledgerIndex }: VotersView['voters'][number]): Cell {
  if (ledgerIndex === null) return { text: 'unknown', tone: 'dim' };
  const text = `up to entry ${ledgerIndex}`;
  return caughtUp === false ? { text: `${text}, behind`, tone: 'warn' } : { text };
}

function lossText({ spare, majority, voters }: VotersView): string {
  const count = voters.filter(({ standing }) => standing !== 'joining').length;
  const needs = `decisions need ${majority} of ${countText(count, 'voter')}`;
  if (spare === 0) return `Every voter that is there is needed: ${needs}.`;
  return `The fleet survives the loss of ${countText(spare, 'more voter')}: ${needs}.`;
}

function changeLines({ text, waitsFor }: NonNullable<VotersView['change']>, context: CardContext): string[] {
  const state = waitsFor === null ? 'under way' : `waits for ${clean(waitsFor)}`;
  return wrap(`Change: ${clean(text)} (${state}).`, context.columns);
}
