import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { connectControl } from '../../node/control/client.ts';
import { createFrameSplitter, encodeFrame } from '../../node/control/frames.ts';
import { type ControlSocketInit, createControlSocket } from '../../node/control/socket.ts';
import { systemClock } from '../../node/host/index.ts';
import { check, decode, encode } from '../../protocols/codec.ts';
import {
  type CommandEvent,
  type CommandRequest,
  commandBytesMax,
  commandEventSchema,
} from '../../protocols/control.ts';
import type { ParleyError } from '../../protocols/errors.ts';
import { seededRandom, silentLogger } from './helpers.ts';

const request: CommandRequest = { version: 1, id: 'command-0001', command: { name: 'status' }, follow: true };
const end: CommandEvent = {
  kind: 'end',
  outcome: 'succeeded',
  task: null,
  waitsFor: null,
  text: 'done',
  revision: null,
};

type Run = (request: CommandRequest, signal: AbortSignal) => AsyncIterable<CommandEvent>;

const answersEnd: Run = async function* () {
  yield end;
};

async function startSocket(t: TestContext, run: Run, init: Partial<ControlSocketInit> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'parley-control-'));
  const path = join(folder, 'control.sock');
  const socket = createControlSocket({ path, ...init })({ logger: silentLogger, clock: systemClock, run });
  await socket.start();
  t.after(async () => {
    await socket.stop();
    await rm(folder, { recursive: true, force: true });
  });
  return { path, folder, socket };
}

async function collect(events: AsyncIterable<CommandEvent>): Promise<CommandEvent[]> {
  const all: CommandEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/** Everything that the server answers on a raw connection until it closes it. */
async function answersOf(socket: Socket): Promise<CommandEvent[]> {
  const splitter = createFrameSplitter(1024 * 1024, 'event');
  const events: CommandEvent[] = [];
  socket.on('data', (chunk) => {
    for (const body of splitter.push(chunk)) events.push(decode(commandEventSchema, body, 1024 * 1024));
  });
  socket.on('error', () => undefined);
  await once(socket, 'close');
  return events;
}

test('createControlSocket() answers a command and keeps the socket to its owner', async (t) => {
  const { path } = await startSocket(t, async function* (received) {
    assert.deepEqual(received, request);
    yield { kind: 'progress', text: 'looking' };
    yield end;
  });
  const events = await collect(connectControl(path).runCommand(request, { signal: t.signal }));
  assert.deepEqual(
    events.map((event) => event.kind),
    ['progress', 'end'],
  );
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test('createControlSocket() answers several commands on one connection in order', async (t) => {
  const { path } = await startSocket(t, async function* (received) {
    yield { ...end, text: received.id };
  });
  const socket = connect(path);
  const frames = ['command-0001', 'command-0002', 'command-0003'].map((id) => encodeFrame(encode({ ...request, id })));
  socket.write(Buffer.concat(frames));
  const splitter = createFrameSplitter(1024 * 1024, 'event');
  const texts: string[] = [];
  for await (const chunk of socket) {
    for (const body of splitter.push(chunk)) {
      const event = decode(commandEventSchema, body, 1024 * 1024);
      if (event.kind === 'end') texts.push(event.text);
    }
    if (texts.length === 3) break;
  }
  assert.deepEqual(texts, ['command-0001', 'command-0002', 'command-0003']);
});

test('createControlSocket() turns an error of a command into its last event and lives on', async (t) => {
  let calls = 0;
  const { path } = await startSocket(t, () => {
    calls += 1;
    if (calls === 1) throw new Error('a bug');
    return answersEnd(request, t.signal);
  });
  const first = await collect(connectControl(path).runCommand(request, { signal: t.signal }));
  assert.deepEqual(first, [{ kind: 'error', error: { code: 'internal', message: 'a bug', retryable: false } }]);
  assert.deepEqual(await collect(connectControl(path).runCommand(request, { signal: t.signal })), [end]);
});

test('createControlSocket() replaces the socket of a dead peer', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'parley-control-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'control.sock');
  const { execFile } = await import('node:child_process');
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await once(execFile(process.execPath, ['-e', script]), 'exit');
  assert.ok((await stat(path)).isSocket());
  const socket = createControlSocket({ path })({ logger: silentLogger, clock: systemClock, run: answersEnd });
  await socket.start();
  assert.deepEqual(await collect(connectControl(path).runCommand(request, { signal: t.signal })), [end]);
  await socket.stop();
});

test('createControlSocket() refuses to start where a peer answers, where a file lies, and where the path is too long', async (t) => {
  const { path, folder } = await startSocket(t, answersEnd);
  const components = { logger: silentLogger, clock: systemClock, run: answersEnd };
  await assert.rejects(createControlSocket({ path })(components).start(), { code: 'socket-in-use' });
  await writeFile(join(folder, 'file'), 'x');
  const blocked = createControlSocket({ path: join(folder, 'file') })(components);
  await assert.rejects(blocked.start(), { code: 'socket-blocked' });
  const long = join(folder, 'x'.repeat(120));
  await assert.rejects(createControlSocket({ path: long })(components).start(), { code: 'socket-path-too-long' });
});

test('createControlSocket() ends the command that runs when its client leaves', async (t) => {
  const ended = Promise.withResolvers<void>();
  const { path } = await startSocket(t, async function* (_request, signal) {
    yield { kind: 'progress', text: 'waiting' };
    await once(signal, 'abort');
    ended.resolve();
  });
  for await (const event of connectControl(path).runCommand(request, { signal: t.signal })) {
    assert.equal(event.kind, 'progress');
    break;
  }
  await ended.promise;
});

test('createControlSocket() waits for a reader that is slow', async (t) => {
  let sent = 0;
  const stopped = Promise.withResolvers<void>();
  const { path } = await startSocket(t, async function* (_request, signal) {
    signal.addEventListener('abort', () => stopped.resolve());
    for (; sent < 10_000; sent += 1) yield { kind: 'progress', text: 'x'.repeat(2_000) };
  });
  const socket = connect(path);
  socket.pause();
  socket.write(encodeFrame(encode(request)));
  await once(socket, 'connect');
  let before = -1;
  while (before !== sent || sent === 0) {
    before = sent;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.ok(sent < 5_000, `${sent} events were produced for a reader that read none`);
  socket.destroy();
  await stopped.promise;
});

test('createControlSocket() refuses more clients than it serves', async (t) => {
  const { path } = await startSocket(
    t,
    async function* (_request, signal) {
      yield { kind: 'progress', text: 'here' };
      await once(signal, 'abort');
    },
    { clientsMax: 1 },
  );
  const first = connectControl(path).runCommand(request, { signal: t.signal })[Symbol.asyncIterator]();
  await first.next();
  const [refusal] = await collect(connectControl(path).runCommand(request, { signal: t.signal }));
  assert.ok(refusal?.kind === 'error');
  assert.equal(refusal.error.code, 'too-many-clients');
  await first.return?.();
});

test('createControlSocket() lets a silent client go', async (t) => {
  const { path } = await startSocket(t, answersEnd, { idleMs: 20 });
  const [refusal] = await answersOf(connect(path));
  assert.ok(refusal?.kind === 'error');
  assert.equal(refusal.error.code, 'timed-out');
});

test('createControlSocket() refuses what is no command and closes', async (t) => {
  const { path } = await startSocket(t, answersEnd);
  const oversized = Buffer.alloc(4);
  oversized.writeUInt32BE(commandBytesMax + 1);
  const cases: [string, Uint8Array, string][] = [
    ['an oversized frame', oversized, 'too-large'],
    ['an empty frame', Buffer.alloc(4), 'malformed'],
    ['bytes that are no CBOR', encodeFrame(Buffer.from('GET / HTTP/1.1')), 'malformed'],
    ['another version', encodeFrame(encode({ ...request, version: 2 })), 'malformed'],
    ['an unknown command', encodeFrame(encode({ ...request, command: { name: 'rm' } })), 'malformed'],
  ];
  for (const [what, bytes, code] of cases) {
    const socket = connect(path);
    socket.write(bytes);
    const [refusal, ...more] = await answersOf(socket);
    assert.ok(refusal?.kind === 'error', what);
    assert.equal(refusal.error.code, code, what);
    assert.deepEqual(more, [], what);
  }
});

test('createControlSocket() survives random, truncated and mutated input', async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const random = seededRandom(seed);
  const { path } = await startSocket(t, answersEnd);
  const whole = encodeFrame(encode(request));
  for (let round = 0; round < 200; round += 1) {
    const bytes = Buffer.from(random() < 0.5 ? whole : randomBytes(random));
    for (let change = 0; change < 3; change += 1)
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    const socket = connect(path);
    socket.on('error', () => undefined);
    socket.resume();
    socket.end(bytes.subarray(0, Math.floor(random() * (bytes.length + 1))));
    await once(socket, 'close');
  }
  assert.deepEqual(await collect(connectControl(path).runCommand(request, { signal: t.signal })), [end]);
});

function randomBytes(random: () => number): Uint8Array {
  return Uint8Array.from({ length: 1 + Math.floor(random() * 300) }, () => Math.floor(random() * 256));
}

test('connectControl() says that no peer is running, and what to do', async (t) => {
  const missing = join(tmpdir(), 'parley-no-such-folder', 'control.sock');
  await assert.rejects(
    collect(connectControl(missing).runCommand(request, { signal: t.signal })),
    (error: ParleyError) => {
      assert.equal(error.code, 'no-peer-here');
      assert.match(error.hint ?? '', /parley run/);
      return true;
    },
  );
});

test('connectControl() says that the socket is another user’s', { skip: process.getuid?.() === 0 }, async (t) => {
  const { path } = await startSocket(t, answersEnd);
  await chmod(path, 0);
  await assert.rejects(collect(connectControl(path).runCommand(request, { signal: t.signal })), {
    code: 'permission-denied',
  });
});

test('connectControl() reports a peer that dies before the last event', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'parley-control-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'control.sock');
  const server = createServer((socket) => {
    socket.write(encodeFrame(encode({ kind: 'progress', text: 'almost' })));
    socket.once('data', () => socket.destroy());
  });
  server.listen(path);
  await once(server, 'listening');
  t.after(() => server.close());
  await assert.rejects(collect(connectControl(path).runCommand(request, { signal: t.signal })), {
    code: 'connection-lost',
    retryable: true,
  });
});

test('connectControl() stops when its signal is aborted', async (t) => {
  const { path } = await startSocket(t, async function* (_request, signal) {
    yield { kind: 'progress', text: 'waiting' };
    await once(signal, 'abort');
  });
  const stop = new AbortController();
  const events = connectControl(path).runCommand(request, { signal: stop.signal })[Symbol.asyncIterator]();
  await events.next();
  stop.abort();
  await assert.rejects(events.next(), { code: 'cancelled' });
});

test('createFrameSplitter() finds the same frames however the bytes are cut', () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const random = seededRandom(seed);
  const bodies = Array.from({ length: 40 }, () => randomBytes(random));
  const stream = Buffer.concat(bodies.map(encodeFrame));
  const splitter = createFrameSplitter(1_000, 'frame');
  const found: Uint8Array[] = [];
  for (let at = 0; at < stream.length; ) {
    const next = Math.min(stream.length, at + Math.floor(random() * 97));
    found.push(...splitter.push(stream.subarray(at, next)));
    at = next;
  }
  assert.deepEqual(
    found.map((body) => Buffer.from(body).toString('hex')),
    bodies.map((body) => Buffer.from(body).toString('hex')),
    `seed ${seed}`,
  );
  assert.equal(splitter.partial(), false);
  assert.doesNotThrow(() => check(commandEventSchema, end));
});
