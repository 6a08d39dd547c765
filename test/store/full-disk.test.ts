// A full disk, for real: a small tmpfs in a mount namespace of a child process, so that nothing of it outlives the test.

import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const mountable =
  spawnSync('unshare', ['--mount', '--map-root-user', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;

test('openStore() keeps what it acknowledged on a full disk and goes on once there is space', {
  skip: mountable ? false : 'needs a mount namespace of its own',
}, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'parley-full-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const child = join(import.meta.dirname, '..', 'fixtures', 'full-disk-store.ts');
  const { stdout } = await promisify(execFile)('unshare', [
    '--mount',
    '--map-root-user',
    'sh',
    '-ec',
    'mount -t tmpfs -o size=24m tmpfs "$1"; exec "$2" "$3" "$1"',
    'sh',
    folder,
    process.execPath,
    child,
  ]);
  assert.deepEqual(JSON.parse(stdout), {
    failed: 'disk-full',
    retryable: true,
    failedAgain: 'disk-full',
    readableWhileFull: true,
    blobFailed: 'disk-full',
    blobsLeftBehind: [],
    writesAfterSpace: true,
    lostAfterReopen: [],
  });
});
