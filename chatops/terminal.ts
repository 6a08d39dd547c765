// Owns this process's terminal as the front ends see it: where lines and the live line go, colour, columns.

import { createLiveLine } from './live-line.ts';
import { choosePaint } from './paint.ts';
import type { Output } from './run-command.ts';

/** The clock of a front end; the host room's would bring libraries that a command line has no time for. */
export const terminalClock = { monotonicMs: () => performance.now() };

/** Exit status of a program whose reader has left, as a shell sees it: 128 + SIGPIPE. */
export const readerGoneStatus = 141;

/**
 * Output to this process's standard output and error. Progress goes to standard error, so that answers can be piped.
 * @param onReaderGone called when nobody reads standard output any more (`parley … | head`)
 */
export function createTerminalOutput(environment: NodeJS.ProcessEnv, onReaderGone: () => void): Output {
  process.stdout.on('error', unlessReaderGone(onReaderGone));
  process.stderr.on(
    'error',
    unlessReaderGone(() => undefined),
  );
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

function unlessReaderGone(onReaderGone: () => void): (error: NodeJS.ErrnoException) => void {
  return (error) => {
    if (error.code !== 'EPIPE') throw error;
    onReaderGone();
  };
}
