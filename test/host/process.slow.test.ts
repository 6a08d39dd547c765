// Shows that what a program started in a session of its own ends with it even when the program itself has to be killed.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { createLogger, createProcessRunner } from '../../node/host/index.ts';

test('run() kills a program that does not end within the grace, and its descendants in other sessions', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-host-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const runner = createProcessRunner({ logger: createLogger({ level: 'silent' }) });
  const abort = new AbortController();
  const pidFile = path.join(folder, 'pid');
  const loop = `echo $$ >"${pidFile}"; exec >/dev/null 2>&1; while :; do sleep 0.1; done`;
  const script = `trap "" TERM; setsid sh -c '${loop}' & until [ -s "${pidFile}" ]; do sleep 0.02; done
    echo ready; while :; do sleep 0.1; done`;
  const startedMs = performance.now();
  const run = runner.run({
    program: '/bin/sh',
    arguments: ['-c', script],
    signal: abort.signal,
    onStdoutLine: () => abort.abort(),
  });
  await assert.rejects(run, { code: 'cancelled' });
  assert.ok(performance.now() - startedMs >= 4_900, 'the program had its grace');
  const pid = Number(await readFile(pidFile, 'utf8'));
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  assert.ok(status === '' || status.includes(') Z '), status);
});
