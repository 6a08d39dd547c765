import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createBlobStore } from '../../node/store/index.ts';
import { sha256Hex } from '../../protocols/codec.ts';
import { blobBytesMax } from '../../protocols/limits.ts';

async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-blobs-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const text = (value: string) => new TextEncoder().encode(value);

test('put() stores bytes under their hash', async (t) => {
  const folder = join(await temporaryFolder(t), 'blobs');
  const blobs = createBlobStore(folder);
  assert.deepEqual(await blobs.list(), []);
  const hash = await blobs.put(text('one'));
  assert.equal(hash, sha256Hex('one'));
  assert.deepEqual(await blobs.get(hash), text('one'));
  assert.equal(await blobs.has(hash), true);
  assert.equal((await blobs.facts(hash))?.bytes, 3);
  const empty = await blobs.put(text(''));
  assert.equal((await blobs.facts(empty))?.bytes, 0);
  assert.deepEqual(await blobs.get(empty), text(''));
  assert.deepEqual(await createBlobStore(folder).list(), [hash, empty].sort());
  await blobs.delete(hash);
  await blobs.delete(hash);
  assert.equal(await blobs.get(hash), undefined);
  assert.equal(await blobs.has(hash), false);
  assert.equal(await blobs.facts(hash), undefined);
});

test('put() of the same bytes at once writes one file', async (t) => {
  const folder = await temporaryFolder(t);
  const blobs = createBlobStore(folder);
  const body = new Uint8Array(300_000).fill(3);
  const hashes = await Promise.all(Array.from({ length: 8 }, () => blobs.put(body)));
  assert.equal(new Set(hashes).size, 1);
  assert.deepEqual(await blobs.list(), [hashes[0]]);
  assert.deepEqual(await readdir(join(folder, 'incoming')), []);
});

test('get() takes a damaged file as absent and put() heals it', async (t) => {
  const folder = await temporaryFolder(t);
  const blobs = createBlobStore(folder);
  const hash = await blobs.put(text('whole'));
  const path = join(folder, hash.slice(0, 2), hash);
  await writeFile(path, 'damaged');
  assert.equal(await blobs.get(hash), undefined);
  assert.equal(await blobs.has(hash), false);
  await blobs.put(text('whole'));
  await writeFile(path, 'damaged');
  assert.equal(await blobs.put(text('whole')), hash);
  assert.deepEqual(await blobs.get(hash), text('whole'));
});

test('put() keeps what is being deleted, and onPut() tells of it before', async (t) => {
  const blobs = createBlobStore(await temporaryFolder(t));
  const told: string[] = [];
  const stop = blobs.onPut((hash, bytes) => told.push(`${hash} ${bytes}`));
  const body = new Uint8Array(100_000).fill(5);
  const hash = await blobs.put(body);
  for (let round = 0; round < 20; round += 1) {
    const deleting = blobs.delete(hash);
    await blobs.put(body);
    assert.ok(await blobs.has(hash));
    await deleting;
    assert.ok(await blobs.has(hash), `round ${round}`);
  }
  stop();
  await blobs.put(body);
  assert.deepEqual(told, Array(21).fill(`${hash} 100000`));
});

test('createBlobStore() clears what an earlier process left half-written', async (t) => {
  const folder = await temporaryFolder(t);
  await mkdir(join(folder, 'incoming'));
  await writeFile(join(folder, 'incoming', '1'), 'half');
  const blobs = createBlobStore(folder);
  await blobs.put(text('next'));
  assert.deepEqual(await readdir(join(folder, 'incoming')), []);
});

test('createBlobStore() refuses names that are no hash and bodies over the limit', async (t) => {
  const blobs = createBlobStore(await temporaryFolder(t));
  for (const name of ['', '../../etc/passwd', 'A'.repeat(64), `${'a'.repeat(64)}/..`]) {
    await assert.rejects(blobs.get(name), { code: 'malformed' });
    await assert.rejects(blobs.has(name), { code: 'malformed' });
    await assert.rejects(blobs.delete(name), { code: 'malformed' });
  }
  await assert.rejects(blobs.put(new Uint8Array(blobBytesMax + 1)), { code: 'too-large' });
});
