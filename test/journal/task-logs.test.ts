// Shows that task logs keep their beginning and their end within their bounds, and reach readers here and elsewhere.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { encode } from '../../protocols/codec.ts';
import { logsProtocol, taskLogBytesMax } from '../../protocols/journal.ts';
import type { LogLine } from '../../protocols/views.ts';
import { createMemoryNetwork } from '../helpers/memory-mesh.ts';
import { seededRandom } from '../helpers/random.ts';
import { startPeer, type TestPeer } from './fixtures.ts';

const within = () => AbortSignal.timeout(10_000);
const line = (text: string) => ({ stream: 'stdout' as const, level: 'info' as const, text });

async function readAll(reader: TestPeer, peer: string, task: string, follow: boolean): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  for await (const one of reader.journal.readLogs({ peer, task, follow, signal: within() })) lines.push(one);
  return lines;
}

async function startTwo(t: TestContext) {
  const network = createMemoryNetwork();
  return { device: await startPeer(t, network, 1), other: await startPeer(t, network, 2) };
}

test('readLogs() follows a log on another peer until it ends, and reads it again after a restart', async (t) => {
  const { device, other } = await startTwo(t);
  const log = device.journal.taskLog('t12/web1');
  log.append([line('one')]);
  device.clock.advance(1_000);
  const texts: string[] = [];
  for await (const { text } of other.journal.readLogs({
    peer: device.identity.peer,
    task: 't12/web1',
    follow: true,
    signal: within(),
  })) {
    texts.push(text);
    if (text === 'one') log.append([line('two'), line('three')]);
    if (text === 'three') log.end();
    if (text === 'one' || text === 'two') device.clock.advance(1_000);
  }
  assert.deepEqual(texts, ['one', 'two', 'three']);
  const again = await device.restart();
  const lines = await readAll(again, again.identity.peer, 't12/web1', true);
  assert.deepEqual(
    lines.map(({ text, peer, task, stream }) => [text, peer, task, stream]),
    ['one', 'two', 'three'].map((text) => [text, 'peer1', 't12/web1', 'stdout']),
  );
  assert.deepEqual(await readAll(again, again.identity.peer, 't12', false), []);
});

test('readLogs() waits for a log that has not begun, and keeps the programs in it', async (t) => {
  const { device, other } = await startTwo(t);
  const reading = readAll(other, device.identity.peer, 't1', true);
  const log = device.journal.taskLog('t1');
  const program = { command: 'nix --version', exitCode: 0 };
  log.append([{ stream: 'parley', level: 'info', text: 'ran', program }, line('after it')]);
  log.end();
  assert.deepEqual(
    (await reading).map((one) => one.program),
    [program, undefined],
  );
});

test('readLogs() ends with its signal and when its reader leaves', async (t) => {
  const { device, other } = await startTwo(t);
  device.journal.taskLog('t1').append([line('one')]);
  device.clock.advance(1_000);
  for await (const { text } of other.journal.readLogs({
    peer: device.identity.peer,
    task: 't1',
    follow: true,
    signal: within(),
  })) {
    assert.equal(text, 'one');
    break;
  }
  const leaving = new AbortController();
  const reading = (async () => {
    const request = { peer: device.identity.peer, task: 't1', follow: true, signal: leaving.signal };
    for await (const _ of device.journal.readLogs(request)) leaving.abort(new Error('left'));
  })();
  await assert.rejects(reading, { message: 'left' });
});

test('taskLog() keeps the beginning and the end of a log that is too large, and says what was cut', async (t) => {
  const { device } = await startTwo(t);
  const log = device.journal.taskLog('t1');
  const count = 9_000;
  for (let number = 0; number < count; number += 1) {
    log.append([line(`${number} ${'x'.repeat(600)}`)]);
    if (number % 250 === 0) {
      device.clock.advance(1_000);
      await turn();
      for (let round = 0; round < 20; round += 1) await device.store.get('nothing');
    }
  }
  log.end();
  const lines = await readAll(device, device.identity.peer, 't1', true);
  const numbers = lines.filter(({ stream }) => stream === 'stdout').map(({ text }) => Number(text.split(' ')[0]));
  assert.equal(numbers[0], 0);
  assert.equal(numbers.at(-1), count - 1);
  const marks = lines.filter(({ stream }) => stream === 'parley');
  assert.match(marks[0]?.text ?? '', /lines were cut here/);
  const told = marks.reduce((sum, { text }) => sum + Number(/(\d+) lines/.exec(text)?.[1]), 0);
  assert.equal(numbers.length + told, count);
  const stored = await device.store.range({ gte: 'log/', lt: 'log0' });
  const bytes = stored.reduce((sum, [, value]) => sum + value.byteLength, 0);
  assert.ok(bytes <= taskLogBytesMax, `${bytes}`);
  assert.ok(bytes > taskLogBytesMax / 2, `${bytes}`);
});

test('taskLog() drops lines that come faster than the disk takes them, and says so', async (t) => {
  const { device } = await startTwo(t);
  const log = device.journal.taskLog('t1');
  log.append(Array.from({ length: 3_000 }, (_, number) => line(`${number} ${'y'.repeat(600)}`)));
  log.append([line('after')]);
  log.end();
  const lines = await readAll(device, device.identity.peer, 't1', true);
  assert.match(lines.find(({ stream }) => stream === 'parley')?.text ?? '', /1\d\d\d lines came too fast/);
});

test('taskLog() joins the lines of a slow log to few parts', async (t) => {
  const { device } = await startTwo(t);
  const log = device.journal.taskLog('t1');
  for (let number = 0; number < 60; number += 1) {
    log.append([line(`line ${number}`)]);
    device.clock.advance(1_000);
    await turn();
    await device.store.get('nothing');
  }
  log.end();
  assert.equal((await readAll(device, device.identity.peer, 't1', true)).length, 60);
  assert.ok((await device.store.range({ gte: 'log/', lt: 'log0' })).length <= 2);
});

test('logs are still served after malformed requests', async (t) => {
  const seed = Number(process.env.PARLEY_SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`PARLEY_SEED=${seed}`);
  const random = seededRandom(seed);
  const { device, other } = await startTwo(t);
  const log = device.journal.taskLog('t1');
  log.append([line('whole')]);
  log.end();
  const peer = device.identity.peer;
  const request = encode({ version: 1, task: 't1', from: 0, follow: true });
  for (let round = 0; round < 300; round += 1) {
    const bytes = Uint8Array.from(request.subarray(0, Math.ceil(random() * request.byteLength)));
    bytes[Math.floor(random() * bytes.byteLength)] = Math.floor(random() * 256);
    const stream = await other.mesh.open(peer, logsProtocol, { signal: within() });
    await stream.send(bytes);
    try {
      while ((await stream.receive({ signal: within() })) !== undefined);
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'stream-closed', `seed ${seed}`);
    }
    await stream.close();
  }
  assert.deepEqual(
    (await readAll(other, peer, 't1', true)).map(({ text }) => text),
    ['whole'],
  );
});
