// Owns how the end-to-end tests run the demo: console lines in, what was printed after each line out. Real peers, real Nix.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';

const demo = path.resolve(import.meta.dirname, '../../scripts/demo');

export interface LineResult {
  readonly line: string;
  /** What the line printed to standard output. */
  readonly output: string;
}

export interface DemoRun {
  readonly status: number;
  readonly lines: readonly LineResult[];
  readonly stdout: string;
  readonly stderr: string;
  /** What the first line that begins so printed. */
  outputOf(line: string): string;
}

/** Runs console lines in a demo of its own and gives what each printed. The test's signal ends it. */
export async function runDemo(
  t: TestContext,
  lines: readonly string[],
  options: readonly string[] = [],
): Promise<DemoRun> {
  const child = spawn(demo, ['--run', '-', ...options], { signal: t.signal, killSignal: 'SIGTERM' });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  child.stdin.end(`${lines.join('\n')}\n`);
  const status = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? -1));
  });
  const text = Buffer.concat(stdout).toString('utf8');
  const results = split(text);
  return {
    status,
    lines: results,
    stdout: text,
    stderr: Buffer.concat(stderr).toString('utf8'),
    outputOf(line) {
      const found = results.find((result) => result.line.startsWith(line));
      if (found === undefined) throw new Error(`no line '${line}' was run:\n${text}\n${Buffer.concat(stderr)}`);
      return found.output;
    },
  };
}

function split(text: string): LineResult[] {
  const results: { line: string; output: string }[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('> ')) results.push({ line: line.slice(2), output: '' });
    else {
      const last = results.at(-1);
      if (last !== undefined) last.output += `${line}\n`;
    }
  }
  return results;
}

/** A folder with a short path, for sockets below it; removed after the test. */
export async function keptFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-e2e-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
