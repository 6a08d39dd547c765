import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { multiaddr } from '@multiformats/multiaddr';
import type { Libp2p } from 'libp2p';
import { createHost } from '../../node/mesh/host.ts';
import { identityFromSeed } from '../../node/mesh/index.ts';
import { livenessProtocol } from '../../protocols/liveness.ts';
import { connection, manualClock, newPeer, within } from './fixtures.ts';

const gate = { admitsOutbound: () => true, admitsInbound: () => true };

async function bareHost(t: TestContext, privateKey: Uint8Array = randomBytes(32)): Promise<Libp2p> {
  const host = await createHost({ privateKey, listen: [], announce: [], gate });
  await host.start();
  t.after(() => host.stop());
  return host;
}

test('createMesh() lets few strangers in and not for long', async (t) => {
  const clock = manualClock();
  const { mesh, members } = newPeer(t, { clock });
  members.openJoins(true);
  await mesh.start();
  const address = multiaddr(mesh.addresses()[0]);
  const inside = await Promise.all(Array.from({ length: 8 }, async () => (await bareHost(t)).dial(address)));
  const ninth = await bareHost(t);
  await assert.rejects(async () => {
    const connected = await ninth.dial(address);
    if (connected.status === 'open') await once(connected, 'close', within());
    throw new Error('closed');
  });
  assert.deepEqual(mesh.connectedPeers(), []);
  const gone = inside.map((connected) => once(connected, 'close', within()));
  clock.advance(29_000);
  assert.ok(inside.every(({ status }) => status === 'open'));
  clock.advance(1_000);
  await Promise.all(gone);
  await (await bareHost(t)).dial(address);
});

/** The seed of a peer whose id is smaller (or larger) than the given one. */
function seedBeside(peer: string, smaller: boolean): Uint8Array {
  for (;;) {
    const seed = randomBytes(32);
    if (identityFromSeed(seed).peer < peer === smaller) return seed;
  }
}

for (const [name, smaller, silenceMs] of [
  ['does not answer', false, 6_000],
  ['never asks', true, 20_000],
] as const) {
  test(`createMesh() drops a frozen peer that ${name}`, async (t) => {
    const clock = manualClock();
    const { mesh, members } = newPeer(t, { clock });
    await mesh.start();
    const host = await bareHost(t, seedBeside(mesh.self, smaller));
    const peer = host.peerId.toString();
    const asked = Promise.withResolvers<void>();
    await host.handle(livenessProtocol, (stream) => {
      stream.addEventListener('message', () => asked.resolve());
    });
    members.set(peer);
    const connected = connection(mesh, peer, true);
    await host.dial(multiaddr(mesh.addresses()[0]));
    await connected;
    if (!smaller) await asked.promise;
    clock.advance(silenceMs - 1);
    assert.equal(mesh.connectedPeers().length, 1);
    const lost = connection(mesh, peer, false);
    clock.advance(1);
    await lost;
  });
}
