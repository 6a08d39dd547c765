// Owns this process's terminal as the front ends see it: where lines and the live line go, colour, columns.

import { createLiveLine } from './live-line.ts';
import { choosePaint } from './paint.ts';
import type { Output } from './run-command.ts';

/** The clock of a front end; the host room's would bring libraries that a command line has no time for. */
export const terminalClock = { monotonicMs: () => performance.now() };

/** Output to this process's standard output and error. Progress goes to standard error, so that answers can be piped. */
export function createTerminalOutput(environment: NodeJS.ProcessEnv): Output {
  const live = createLiveLine({
    write: (text) => void process.stderr.write(text),
    isTTY: process.stderr.isTTY === true && environment.TERM !== 'dumb',
    columns: () => process.stderr.columns ?? 80,
    clock: terminalClock,
  });
  const paint = choosePaint({
    isTTY: process.stdout.isTTY === true,
    noColor: environment.NO_COLOR,
    term: environment.TERM,
  });
  return {
    out: (line) => void process.stdout.write(`${line}\n`),
    err: (line) => void process.stderr.write(`${line}\n`),
    live,
    paint,
  };
}
