// Owns the format of etcd's data files: `command arguments`, input lines, `----`, expected output up to an empty line.

import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface Directive {
  readonly line: number;
  readonly command: string;
  /** Arguments in order; `key` alone has no values, `key=v` one, `key=(a,b)` several. */
  readonly arguments: readonly { readonly key: string; readonly values: readonly string[] }[];
  readonly input: string;
  readonly expected: string;
}

/** The directive is none that its handler can carry out. */
export class UnknownDirective extends Error {}

export interface Tally {
  files: number;
  passedFiles: number;
  directives: number;
  passedDirectives: number;
  failures: { readonly file: string; readonly line: number; readonly expected: string; readonly actual: string }[];
}

/**
 * Runs all files of a folder, none where there is no such folder, each against a fresh handler. A directive passes when its
 * output is the same; a file, when it has directives, can be read and all of them pass.
 */
export async function runFolder(folder: string, createHandler: () => (directive: Directive) => string): Promise<Tally> {
  const tally: Tally = { files: 0, passedFiles: 0, directives: 0, passedDirectives: 0, failures: [] };
  const names = existsSync(folder) ? await readdir(folder) : [];
  for (const name of names.filter((file) => file.endsWith('.txt')).sort()) {
    const file = join(folder, name);
    const failuresBefore = tally.failures.length;
    tally.files += 1;
    try {
      runFile(file, parseDirectives(await readFile(file, 'utf8')), createHandler(), tally);
    } catch (error) {
      if (!(error instanceof MalformedText)) throw error;
      tally.failures.push({ file, line: error.line, expected: 'directives', actual: error.message });
    }
    if (tally.failures.length === failuresBefore) tally.passedFiles += 1;
  }
  return tally;
}

function runFile(
  file: string,
  directives: readonly Directive[],
  handle: (directive: Directive) => string,
  tally: Tally,
): void {
  for (const directive of directives) {
    const { line } = directive;
    const expected = withoutLogLines(directive.expected);
    const output = outputOf(handle, directive);
    // etcd says `ok` where it has nothing to say; its log lines are something, and ours has none.
    const actual = output === '' && expected === directive.expected ? 'ok' : output;
    tally.directives += 1;
    if (actual === expected) tally.passedDirectives += 1;
    else tally.failures.push({ file, line, expected, actual });
  }
}

/** A data file that is not in the format. */
class MalformedText extends Error {
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

/** @throws MalformedText where a directive has no end or cannot be read, and where there is none. */
export function parseDirectives(text: string): Directive[] {
  const lines = text.split('\n');
  const directives: Directive[] = [];
  let at = 0;
  while (at < lines.length) {
    const first = lines[at] ?? '';
    if (first.trim() === '' || first.startsWith('#')) {
      at += 1;
      continue;
    }
    const separator = lines.indexOf('----', at);
    if (separator === -1) throw new MalformedText(at + 1, `no ---- after '${first}'`);
    const end = lines.findIndex((line, number) => number > separator && line.trim() === '');
    const expectedEnd = end === -1 ? lines.length : end;
    const [command = '', ...rest] = partsOf(first, at + 1);
    directives.push({
      line: at + 1,
      command,
      arguments: rest.map(parseArgument),
      input: lines.slice(at + 1, separator).join('\n'),
      expected: lines.slice(separator + 1, expectedEnd).join('\n'),
    });
    at = expectedEnd;
  }
  if (directives.length === 0) throw new MalformedText(1, 'no directives');
  return directives;
}

/** The parts of a directive's line; blanks part them, except between parentheses. */
function partsOf(text: string, line: number): string[] {
  const part = String.raw`[^\s()=]+(?:=(?:\([^()]*\)|[^\s()]+))?`;
  if (!new RegExp(String.raw`^${part}(?:\s+${part})*\s*$`).test(text))
    throw new MalformedText(line, `cannot read '${text}'`);
  return text.match(new RegExp(part, 'g')) ?? [];
}

function parseArgument(text: string): { key: string; values: string[] } {
  const equals = text.indexOf('=');
  if (equals === -1) return { key: text, values: [] };
  const value = text.slice(equals + 1);
  const values = value.startsWith('(') ? value.slice(1, -1).split(/, */) : [value];
  return { key: text.slice(0, equals), values };
}

function outputOf(handle: (directive: Directive) => string, directive: Directive): string {
  try {
    return handle(directive);
  } catch (error) {
    if (error instanceof UnknownDirective) return `refused: ${error.message}`;
    return `threw: ${error instanceof Error ? error.stack : String(error)}`;
  }
}

/** etcd's own log text is no part of the behaviour. */
function withoutLogLines(text: string): string {
  const lines = text.split('\n');
  return lines.filter((line) => !/^\s*(DEBUG|INFO|WARN|ERROR) /.test(line)).join('\n');
}
