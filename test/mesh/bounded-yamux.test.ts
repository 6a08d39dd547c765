// What the multiplexer adds to a conversation, seen from the wire between two peers.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { Mesh } from '../../node/interfaces.ts';
import { newPeer, within } from './fixtures.ts';

const protocol = '/parley/listen/1';

/** Stands between those who dial and a peer's port; counts what the peer says. */
async function wireTo(t: TestContext, mesh: Mesh) {
  const port = Number(/\/tcp\/(\d+)/.exec(mesh.addresses()[0] ?? '')?.[1]);
  const said = { bytes: 0 };
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const end of [near, far]) end.setNoDelay(true).on('error', () => near.destroy());
    near.on('close', () => far.destroy());
    far.on('data', (chunk) => {
      said.bytes += chunk.byteLength;
    });
    near.pipe(far).pipe(near);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { said, address: `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}` };
}

test('boundedYamux() does not answer each frame with a window update', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  const heard: (() => void)[] = [];
  b.mesh.handle(protocol, async (stream) => {
    while ((await stream.receive()) !== undefined) heard.shift()?.();
    await stream.close();
  });
  b.members.set(a.mesh.self);
  await b.mesh.start();
  const { said, address } = await wireTo(t, b.mesh);
  a.members.set(b.mesh.self, [address]);
  await a.mesh.start();
  const stream = await a.mesh.open(b.mesh.self, protocol, within());
  const tell = async (bytes: number): Promise<void> => {
    const arrived = new Promise<void>((resolve) => heard.push(resolve));
    await stream.send(new Uint8Array(bytes));
    await arrived;
  };
  await tell(100);
  const before = said.bytes;
  for (let turn = 0; turn < 200; turn += 1) await tell(100);
  // 30 bytes each, were there one for each; liveness may have a word in between.
  assert.ok(said.bytes - before < 200 * 10, `${said.bytes - before} bytes in answer to 200 messages`);
  // Many windows: those that are saved up must leave in time.
  for (let turn = 0; turn < 40; turn += 1) await tell(100_000);
  await stream.close();
  assert.equal(await stream.receive(within()), undefined);
});
