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

export interface Tally {
  files: number;
  passedFiles: number;
  directives: number;
  passedDirectives: number;
  failures: { readonly file: string; readonly line: number; readonly expected: string; readonly actual: string }[];
}

/** Runs all files of a folder, none where there is no such folder, each against a fresh handler; a directive passes when its output is the same. */
export async function runFolder(folder: string, createHandler: () => (directive: Directive) => string): Promise<Tally> {
  const tally: Tally = { files: 0, passedFiles: 0, directives: 0, passedDirectives: 0, failures: [] };
  const names = existsSync(folder) ? await readdir(folder) : [];
  for (const name of names.filter((file) => file.endsWith('.txt')).sort()) {
    const file = join(folder, name);
    const handle = createHandler();
    const directives = parseDirectives(await readFile(file, 'utf8'));
    const failuresBefore = tally.failures.length;
    for (const directive of directives) {
      const actual = outputOf(handle, directive);
      const expected = withoutLogLines(directive.expected);
      if (actual === expected) tally.passedDirectives += 1;
      else tally.failures.push({ file, line: directive.line, expected, actual });
    }
    tally.files += 1;
    tally.directives += directives.length;
    if (tally.failures.length === failuresBefore) tally.passedFiles += 1;
  }
  return tally;
}

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
    if (separator === -1) throw new Error(`line ${at + 1}: no ---- after '${first}'`);
    const end = lines.findIndex((line, number) => number > separator && line.trim() === '');
    const expectedEnd = end === -1 ? lines.length : end;
    const [command = '', ...rest] = first.match(/[^\s(]+(\([^)]*\))?/g) ?? [];
    directives.push({
      line: at + 1,
      command,
      arguments: rest.map(parseArgument),
      input: lines.slice(at + 1, separator).join('\n'),
      expected: lines.slice(separator + 1, expectedEnd).join('\n'),
    });
    at = expectedEnd;
  }
  return directives;
}

function parseArgument(text: string): { key: string; values: string[] } {
  const equals = text.indexOf('=');
  if (equals === -1) return { key: text, values: [] };
  const value = text.slice(equals + 1);
  const inner = value.startsWith('(') ? value.slice(1, -1).split(/[,\s]+/) : [value];
  return { key: text.slice(0, equals), values: inner.filter((part) => part !== '') };
}

function outputOf(handle: (directive: Directive) => string, directive: Directive): string {
  try {
    return normalize(handle(directive));
  } catch (error) {
    return `threw: ${error instanceof Error ? error.stack : String(error)}`;
  }
}

/** etcd's own log text is no part of the behaviour. */
function withoutLogLines(text: string): string {
  return normalize(text.replaceAll(/^\s*(DEBUG|INFO|WARN|ERROR) .*\n?/gm, ''));
}

/** Output that was nothing but log lines is as good as the `ok` that stands for none. */
function normalize(text: string): string {
  const trimmed = text.replaceAll(/[ \t]+$/gm, '').trimEnd();
  return trimmed === 'ok' ? '' : trimmed;
}
