// Owns the line that shows what a running command does now. On a terminal it is one line redrawn in place, cleared before
// anything else is written; elsewhere it is plain lines, at most one each two seconds and none twice.

import type { Clock } from '../node/interfaces.ts';
import { cut } from './words.ts';

const plainPeriodMs = 2_000;
/** Redrawing faster than this only flickers. */
const redrawPeriodMs = 100;

export interface LiveLine {
  /** Shows this text instead of the one before. */
  update(text: string): void;
  /** Takes the line away, so that other text can be written. The next update draws it again. */
  clear(): void;
}

export interface LiveLineInit {
  readonly write: (text: string) => void;
  readonly isTTY: boolean;
  /** Columns of the terminal now. */
  readonly columns: () => number;
  readonly clock: Pick<Clock, 'monotonicMs'>;
}

export function createLiveLine(init: LiveLineInit): LiveLine {
  return init.isTTY ? redrawnLine(init) : plainLines(init);
}

function redrawnLine({ write, columns, clock }: LiveLineInit): LiveLine {
  let shown = '';
  let drawnAtMs = Number.NEGATIVE_INFINITY;
  return {
    update(text) {
      const line = cut(text, columns() - 1);
      const nowMs = clock.monotonicMs();
      if (line === shown || (shown !== '' && nowMs - drawnAtMs < redrawPeriodMs)) return;
      write(`\r\u001b[2K${line}`);
      shown = line;
      drawnAtMs = nowMs;
    },
    clear() {
      if (shown !== '') write('\r\u001b[2K');
      shown = '';
    },
  };
}

function plainLines({ write, clock }: LiveLineInit): LiveLine {
  let last = '';
  let writtenAtMs = Number.NEGATIVE_INFINITY;
  return {
    update(text) {
      const nowMs = clock.monotonicMs();
      if (text === last || nowMs - writtenAtMs < plainPeriodMs) return;
      write(`  … ${text}\n`);
      last = text;
      writtenAtMs = nowMs;
    },
    clear() {},
  };
}
