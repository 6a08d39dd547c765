// Tests a disk that is really full: the spool on a small tmpfs in a mount namespace of its own (root only).

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createSpool } from '../../node/closure/spool.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { hashBytes, makeStore, removeStore, startFleet } from './fleet.ts';

const tmpfs = process.env.PARLEY_TEST_TMPFS;
const mebibyte = 1024 * 1024;
const isFull = (error: unknown): boolean =>
  error instanceof ParleyError && error.code === 'disk-full' && error.retryable;

if (tmpfs === undefined) {
  const unable = process.platform !== 'linux' || process.getuid?.() !== 0;
  test('a full disk under the spool', { skip: unable && 'needs root on Linux to mount a tmpfs' }, async (context) => {
    const folder = `/tmp/parley-tmpfs-${process.pid}`;
    await mkdir(folder);
    context.after(() => rm(folder, { recursive: true }));
    const script = 'mount -t tmpfs -o size=32m tmpfs "$0" && exec "$@"';
    const child = [process.execPath, fileURLToPath(import.meta.url)];
    const environment = { ...process.env, PARLEY_TEST_TMPFS: folder, NODE_TEST_CONTEXT: '' };
    await promisify(execFile)('unshare', ['--mount', 'sh', '-c', script, folder, ...child], { env: environment });
  });
} else {
  test('fetch() fails with disk-full, breaks nothing and finishes when there is room again', async (context) => {
    const store = await makeStore([20 * mebibyte, mebibyte]);
    context.after(() => removeStore(store));
    const fleet = await startFleet(store, { home: 1, shop: 1 }, (name) =>
      name === 'shop-1' ? { spoolFolder: join(tmpfs, 'spool') } : {},
    );
    context.after(() => fleet.stop());
    const { closures } = fleet.get('shop-1');
    const { signal } = new AbortController();
    await writeFile(join(tmpfs, 'ballast'), Buffer.alloc(8 * mebibyte));
    await assert.rejects(closures.fetch(store.manifestHash, { signal }), isFull);
    await rm(join(tmpfs, 'ballast'));
    await closures.fetch(store.manifestHash, { signal });
    assert.equal(closures.counters().spoolBytes, store.totalBytes);
    await closures.release(store.manifestHash);
    assert.equal(closures.counters().spoolBytes, 0);
  });

  test('append() gives the space back when the disk fills up under a writer', async () => {
    const spool = createSpool({ folder: join(tmpfs, 'direct'), bytesMax: 1024 * mebibyte });
    await spool.start();
    const bytes = Buffer.alloc(mebibyte, 'b');
    const whole = Buffer.alloc(16 * mebibyte, 'b');
    const nar = { narHash: hashBytes(whole), narSize: whole.byteLength };
    const writer = await spool.write(nar);
    for (let count = 0; count < 8; count += 1) await writer.append(bytes);
    await writeFile(join(tmpfs, 'ballast'), Buffer.alloc(20 * mebibyte));
    const filling = (async () => {
      for (let count = 0; count < 8; count += 1) await writer.append(bytes);
    })();
    await assert.rejects(filling, isFull);
    assert.equal(writer.bytes, 0);
    await rm(join(tmpfs, 'ballast'));
    for (let count = 0; count < 16; count += 1) await writer.append(bytes);
    assert.equal(await writer.prove(), true);
    await writer.close();
    assert.equal(spool.holdsNow(nar), true);
  });
}
