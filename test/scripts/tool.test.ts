// The project's own tools say what they are for, and do nothing where they are not understood.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

const scripts = path.resolve(import.meta.dirname, '../../scripts');
const names = ['simulate', 'mutants', 'conformance', 'bench/failover', 'bench/ledger', 'bench/members', 'bench/idle'];

function run(name: string, ...words: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(scripts, `${name}.ts`), ...words], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

for (const name of names) {
  test(`scripts/${name}.ts shows its manual with --help, and refuses what it does not know`, () => {
    const { status, stdout, stderr } = run(name, '--help');
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, new RegExp(`node scripts/${name}\\.ts.*--json`));
    const refused = run(name, '--helq');
    assert.deepEqual([refused.status, refused.stdout], [2, '']);
    assert.match(refused.stderr, /--helq[\s\S]*--help/);
  });
}

test('scripts/simulate.ts refuses seeds that are none', () => {
  for (const seeds of ['5..1', 'all', '1..', '']) {
    const { status, stdout, stderr } = run('simulate', '--seeds', seeds, '--json');
    assert.deepEqual([status, stdout], [2, ''], seeds);
    assert.match(stderr, /Say --seeds 17 or --seeds 1\.\.500/);
  }
});

test('scripts/mutants.ts does not pass where no mutant is meant', () => {
  const { status, stdout, stderr } = run('mutants', 'no such promise');
  assert.deepEqual([status, stdout], [2, '']);
  assert.match(stderr, /no mutant has no such promise/);
});

test('scripts/conformance.ts does not pass where there are no data', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-tool-'));
  t.after(() => rm(folder, { recursive: true }));
  for (const words of [[], ['etcd-raft'], ['other', folder], ['etcd-raft', folder], ['porcupine', folder]]) {
    const { status, stdout } = run('conformance', ...words, '--json');
    assert.deepEqual([status, stdout], [2, ''], words.join(' '));
  }
});
