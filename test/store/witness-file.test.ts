// The witness file: whatever a crash tears or a disk flips in one slot, the other one serves.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { RecordFile } from '../../node/interfaces.ts';
import { createWitnessFile } from '../../node/store/index.ts';
import { ParleyError } from '../../protocols/errors.ts';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array | undefined): string | undefined => bytes && new TextDecoder().decode(bytes);

async function pathFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-witness-'));
  t.after(() => rm(folder, { recursive: true }));
  return join(folder, 'witness');
}

/** Uses the file as one process does, from its start to its end. */
async function using<Result>(path: string, work: (file: RecordFile) => Promise<Result>): Promise<Result> {
  const file = createWitnessFile(path);
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

const readText = (path: string): Promise<string | undefined> => using(path, async (file) => textOf(await file.read()));

/** The file's bytes after each of some writes. */
async function imagesOf(path: string, records: readonly string[]): Promise<Buffer[]> {
  return using(path, async (file) => {
    const images: Buffer[] = [];
    for (const record of records) {
      await file.write(bytesOf(record));
      images.push(await readFile(path));
    }
    return images;
  });
}

test('read() gives nothing before the first write and the newest record after each', async (t) => {
  const path = await pathFor(t);
  assert.equal(await readText(path), undefined);
  for (const record of ['one', 'two', '', 'x'.repeat(472), 'five']) {
    await using(path, (file) => file.write(bytesOf(record)));
    assert.equal(await readText(path), record);
  }
});

test('write() that is torn at any byte leaves the record before it', async (t) => {
  const path = await pathFor(t);
  const [before, after] = await imagesOf(path, ['older', 'newer']);
  assert.ok(before && after);
  for (let torn = 0; torn < 512; torn += 1) {
    // What was written so far of the second slot, over what was there.
    const image: Buffer = Buffer.from(before);
    after.copy(image, 4096, 4096, 4096 + torn);
    await writeFile(path, image);
    const whole: boolean = image.equals(after);
    assert.equal(await readText(path), whole ? 'newer' : 'older', `torn after ${torn} bytes`);
    await using(path, (file) => file.write(bytesOf('next')));
    assert.equal(await readText(path), 'next');
  }
});

test('read() falls back to the other slot when any byte of one is flipped', async (t) => {
  const path = await pathFor(t);
  const image = (await imagesOf(path, ['first', 'older', 'newer'])).at(-1);
  assert.ok(image);
  for (const [slotAt, expected] of [
    [0, 'older'],
    [4096, 'newer'],
  ] as const) {
    for (let at = 0; at < 512; at += 1) {
      const flipped = Buffer.from(image);
      flipped.writeUInt8(flipped.readUInt8(slotAt + at) ^ (1 << (at % 8)), slotAt + at);
      await writeFile(path, flipped);
      assert.equal(await readText(path), expected, `byte ${slotAt + at}`);
    }
  }
});

test('read() gives nothing when neither slot is whole, and write() begins anew', async (t) => {
  const path = await pathFor(t);
  for (const image of [Buffer.alloc(0), Buffer.alloc(100, 7), Buffer.alloc(8192), Buffer.alloc(8192, 1)]) {
    await writeFile(path, image);
    assert.equal(await readText(path), undefined);
    await using(path, (file) => file.write(bytesOf('new')));
    assert.equal(await readText(path), 'new');
  }
});

test('write() refuses a record that does not fit a slot', async (t) => {
  const path = await pathFor(t);
  const refused = using(path, (file) => file.write(new Uint8Array(473)));
  await assert.rejects(refused, (error) => error instanceof ParleyError && error.code === 'too-large');
});

test('write() says where the file cannot be', async (t) => {
  const path = join(await pathFor(t), 'missing', 'witness');
  const refused = using(path, (file) => file.write(bytesOf('one')));
  await assert.rejects(refused, (error) => error instanceof ParleyError && error.code === 'store-failed');
});
