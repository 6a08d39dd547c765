// Owns `--run FILE|-`: the console's lines without a terminal. Each is echoed, its answer printed; the first that fails ends
// the run with its exit status.

import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { ParleyError } from '../protocols/errors.ts';
import type { ConsoleLine } from './console-line.ts';
import type { RunContext } from './run-command.ts';

/**
 * The lines of a file; of standard input, as they come, for `-`.
 * @throws ParleyError `script-unreadable`
 */
export async function* readScript(file: string): AsyncGenerator<string> {
  if (file === '-') {
    yield* createInterface({ input: process.stdin });
    return;
  }
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new ParleyError('script-unreadable', `cannot read the script '${file}': ${(cause as Error).message}`, {
      cause,
    });
  }
  yield* text.split(/\r?\n/);
}

/**
 * Runs a script to its end or its first failing line.
 * @returns 0, or the status of the line that failed; 3 when the context's signal aborted
 */
export async function runScript(lines: AsyncIterable<string>, line: ConsoleLine, context: RunContext): Promise<number> {
  let number = 0;
  for await (const text of lines) {
    number += 1;
    if (text.trim() !== '') context.output.out(`> ${text.trimEnd()}`);
    const { status, ended } = await line.run(text, context);
    if (status !== 0) context.output.err(`Line ${number} failed with status ${status}: ${text.trim()}`);
    if (status !== 0 || ended) return status;
    if (context.signal.aborted) return 3;
  }
  return 0;
}
