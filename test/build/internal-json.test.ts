// Shows how Nix's structured log becomes lines, progress and failures, whatever stands on it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createInternalJsonReader } from '../../node/build/internal-json-core.ts';
import type { BuildLogLine, BuildProgress } from '../../protocols/build-job.ts';
import { buildLogLineSchema, buildProgressSchema } from '../../protocols/build-job.ts';
import { check } from '../../protocols/codec.ts';
import { seededRandom } from '../helpers/random.ts';

const drvPath = '/nix/store/5gw2hlfhikzpp80apf033aip9vgq1gqm-base-libs-2.41.drv';

function read(lines: readonly string[]) {
  const log: BuildLogLine[] = [];
  const progress: BuildProgress[] = [];
  const reader = createInternalJsonReader({
    onLog: (line) => log.push(line),
    onProgress: (news) => progress.push(news),
  });
  for (const line of lines) reader.push(line);
  return { log, progress, failure: reader.failure(), errors: reader.errors() };
}

const nix = (record: object) => `@nix ${JSON.stringify(record)}`;
const startBuild = nix({
  action: 'start',
  id: 7,
  type: 105,
  level: 3,
  text: `building '${drvPath}'`,
  fields: [drvPath, '', 1, 1],
});
const logLine = (text: string) => nix({ action: 'result', id: 7, type: 101, fields: [text] });

test('push() turns build logs, messages and plain lines into log lines with their level', () => {
  const { log } = read([
    startBuild,
    logLine('\u001b[31mcompiling\u001b[0m'),
    nix({ action: 'msg', level: 1, msg: '\u001b[35;1mwarning:\u001b[0m old option' }),
    nix({ action: 'msg', level: 5, msg: 'acquiring lock' }),
    nix({ action: 'start', id: 8, type: 0, level: 6, text: 'querying info' }),
    'plain words',
    nix({ action: 'stop', id: 7 }),
  ]);
  assert.deepEqual(log, [
    { level: 'info', text: `building '${drvPath}'` },
    { level: 'build', text: '\u001b[31mcompiling\u001b[0m', drvPath },
    { level: 'warning', text: 'warning: old option' },
    { level: 'debug', text: 'acquiring lock' },
    { level: 'info', text: 'plain words' },
  ]);
});

test('push() reports progress of the builds only', () => {
  const { progress } = read([
    nix({ action: 'start', id: 1, type: 104, level: 0, text: '' }),
    nix({ action: 'start', id: 2, type: 103, level: 0, text: '' }),
    nix({ action: 'result', id: 1, type: 105, fields: [1, 12, 2, 0] }),
    nix({ action: 'result', id: 2, type: 105, fields: [5, 5, 5, 5] }),
  ]);
  assert.deepEqual(progress, [{ done: 1, expected: 12, running: 2, failed: 0 }]);
});

test('failure() names the derivation and the end of its log in the wordings of old and new Nix', () => {
  const logs = Array.from({ length: 30 }, (_, index) => logLine(`line ${index + 1}`));
  const wordings = [
    `\u001b[31;1merror:\u001b[0m builder for '${drvPath}' failed with exit code 2;\n       last 10 log lines:\n       > x`,
    `error: Cannot build '${drvPath}'.\n       Reason: builder failed with exit code 2.\n       Output paths:`,
  ];
  for (const msg of wordings) {
    const { failure } = read([
      startBuild,
      ...logs,
      nix({ action: 'stop', id: 7 }),
      nix({ action: 'msg', level: 0, msg }),
    ]);
    assert.equal(failure?.drvPath, drvPath);
    assert.equal(failure?.reason, 'failed with exit code 2');
    assert.deepEqual(
      failure?.lastLines,
      Array.from({ length: 20 }, (_, index) => `line ${index + 11}`),
    );
  }
});

test('failure() is not the derivation that only depends on the failed one', () => {
  const dependent = "error: 1 dependencies of derivation '/nix/store/whole.drv' failed to build";
  assert.equal(read([nix({ action: 'msg', level: 0, msg: dependent })]).failure, undefined);
});

test('push() survives any line, and what it gives fits the protocol', () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const chance = seededRandom(seed);
  const random = (limit: number) => Math.floor(chance() * limit);
  const values = [
    null,
    true,
    -1,
    0,
    1.5,
    1e300,
    101,
    104,
    105,
    7,
    '',
    'start',
    'result',
    'msg',
    'stop',
    drvPath,
    'x'.repeat(9_000),
    [],
    {},
    [drvPath],
    [1, 2, 3, 4],
    [-1, 'a', null],
    '\u0000\n\n',
  ];
  const whole = [
    { action: 'start', id: 104, type: 104, level: 3, text: 'building', fields: [drvPath] },
    { action: 'result', id: 104, type: 105, fields: [1, 2, 3, 4] },
    { action: 'result', id: 104, type: 101, fields: ['a line'] },
    { action: 'msg', level: 1, msg: 'a message' },
    { action: 'stop', id: 104 },
  ];
  const keys = ['action', 'id', 'type', 'level', 'text', 'fields', 'msg'];
  const lines = Array.from({ length: 5_000 }, () => {
    const record: Record<string, unknown> = { ...whole[random(whole.length)] };
    for (let left = random(4); left > 0; left -= 1)
      record[keys[random(keys.length)] ?? ''] = values[random(values.length)];
    const text = `@nix ${JSON.stringify(record)}`;
    return random(4) === 0 ? text.slice(0, random(text.length)) : text;
  });
  const { log, progress } = read([...lines, '@nix ', '@nix null', '@nix []', '@nix 7', '']);
  try {
    for (const line of log) check(buildLogLineSchema, line);
    for (const news of progress) check(buildProgressSchema, news);
  } catch (error) {
    throw new Error(`seed ${seed}`, { cause: error });
  }
  assert.ok(log.length > 0 && progress.length > 0, `seed ${seed}`);
});
