// Owns what this project's own tools have in common: --help prints the words at the head of the tool's file; what is not
// understood is refused with status 2, before anything is done; progress goes to standard error, figures to standard output.

import { readFileSync } from 'node:fs';
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';

/**
 * Reads the process's arguments; ends the process after `--help` and where an argument is wrong.
 * @param file the tool's own, whose first comment is its manual
 * @param words whether there may be arguments that are no options
 */
export function readArguments<const Options extends ParseArgsOptionsConfig>(
  file: string,
  options: Options,
  words: 'with words' | 'without words' = 'without words',
) {
  try {
    const own = { ...options, help: { type: 'boolean', short: 'h' } } as const;
    const parsed = parseArgs({ options: own, allowPositionals: words === 'with words' });
    if ('help' in parsed.values && parsed.values.help === true) {
      console.log(manualOf(file));
      process.exit(0);
    }
    return parsed;
  } catch (error) {
    return refuse((error as Error).message, 'Say --help for what there is.');
  }
}

/** Ends the process: what was asked for cannot be done, and `hint` says what can. */
export function refuse(message: string, hint: string): never {
  console.error(`${message}\n  ${hint}`);
  process.exit(2);
}

/** Progress for people, on standard error. */
export function tell(text: string): void {
  console.error(`  ${text}`);
}

/** Prints figures: one JSON object with --json, else a line for each. */
export function printFigures(figures: object): void {
  const lines = process.argv.includes('--json')
    ? [JSON.stringify(figures)]
    : Object.entries(figures).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  for (const line of lines) console.log(line);
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** The lines of a file's first comment. */
function manualOf(file: string): string {
  const lines = readFileSync(file, 'utf8').split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  return lines
    .slice(0, end)
    .map((line) => line.replace(/^\/\/ ?/, ''))
    .join('\n');
}
