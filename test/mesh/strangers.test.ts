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

for (const smaller of [true, false]) {
  test(`createMesh() lets a removed peer in to hear of it, and no more, with a ${smaller ? 'smaller' : 'larger'} id`, async (t) => {
    const clock = manualClock();
    const host = newPeer(t, { clock });
    await host.mesh.start();
    host.mesh.handle('/parley/told/1', async (stream) => stream.send(new Uint8Array([7])), { admits: 'removed' });
    host.mesh.handle('/parley/closed/1', async (stream) => stream.send(new Uint8Array([8])));
    const identity = identityFromSeed(seedBeside(host.mesh.self, smaller));
    const away = newPeer(t, { identity, listen: [] });
    away.members.set(host.mesh.self, host.mesh.addresses());
    host.members.set(away.mesh.self);
    host.members.remove(away.mesh.self);
    await away.mesh.start();
    await connection(away.mesh, host.mesh.self, true);
    const hear = async (protocol: string) => {
      const stream = await away.mesh.open(host.mesh.self, protocol, within());
      return await stream.receive(within());
    };
    assert.deepEqual(await hear('/parley/told/1'), new Uint8Array([7]));
    await assert.rejects(hear('/parley/closed/1'), { code: 'stream-closed' });
    assert.deepEqual(await hear('/parley/told/1'), new Uint8Array([7]), 'it is still there');
    assert.deepEqual(host.mesh.connectedPeers(), []);
    for (let visit = 1; visit <= 3; visit += 1) {
      await hear('/parley/told/1');
      const cut = connection(away.mesh, host.mesh.self, false);
      clock.advance(15_000);
      await cut;
    }
    await assert.rejects(hear('/parley/told/1'), { code: 'peer-unreachable' });
    await away.mesh.stop();
    clock.advance(600_000);
    const again = newPeer(t, { identity, listen: [], members: away.members });
    await again.mesh.start();
    await connection(again.mesh, host.mesh.self, true);
  });
}

test('createMesh() lets few removed peers in at once', async (t) => {
  const { mesh, members } = newPeer(t, { clock: manualClock() });
  await mesh.start();
  const address = multiaddr(mesh.addresses()[0]);
  // With smaller ids than the mesh's they are not asked for a sign of life.
  const hosts = await Promise.all(Array.from({ length: 5 }, () => bareHost(t, seedBeside(mesh.self, true))));
  for (const { peerId } of hosts) {
    members.set(peerId.toString());
    members.remove(peerId.toString());
  }
  const refused = await Promise.all(hosts.map((host) => isRefused(host, address)));
  assert.equal(refused.filter(Boolean).length, 1);
});

for (const smaller of [true, false]) {
  test(`createMesh() asks a stranger that dials it, for a moment, and serves it nothing, with a ${smaller ? 'smaller' : 'larger'} id`, async (t) => {
    const clock = manualClock();
    const lost = newPeer(t, { clock });
    lost.mesh.handle('/parley/closed/1', async (stream) => stream.send(new Uint8Array([8])));
    lost.mesh.handle('/parley/told/1', async (stream) => stream.send(new Uint8Array([8])), { admits: 'removed' });
    await lost.mesh.start();
    const identity = identityFromSeed(seedBeside(lost.mesh.self, smaller));
    const stranger = newPeer(t, { identity, listen: [] });
    stranger.mesh.handle('/parley/ledger/1', async (stream) => stream.send(new Uint8Array([7])));
    stranger.members.set(lost.mesh.self, lost.mesh.addresses());
    const { promise: met, resolve: onStranger } = Promise.withResolvers<string>();
    lost.members.onStranger = onStranger;
    await stranger.mesh.start();
    assert.equal(await met, stranger.mesh.self);
    await connection(stranger.mesh, lost.mesh.self, true);
    const asking = await lost.mesh.open(stranger.mesh.self, '/parley/ledger/1', within());
    assert.deepEqual(await asking.receive(within()), new Uint8Array([7]));
    for (const protocol of ['/parley/closed/1', '/parley/told/1']) {
      const stream = await stranger.mesh.open(lost.mesh.self, protocol, within());
      await assert.rejects(stream.receive(within()), { code: 'stream-closed' });
    }
    assert.deepEqual(lost.mesh.connectedPeers(), []);
    const cut = connection(stranger.mesh, lost.mesh.self, false);
    clock.advance(15_000);
    await cut;
    // It turns out to be a member: it comes back as one.
    await connection(stranger.mesh, lost.mesh.self, true);
    lost.members.set(stranger.mesh.self);
    lost.members.onStranger = undefined;
    await connection(lost.mesh, stranger.mesh.self, true);
  });
}

test('createMesh() lets few strangers in to be asked', async (t) => {
  const { mesh, members } = newPeer(t, { clock: manualClock() });
  members.onStranger = () => undefined;
  await mesh.start();
  const address = multiaddr(mesh.addresses()[0]);
  // With smaller ids than the mesh's they are not asked for a sign of life.
  const hosts = await Promise.all(Array.from({ length: 5 }, () => bareHost(t, seedBeside(mesh.self, true))));
  const refused = await Promise.all(hosts.map((host) => isRefused(host, address)));
  assert.equal(refused.filter(Boolean).length, 1);
});

test('createMesh() does not keep a removed peer that runs no mesh', async (t) => {
  const { mesh, members } = newPeer(t, { clock: manualClock() });
  await mesh.start();
  const host = await bareHost(t, seedBeside(mesh.self, false));
  members.set(host.peerId.toString());
  members.remove(host.peerId.toString());
  const connected = await host.dial(multiaddr(mesh.addresses()[0]));
  if (connected.status === 'open') await once(connected, 'close', within());
});

async function isRefused(host: Libp2p, address: ReturnType<typeof multiaddr>): Promise<boolean> {
  const connected = await host.dial(address).catch(() => undefined);
  if (connected?.status === 'open') await once(connected, 'close', within(2_000)).catch(() => undefined);
  return connected?.status !== 'open';
}

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
