// Owns the scenario of a sender that is faster than its reader.

import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { MessageStream } from '../../node/interfaces.ts';
import { streamCreditBytes } from '../../protocols/limits.ts';
import { newPeer, startTogether, within } from './fixtures.ts';

const mebibyte = 1024 * 1024;

/** Sends messages of 1 MiB and checks that the sender is never further ahead than its credit. */
export async function sendToSlowReader(t: TestContext, listen: string, total: number): Promise<void> {
  const [a, b] = [newPeer(t, { listen: [listen] }), newPeer(t, { listen: [listen] })];
  const served = Promise.withResolvers<MessageStream>();
  const done = Promise.withResolvers<void>();
  b.mesh.handle('/parley/bulk/1', async (stream) => {
    served.resolve(stream);
    await done.promise;
  });
  await startTogether([a, b]);
  const outbound = await a.mesh.open(b.mesh.self, '/parley/bulk/1', within());
  let sent = 0;
  const sending = (async () => {
    for (; sent < total; sent++) await outbound.send(new Uint8Array(mebibyte).fill(sent));
    await outbound.close();
  })();
  const inbound = await served.promise;
  let read = 0;
  let aheadMax = 0;
  for (let message = await inbound.receive(); message !== undefined; message = await inbound.receive()) {
    assert.equal(message.byteLength, mebibyte);
    assert.ok(message[0] === read && message.at(-1) === read);
    read += 1;
    aheadMax = Math.max(aheadMax, sent - read);
    if (read % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await sending;
  done.resolve();
  assert.equal(read, total);
  assert.ok(aheadMax * mebibyte <= streamCreditBytes, `${aheadMax} MiB ahead`);
}
