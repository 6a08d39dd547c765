// Owns `--run FILE|-`: the console's lines without a terminal. Each is echoed, its answer printed; the first that fails ends
// the run with its exit status.

import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { ParleyError } from '../protocols/errors.ts';
import type { ConsoleLine } from './console-line.ts';
import type { RunContext } from './run-command.ts';

/** Opens the script; `-` is standard input. */
export function openScript(file: string): Readable {
  if (file === '-') return process.stdin;
  return createReadStream(file, { encoding: 'utf8' });
}

/**
 * Runs a script to its end or its first failing line.
 * @param afterLine called after each line, to print what came meanwhile (notices)
 * @returns 0, or the status of the line that failed; 3 when the context's signal aborted
 * @throws ParleyError `script-unreadable`
 */
export async function runScript(
  script: Readable,
  line: ConsoleLine,
  context: RunContext,
  afterLine: () => void,
): Promise<number> {
  const lines = createInterface({ input: script, crlfDelay: Number.POSITIVE_INFINITY });
  let number = 0;
  try {
    for await (const text of readable(lines, script)) {
      number += 1;
      if (text.trim() !== '') context.output.out(`> ${text.trimEnd()}`);
      const { status, ended } = await line.run(text, context);
      afterLine();
      if (status !== 0) context.output.err(`Line ${number} failed with status ${status}: ${text.trim()}`);
      if (status !== 0 || ended) return status;
      if (context.signal.aborted) return 3;
    }
    return 0;
  } finally {
    lines.close();
  }
}

async function* readable(lines: AsyncIterable<string>, script: Readable): AsyncGenerator<string> {
  const failed = new Promise<never>((_, reject) => {
    script.once('error', (cause) => {
      reject(new ParleyError('script-unreadable', `the script cannot be read: ${cause.message}`, { cause }));
    });
  });
  failed.catch(() => {});
  const iterator = lines[Symbol.asyncIterator]();
  for (;;) {
    const next = await Promise.race([iterator.next(), failed]);
    if (next.done === true) return;
    yield next.value;
  }
}
