// Owns colour and tables. A colour only repeats what a word beside it says, and is left out where it is not wanted:
// NO_COLOR, a dumb terminal, or output that is no terminal.

import type { Outcome, TaskStatus } from '../protocols/outcome.ts';
import { cut, pad, widthOf } from './words.ts';

export type Tone = 'good' | 'bad' | 'busy' | 'warn' | 'dim' | 'strong' | 'plain';

/** Colours a text, or leaves it alone. */
export type Paint = (tone: Tone, text: string) => string;

const codes: Record<Exclude<Tone, 'plain'>, number> = { good: 32, bad: 31, busy: 36, warn: 33, dim: 2, strong: 1 };

export const plainPaint: Paint = (_tone, text) => text;
export const colourPaint: Paint = (tone, text) =>
  tone === 'plain' || text === '' ? text : `\u001b[${codes[tone]}m${text}\u001b[0m`;

export interface PaintFacts {
  readonly isTTY: boolean;
  readonly noColor: string | undefined;
  readonly term: string | undefined;
}

/** Chooses by the convention of no-color.org: NO_COLOR with any text in it switches colour off. */
export function choosePaint(facts: PaintFacts): Paint {
  const wanted = facts.isTTY && (facts.noColor ?? '') === '' && facts.term !== 'dumb';
  return wanted ? colourPaint : plainPaint;
}

const outcomeTones: Record<Outcome, Tone> = {
  succeeded: 'good',
  degraded: 'warn',
  refused: 'bad',
  'needs-reboot': 'warn',
  'rolled-back': 'bad',
  'rollback-failed': 'bad',
  failed: 'bad',
  cancelled: 'warn',
  superseded: 'dim',
  'skipped-offline': 'warn',
  quarantined: 'bad',
  unknown: 'warn',
};

export function outcomeTone(outcome: Outcome): Tone {
  return outcomeTones[outcome];
}

const statusTones: Record<TaskStatus, Tone> = { pending: 'dim', running: 'busy', completed: 'good', failed: 'bad' };

export function statusTone(status: TaskStatus): Tone {
  return statusTones[status];
}

export interface Cell {
  readonly text: string;
  readonly tone?: Tone;
}

export interface Column {
  readonly title: string;
  /** Longest text shown in this column; the last column takes what is left. */
  readonly columnsMax: number;
}

/** Rows under titles, as wide as they need to be and never wider than `width`. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  width: number,
  paint: Paint,
): string[] {
  const widths = columns.map((column, index) => {
    const longest = Math.max(widthOf(column.title), ...rows.map((row) => widthOf(row[index]?.text ?? '')));
    return Math.min(longest, column.columnsMax);
  });
  const line = (cells: readonly Cell[]) => {
    let left = width;
    const parts = cells.map((cell, index) => {
      const room = Math.max(0, Math.min(widths[index] ?? 0, left));
      left -= room + 2;
      const shown = cut(cell.text, room);
      const painted = paint(cell.tone ?? 'plain', shown);
      return index === cells.length - 1 ? painted : painted + pad('', room - widthOf(shown));
    });
    return parts.join('  ').trimEnd();
  };
  return [line(columns.map((column) => ({ text: column.title, tone: 'dim' as const }))), ...rows.map(line)];
}
