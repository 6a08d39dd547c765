// Shows that containment holds alike where the peer is an ordinary user: the same tests once more, without root's rights.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { runner } from './toplevels.ts';

const ordinaryUser = '61234';
const suite = path.join(import.meta.dirname, 'contained-machine.test.ts');

test('the contained machine keeps its promises for an ordinary user', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('contained-machine.test.ts itself runs as an ordinary user here');
  const asUser = ['--reuid', ordinaryUser, '--regid', ordinaryUser, '--clear-groups', '--'];
  const { exitCode, stdout, stderr } = await runner.run({
    program: 'setpriv',
    arguments: [...asUser, process.execPath, '--test', suite],
    timeoutMs: 180_000,
  });
  const output = `${Buffer.from(stdout).toString('utf8')}${stderr}`;
  assert.equal(exitCode, 0, output);
  assert.match(output, /pass [1-9]/);
});
