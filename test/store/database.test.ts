import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { openStore } from '../../node/store/index.ts';
import { ParleyError } from '../../protocols/errors.ts';

async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-store-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const bytes = (...values: number[]) => Uint8Array.from(values);

test('openStore() keeps binary values under ordered keys', async (t) => {
  const store = await openStore(join(await temporaryFolder(t), 'new', 'store'));
  t.after(() => store.close());
  await store.batch(
    ['a/1', 'a/2', 'a/3', 'b/1', 'é', '😀'].map((key, index) => ({
      type: 'put' as const,
      key,
      value: bytes(index, 255),
    })),
    { sync: true },
  );
  await store.batch(
    [
      { type: 'del', key: 'a/2' },
      { type: 'put', key: 'empty', value: bytes() },
    ],
    { sync: false },
  );
  assert.deepEqual(await store.get('a/3'), bytes(2, 255));
  assert.deepEqual(await store.get('empty'), bytes());
  assert.equal(await store.get('a/2'), undefined);
  const keys = async (options: Parameters<typeof store.range>[0]) => (await store.range(options)).map(([key]) => key);
  assert.deepEqual(await keys({ gte: 'a/', lt: 'a0' }), ['a/1', 'a/3']);
  assert.deepEqual(await keys({ gte: '', lt: '\u{10ffff}', reverse: true, limit: 3 }), ['😀', 'é', 'empty']);
  assert.deepEqual(await store.range({ gte: 'b/', lt: 'c' }), [['b/1', bytes(3, 255)]]);
});

test('range() pages through more than one read-ahead', async (t) => {
  const store = await openStore(await temporaryFolder(t));
  t.after(() => store.close());
  const value = new Uint8Array(2048).fill(7);
  const operations = Array.from({ length: 2500 }, (_, index) => ({
    type: 'put' as const,
    key: `k${String(index).padStart(6, '0')}`,
    value,
  }));
  await store.batch(operations, { sync: false });
  const pairs = await store.range({ gte: 'k', lt: 'l' });
  assert.deepEqual(
    pairs.map(([key]) => key),
    operations.map(({ key }) => key),
  );
  assert.ok(pairs.every(([, found]) => found.byteLength === 2048));
});

test('batch() applies calls in their order also when they are not awaited', async (t) => {
  const store = await openStore(await temporaryFolder(t));
  t.after(() => store.close());
  const writes: Promise<void>[] = [];
  for (let round = 0; round < 300; round++) {
    writes.push(
      store.batch([{ type: 'put', key: 'last', value: bytes(round & 255, round >> 8) }], { sync: round % 7 === 0 }),
    );
    if (round % 50 === 0) await turn();
  }
  await Promise.all(writes);
  assert.deepEqual(await store.get('last'), bytes(299 & 255, 299 >> 8));
});

test('openStore() refuses a folder that is open already', async (t) => {
  const folder = await temporaryFolder(t);
  const store = await openStore(folder);
  await assert.rejects(openStore(folder), (error) => {
    assert.ok(error instanceof ParleyError);
    assert.equal(error.code, 'store-locked');
    assert.ok(error.message.includes(folder) && error.hint !== undefined);
    return true;
  });
  await store.close();
  await (await openStore(folder)).close();
});

test('openStore() names a damaged store', async (t) => {
  const folder = await temporaryFolder(t);
  await (await openStore(folder)).close();
  await truncate(join(folder, 'CURRENT'), 3);
  await assert.rejects(openStore(folder), { code: 'store-damaged', retryable: false });
});

test('close() ends what waits and refuses what comes later', async (t) => {
  const folder = await temporaryFolder(t);
  const store = await openStore(folder);
  const written = store.batch([{ type: 'put', key: 'k', value: bytes(1) }], { sync: true });
  await store.close();
  await store.close();
  await written;
  await assert.rejects(store.get('k'), { code: 'store-closed' });
  await assert.rejects(store.batch([], { sync: true }), { code: 'store-closed' });
  const again = await openStore(folder);
  t.after(() => again.close());
  assert.deepEqual(await again.get('k'), bytes(1));
});

test('batch() with sync survives SIGKILL of the process', async (t) => {
  const folder = await temporaryFolder(t);
  const script = `
    import { openStore } from ${JSON.stringify(import.meta.resolve('../../node/store/index.ts'))};
    const store = await openStore(process.argv[1]);
    for (let round = 1; ; round++) {
      await store.batch([{ type: 'put', key: 'round', value: new Uint8Array([round & 255, round >> 8]) }], { sync: true });
      process.stdout.write(round + '\\n');
    }`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let acknowledged = 0;
  for await (const chunk of child.stdout) {
    for (const line of String(chunk).split('\n')) acknowledged = Math.max(acknowledged, Number(line) || 0);
    if (acknowledged >= 200 && !child.killed) child.kill('SIGKILL');
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  const store = await openStore(folder);
  t.after(() => store.close());
  const [low = 0, high = 0] = (await store.get('round')) ?? bytes();
  assert.ok(low + 256 * high >= acknowledged, `${low + 256 * high} stored, ${acknowledged} acknowledged`);
});
