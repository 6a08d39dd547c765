// The core's own README is what other projects start from: its example must run, and its table must name every file.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const folder = path.resolve(import.meta.dirname, '../../node/consensus/core');
const readme = readFileSync(path.join(folder, 'README.md'), 'utf8');

test("the core's README has an example that does what it says", () => {
  const example = /```ts\n(.*?)```/s.exec(readme)?.[1] ?? '';
  const face = pathToFileURL(path.join(folder, 'index.ts')).href;
  const scratch = mkdtempSync(path.join(tmpdir(), 'core-readme-'));
  try {
    const file = path.join(scratch, 'example.ts');
    writeFileSync(file, example.replace("'./index.ts'", `'${face}'`));
    assert.equal(execFileSync(process.execPath, [file], { encoding: 'utf8' }), 'hello\n');
  } finally {
    rmSync(scratch, { recursive: true });
  }
});

test("the core's README tells of each of its files, and of no other", () => {
  const files = readdirSync(folder).filter((file) => file.endsWith('.ts') && file !== 'index.ts');
  const table = readme.slice(readme.indexOf('## The files'));
  const told = [...table.matchAll(/`([a-z-]+\.ts)`/g)].map(([, file]) => file);
  assert.deepEqual(told.sort(), files.sort());
});
