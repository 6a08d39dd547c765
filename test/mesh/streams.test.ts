import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { MessageStream } from '../../node/interfaces.ts';
import { newPeer, seededRandom, startTogether, within } from './fixtures.ts';
import { sendToSlowReader } from './slow-reader.ts';

const mebibyte = 1024 * 1024;

test('send() waits for a slow reader', (t) => sendToSlowReader(t, '/ip4/127.0.0.1/tcp/0', 16));

test('send() of many small messages keeps their order in both directions', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  b.mesh.handle('/parley/echo/1', async (stream) => {
    for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
      await stream.send(message);
    }
  });
  await startTogether([a, b]);
  const stream = await a.mesh.open(b.mesh.self, '/parley/echo/1', within());
  const count = 4_000;
  const sending = (async () => {
    for (let index = 0; index < count; index++) await stream.send(Uint8Array.of(index >> 16, index >> 8, index));
    await stream.close();
  })();
  let received = 0;
  for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
    const [high = 0, middle = 0, low = 0] = message;
    assert.equal((high << 16) | (middle << 8) | low, received);
    received += 1;
  }
  await sending;
  assert.equal(received, count);
});

test('send() of large messages lets the event loop go on between them', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  b.mesh.handle('/parley/sink/1', async (stream) => {
    while ((await stream.receive()) !== undefined);
  });
  await startTogether([a, b]);
  const stream = await a.mesh.open(b.mesh.self, '/parley/sink/1', within());
  for (let sent = 0; sent < 4; sent++) {
    let turned = false;
    setImmediate(() => {
      turned = true;
    });
    await stream.send(new Uint8Array(mebibyte / 4));
    assert.ok(turned, `message ${sent}`);
  }
  await stream.close();
});

test('close() of one end leaves a long answer in the other direction whole', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  b.mesh.handle('/parley/fetch/1', async (stream) => {
    while ((await stream.receive()) !== undefined);
    for (let index = 0; index < 12; index++) await stream.send(new Uint8Array(mebibyte).fill(index));
  });
  await startTogether([a, b]);
  const stream = await a.mesh.open(b.mesh.self, '/parley/fetch/1', within());
  await stream.send(new Uint8Array(1));
  await stream.close();
  let index = 0;
  for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
    assert.equal(message[77], index);
    index += 1;
  }
  assert.equal(index, 12);
});

test('receive() tells an answer that was cut from one that is complete', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  b.mesh.handle('/parley/cut/1', async (stream) => {
    await stream.send(new Uint8Array(3));
    await stream.receive();
    void b.mesh.stop();
    await stream.receive();
  });
  await startTogether([a, b]);
  const stream = await a.mesh.open(b.mesh.self, '/parley/cut/1', within());
  assert.equal((await stream.receive(within()))?.byteLength, 3);
  await stream.send(new Uint8Array(1));
  await assert.rejects(stream.receive(within()), { code: 'stream-closed', retryable: true });
});

test('receive() ends by its signal and the stream goes on', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  const events = new EventEmitter();
  b.mesh.handle('/parley/late/1', async (stream) => {
    await once(events, 'go');
    await stream.send(new Uint8Array(9));
  });
  await startTogether([a, b]);
  const stream = await a.mesh.open(b.mesh.self, '/parley/late/1', within());
  const controller = new AbortController();
  const waiting = stream.receive({ signal: controller.signal });
  controller.abort(new Error('enough'));
  await assert.rejects(waiting, { message: 'enough' });
  const next = stream.receive(within());
  events.emit('go');
  assert.equal((await next)?.byteLength, 9);
});

test('handle() resets the stream of a handler that throws and keeps serving', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  let calls = 0;
  b.mesh.handle('/parley/throw/1', async (stream) => {
    calls += 1;
    if (calls === 1) throw new Error('a bug');
    await stream.send(new Uint8Array(1));
  });
  await startTogether([a, b]);
  const first = await a.mesh.open(b.mesh.self, '/parley/throw/1', within());
  await assert.rejects(first.receive(within()), { code: 'stream-closed' });
  const second = await a.mesh.open(b.mesh.self, '/parley/throw/1', within());
  assert.equal((await second.receive(within()))?.byteLength, 1);
});

test('handle() resets streams over the limit of its protocol', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  const release = Promise.withResolvers<void>();
  b.mesh.handle(
    '/parley/few/1',
    async (stream) => {
      await stream.send(new Uint8Array(1));
      await release.promise;
    },
    { inboundStreamsMax: 2 },
  );
  await startTogether([a, b]);
  const open = () => a.mesh.open(b.mesh.self, '/parley/few/1', within());
  const streams = [await open(), await open()];
  for (const stream of streams) assert.equal((await stream.receive(within()))?.byteLength, 1);
  await assert.rejects(async () => (await open()).receive(within()), { retryable: true });
  release.resolve();
  for (const stream of streams) {
    assert.equal(await stream.receive(within()), undefined);
    await stream.close();
  }
});

test('handle() resets a stream whose message is over the limit of its protocol', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  b.mesh.handle('/parley/small/1', async (stream) => void (await stream.receive()), { messageBytesMax: 100 });
  await startTogether([a, b]);
  const stream = await a.mesh.open(b.mesh.self, '/parley/small/1', within());
  await assert.rejects(stream.send(new Uint8Array(2 * mebibyte)), { code: 'too-large' });
  await stream.send(new Uint8Array(101));
  await assert.rejects(stream.receive(within()), { code: 'stream-closed' });
});

test('streams carry random traffic in parallel without loss', async (t) => {
  const random = seededRandom('traffic');
  const [a, b] = [newPeer(t), newPeer(t)];
  b.mesh.handle('/parley/echo/1', async (stream) => {
    for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
      await stream.send(message);
    }
  });
  await startTogether([a, b]);
  const run = async () => {
    const messages = Array.from({ length: 60 }, () =>
      random.bytes(random.below(random.below(5) === 0 ? 100_000 : 1_000)),
    );
    const stream = await a.mesh.open(b.mesh.self, '/parley/echo/1', within());
    const sending = Promise.all(messages.map((message) => stream.send(message))).then(() => stream.close());
    const received: Uint8Array[] = [];
    for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
      received.push(message);
    }
    await sending;
    assert.ok(Buffer.concat(received).equals(Buffer.concat(messages)), random.seedText);
    assert.equal(received.length, messages.length, random.seedText);
  };
  await Promise.all(Array.from({ length: 8 }, run));
});

test('open() with fresh takes a connection of its own, which ends with the stream', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  b.mesh.handle('/parley/echo/1', async (stream) => {
    for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
      await stream.send(message);
    }
  });
  await startTogether([a, b]);
  const echo = async (stream: MessageStream) => {
    await stream.send(Uint8Array.of(1));
    assert.deepEqual(await stream.receive(within()), Uint8Array.of(1));
  };
  const connections = () => a.mesh.connectedPeers().flatMap(({ addresses }) => addresses).length;
  while (connections() !== 1) await turn();
  const old = await a.mesh.open(b.mesh.self, '/parley/echo/1', within());
  for (let round = 0; round < 5; round += 1) {
    const fresh = await a.mesh.open(b.mesh.self, '/parley/echo/1', { ...within(), fresh: true });
    assert.equal(connections(), 2);
    await echo(fresh);
    await fresh.close();
    while (connections() !== 1) await turn();
  }
  await echo(old);
  await old.close();
  const unsupported = a.mesh.open(b.mesh.self, '/parley/none/1', { ...within(), fresh: true });
  await assert.rejects(unsupported, { code: 'protocol-unsupported' });
  while (connections() !== 1) await turn();
});

test('open() with fresh rejects where a connection lives on but none can be made', async (t) => {
  const [a, b] = [newPeer(t, { listen: [] }), newPeer(t)];
  a.mesh.handle('/parley/echo/1', async () => {});
  await startTogether([a, b]);
  await (await b.mesh.open(a.mesh.self, '/parley/echo/1', within())).close();
  await assert.rejects(b.mesh.open(a.mesh.self, '/parley/echo/1', { ...within(), fresh: true }), {
    code: 'peer-unreachable',
  });
});
