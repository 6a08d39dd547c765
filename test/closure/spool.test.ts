// Tests the spool: room, pins, order of leaving, and what it finds after a restart.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createSpool, type Spool } from '../../node/closure/spool.ts';
import type { Nar } from '../../node/closure/spool-file.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { hashBytes } from './fleet.ts';

const narSize = 1_000;
const isFull = (error: unknown): boolean => error instanceof ParleyError && error.code === 'disk-full';

async function makeFolder(context: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-spool-'));
  context.after(() => rm(folder, { recursive: true }));
  return folder;
}

async function open(folder: string, bytesMax: number): Promise<Spool> {
  const spool = createSpool({ folder, bytesMax });
  await spool.start();
  return spool;
}

async function put(spool: Spool): Promise<Nar> {
  const bytes = randomBytes(narSize);
  const nar = { narHash: hashBytes(bytes), narSize };
  const writer = await spool.write(nar);
  await writer.append(bytes);
  assert.equal(await writer.prove(), true);
  await writer.close();
  return nar;
}

test('write() lets the least recently used NAR go when there is no room, and never a pinned one', async (context) => {
  const spool = await open(await makeFolder(context), 3 * narSize);
  const [first, second, third] = [await put(spool), await put(spool), await put(spool)];
  spool.pin('wanted', [second]);
  await (await spool.read(first)).close();
  const fourth = await put(spool);
  assert.deepEqual(
    [first, second, third, fourth].map((nar) => spool.holdsNow(nar)),
    [true, true, false, true],
  );
  spool.pin('wanted', [first, second, fourth]);
  await assert.rejects(put(spool), isFull);
  await spool.unpin('wanted');
  assert.equal(spool.bytes(), 0);
});

test('write() reserves room for what is on its way', async (context) => {
  const spool = await open(await makeFolder(context), 2 * narSize - 1);
  const bytes = randomBytes(narSize);
  const writer = await spool.write({ narHash: hashBytes(bytes), narSize });
  await assert.rejects(put(spool), isFull);
  await writer.close();
  await put(spool);
});

test('unpin() keeps what another owner wants', async (context) => {
  const spool = await open(await makeFolder(context), 10 * narSize);
  const [shared, own] = [await put(spool), await put(spool)];
  spool.pin('one', [shared, own]);
  spool.pin('two', [shared]);
  await spool.unpin('one');
  assert.deepEqual([spool.holdsNow(shared), spool.holdsNow(own)], [true, false]);
});

test('sweep() removes what nobody keeps or used since the sweep before', async (context) => {
  const spool = await open(await makeFolder(context), 10 * narSize);
  const [used, unused, pinned] = [await put(spool), await put(spool), await put(spool)];
  spool.pin('owner', [pinned]);
  await spool.sweep();
  await (await spool.read(used)).close();
  await spool.sweep();
  assert.deepEqual(
    [used, unused, pinned].map((nar) => spool.holdsNow(nar)),
    [true, false, true],
  );
});

test('start() counts nothing as held before its hash is checked again', async (context) => {
  const folder = await makeFolder(context);
  const before = await open(folder, 10 * narSize);
  const [good, damaged] = [await put(before), await put(before)];
  await writeFile(join(folder, `${damaged.narHash.slice(7)}.nar`), randomBytes(narSize));
  await writeFile(join(folder, 'README'), 'not ours');
  const spool = await open(folder, 10 * narSize);
  assert.equal(spool.bytes(), 2 * narSize);
  assert.deepEqual([spool.holdsNow(good), spool.holdsNow(damaged)], [false, false]);
  assert.deepEqual(await Promise.all([spool.holds(good), spool.holds(damaged), spool.holds(good)]), [
    true,
    false,
    true,
  ]);
  assert.deepEqual((await readdir(folder)).sort(), [`${good.narHash.slice(7)}.nar`, 'README'].sort());
});

test('prove() refuses bytes that do not have the hash, in one run and over a restart', async (context) => {
  const folder = await makeFolder(context);
  const bytes = randomBytes(narSize);
  const nar = { narHash: hashBytes(bytes), narSize };
  const first = await (await open(folder, 10 * narSize)).write(nar);
  await first.append(bytes.subarray(0, 400));
  await first.close();
  const spool = await open(folder, 10 * narSize);
  assert.equal(spool.partialBytes(nar), 400);
  const second = await spool.write(nar);
  await second.append(randomBytes(600));
  assert.equal(await second.prove(), false);
  await second.reset();
  await second.append(randomBytes(narSize));
  assert.equal(await second.prove(), false);
  await second.reset();
  await second.append(bytes);
  assert.equal(await second.prove(), true);
  await second.close();
  assert.equal(spool.holdsNow(nar), true);
  assert.equal(spool.holdsNow({ ...nar, narSize: narSize + 1 }), false);
});
