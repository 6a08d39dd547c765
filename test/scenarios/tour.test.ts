// Runs the README's tour word for word and looks for what it says is printed, ids, times and sizes aside.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { runDemo } from './demo-runner.ts';

interface TourLine {
  readonly command: string;
  readonly expected: readonly string[];
}

const prompt = 'parley> ';

function readTour(): TourLine[] {
  const readme = readFileSync(path.resolve(import.meta.dirname, '../../README.md'), 'utf8');
  const lines: { command: string; expected: string[] }[] = [];
  for (const [, block = ''] of readme.matchAll(/```console\n(.*?)```/gs)) {
    for (const line of block.split('\n')) {
      if (line.startsWith(prompt)) lines.push({ command: line.slice(prompt.length), expected: [] });
      else if (line.trim() !== '') lines.at(-1)?.expected.push(line);
    }
  }
  return lines;
}

/** An expected line as a pattern: hashes and numbers stand for any such, `…` for anything, blanks for any number of them. */
function patternOf(line: string): RegExp {
  const words = line.trim().split(/\s+/);
  return new RegExp(
    words
      .map((word) =>
        word
          .split(/([0-9A-Za-z]+)/)
          .map(partPattern)
          .join(''),
      )
      .join('\\s+'),
  );
}

function partPattern(part: string): string {
  if (/^[0-9]+$/.test(part)) return '[0-9]+';
  if (/^[0-9a-z]{8}$/.test(part) && /[0-9]/.test(part)) return '[0-9a-z]+';
  return RegExp.escape(part).replaceAll('…', '.*');
}

test("the README's tour prints what it says, word for word", async (t) => {
  const tour = readTour();
  assert.ok(tour.length > 20);
  const run = await runDemo(
    t,
    tour.map(({ command }) => command),
  );
  assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`);
  assert.deepEqual(
    run.lines.map(({ line }) => line),
    tour.map(({ command }) => command),
  );
  for (const [index, { command, expected }] of tour.entries()) {
    for (const line of expected) assert.match(run.lines[index]?.output ?? '', patternOf(line), `after '${command}'`);
  }
});
