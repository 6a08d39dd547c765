// Owns the log stream: one JSON object per line on standard error, written synchronously so that the last line before a
// crash is there. No worker threads: an idle peer must stay small.

import { destination as openDestination, pino } from 'pino';
import type { Logger } from '../interfaces.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

export interface LoggerInit {
  readonly level: LogLevel;
  /** Where lines go; standard error by default. */
  readonly destination?: { write(line: string): unknown };
}

/** Creates the peer's root logger; rooms take children of it. */
export function createLogger(init: LoggerInit): Logger {
  const stream = init.destination === undefined ? openDestination({ dest: 2, sync: true }) : toStream(init.destination);
  return pino({ level: init.level, base: null, serializers: { error: serializeError } }, stream);
}

function toStream(destination: { write(line: string): unknown }): { write(line: string): void } {
  return {
    write(line) {
      destination.write(line);
    },
  };
}

/** Errors appear under `error` with their code and their cause, which pino's own serializer leaves out of plain fields. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { code, hint } = error as Error & { code?: unknown; hint?: unknown };
  const cause = error.cause === undefined ? undefined : String(error.cause);
  return { name: error.name, code, message: error.message, hint, cause, stack: error.stack };
}
