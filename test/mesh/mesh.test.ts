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
