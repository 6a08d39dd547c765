import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newPeer, startTogether, within } from './fixtures.ts';

const text = (value: string) => new TextEncoder().encode(value);

test('open() carries whole messages both ways between members', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  b.mesh.handle('/parley/echo/1', async (stream) => {
    for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
      await stream.send(message);
    }
  });
  await startTogether([a, b]);
  const stream = await a.mesh.open(b.mesh.self, '/parley/echo/1', within());
  for (const message of [text('one'), new Uint8Array(0), new Uint8Array(1024 * 1024).fill(7)]) {
    await stream.send(message);
    assert.deepEqual(await stream.receive(within()), message);
  }
  await stream.close();
  assert.equal(await stream.receive(within()), undefined);
  await assert.rejects(stream.send(text('late')), { code: 'stream-closed', retryable: true });
  await assert.rejects(a.mesh.open(b.mesh.self, '/parley/other/1', within()), { code: 'protocol-unsupported' });
  const record = a.mesh.traffic().find(({ protocol }) => protocol === '/parley/echo/1');
  const bytes = 3 + 1024 * 1024;
  assert.deepEqual(record, { peer: b.mesh.self, protocol: '/parley/echo/1', bytesIn: bytes, bytesOut: bytes });
});

test('open() that nobody waits for any more fails without harm', async (t) => {
  const lonely = newPeer(t);
  const [gone, other] = [newPeer(t), newPeer(t)].map(({ mesh }) => mesh.self);
  await lonely.mesh.start();
  for (const peer of [gone, other]) {
    if (peer !== undefined) lonely.members.set(peer, ['/ip4/127.0.0.1/tcp/1']);
  }
  const unhandled: unknown[] = [];
  const onUnhandled = (error: unknown) => unhandled.push(error);
  process.on('unhandledRejection', onUnhandled);
  t.after(() => process.off('unhandledRejection', onUnhandled));
  const late = { signal: AbortSignal.abort(new Error('too late')) };
  await assert.rejects(lonely.mesh.open(gone ?? '', '/parley/echo/1', late), { code: 'peer-unreachable' });
  await assert.rejects(lonely.mesh.open(other ?? '', '/parley/echo/1', within()), { code: 'peer-unreachable' });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(unhandled, []);
});
