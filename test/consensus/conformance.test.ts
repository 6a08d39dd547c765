// etcd/raft's own data files, where they are at hand: every interaction, configuration and quorum case.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseDirectives } from '../../scripts/conformance/datadriven.ts';
import { runEtcdRaft } from '../../scripts/conformance.ts';

const root = process.env.PARLEY_CONFORMANCE ?? join(import.meta.dirname, '../../../shared/conformance');
const folder = join(root, 'etcd-raft');
const skip = existsSync(folder) ? false : `no data at '${folder}': set PARLEY_CONFORMANCE to run this`;

test("the core does what etcd/raft's data files expect", { skip }, async () => {
  const { interaction, confchange, quorum } = await runEtcdRaft(folder);
  for (const tally of [interaction, confchange, quorum]) {
    assert.deepEqual(tally.failures, []);
    assert.equal(tally.passedFiles, tally.files);
    assert.equal(tally.passedDirectives, tally.directives);
  }
  assert.equal(interaction.files, 28);
  assert.equal(confchange.files, 9);
  assert.equal(quorum.files, 4);
  assert.equal(interaction.directives + confchange.directives + quorum.directives, 743);
});

test('parseDirectives() takes comments, input, several values and the end of the file', () => {
  const text = '# comment\n\nadd-nodes 3 voters=(1,2, 3) index=2\nv4 l5\n----\nok\n\nstatus 1\n----\n1: a\n  b';
  assert.deepEqual(parseDirectives(text), [
    {
      line: 3,
      command: 'add-nodes',
      arguments: [
        { key: '3', values: [] },
        { key: 'voters', values: ['1', '2', '3'] },
        { key: 'index', values: ['2'] },
      ],
      input: 'v4 l5',
      expected: 'ok',
    },
    { line: 8, command: 'status', arguments: [{ key: '1', values: [] }], input: '', expected: '1: a\n  b' },
  ]);
});
