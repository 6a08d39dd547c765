import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { identityFromSeed } from '../../node/mesh/index.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { connection, newPeer, startTogether, within } from './fixtures.ts';

const echo = '/parley/echo/1';

test('createMesh() neither accepts nor dials a stranger', async (t) => {
  const [inside, stranger] = [newPeer(t), newPeer(t)];
  stranger.members.set(inside.mesh.self);
  let opened = 0;
  inside.mesh.handle(echo, async () => {
    opened += 1;
  });
  await Promise.all([inside.mesh.start(), stranger.mesh.start()]);
  stranger.members.set(inside.mesh.self, inside.mesh.addresses());
  const inbound = stranger.mesh.open(inside.mesh.self, echo, within());
  await assert.rejects(async () => (await inbound).receive(within()), { retryable: true });
  await assert.rejects(inside.mesh.open(stranger.mesh.self, echo, within()), { code: 'peer-unreachable' });
  assert.equal(opened, 0);
  assert.deepEqual(inside.mesh.connectedPeers(), []);
});

test('createMesh() refuses an address where another peer answers', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  await Promise.all([a.mesh.start(), b.mesh.start()]);
  const expected = identityFromSeed(randomBytes(32)).peer;
  a.members.set(
    expected,
    b.mesh.addresses().map((address) => address.replace(/\/p2p\/.*/, '')),
  );
  await assert.rejects(a.mesh.open(expected, echo, within()), { code: 'peer-unreachable' });
});

for (const listen of ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws']) {
  test(`createMesh() cuts a removed member off over ${listen}, after a moment`, async (t) => {
    const time = createManualClock();
    const [a, b] = [newPeer(t, { listen: [listen], clock: time }), newPeer(t, { listen: [listen] })];
    a.mesh.handle(echo, async (stream) => {
      for (let said = await stream.receive(); said !== undefined; said = await stream.receive())
        await stream.send(said);
    });
    await startTogether([a, b]);
    const stream = await b.mesh.open(a.mesh.self, echo, within());
    const said = new Uint8Array([5]);
    await stream.send(said);
    assert.deepEqual(await stream.receive(within()), said);
    const cutOff = connection(b.mesh, a.mesh.self, false);
    a.members.remove(b.mesh.self);
    assert.deepEqual(a.mesh.connectedPeers(), []);
    await stream.send(said);
    assert.deepEqual(await stream.receive(within()), said, 'it may still hear why');
    const more = await b.mesh.open(a.mesh.self, echo, within());
    await assert.rejects(async () => more.receive(within()), { code: 'stream-closed' });
    await assert.rejects(a.mesh.open(b.mesh.self, echo, within()), { code: 'peer-unreachable' });
    time.advance(5_000);
    await assert.rejects(stream.receive(within(1_000)), { code: 'stream-closed' });
    await cutOff;
    const again = b.mesh.open(a.mesh.self, echo, within());
    await assert.rejects(async () => (await again).receive(within()), { retryable: true });
  });
}

test('createMesh() connects to a peer that becomes a member later', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  await Promise.all([a.mesh.start(), b.mesh.start()]);
  b.members.set(a.mesh.self, a.mesh.addresses());
  a.members.set(b.mesh.self, b.mesh.addresses());
  await Promise.all([connection(a.mesh, b.mesh.self, true), connection(b.mesh, a.mesh.self, true)]);
});

test('createMesh() finds a restarted peer again on the same port', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  await startTogether([a, b]);
  const port = /\/tcp\/(\d+)/.exec(b.mesh.addresses()[0] ?? '')?.[1];
  const lost = connection(a.mesh, b.mesh.self, false);
  await b.mesh.stop();
  await lost;
  const startedAtMs = performance.now();
  const again = newPeer(t, { identity: b.identity, members: b.members, listen: [`/ip4/127.0.0.1/tcp/${port}`] });
  await again.mesh.start();
  await Promise.all([connection(a.mesh, b.mesh.self, true), connection(again.mesh, a.mesh.self, true)]);
  assert.ok(performance.now() - startedAtMs < 5_000, `${performance.now() - startedAtMs} ms`);
});

test('createMesh() learns the new address of a peer from the peer itself', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  await startTogether([a, b]);
  const lost = connection(a.mesh, b.mesh.self, false);
  await b.mesh.stop();
  await lost;
  const moved = newPeer(t, { identity: b.identity, members: b.members });
  await moved.mesh.start();
  await connection(a.mesh, b.mesh.self, true);
  assert.notDeepEqual(moved.mesh.addresses(), b.members.wanted().find(({ peer }) => peer === b.mesh.self)?.addresses);
});

test('start() names a port that is in use', async (t) => {
  const a = newPeer(t);
  await a.mesh.start();
  const [address = ''] = a.mesh.addresses();
  const b = newPeer(t, { listen: [address.replace(/\/p2p\/.*/, '')] });
  await assert.rejects(b.mesh.start(), { code: 'address-in-use' });
});

test('start() and stop() may be called twice and again', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  await a.mesh.stop();
  await startTogether([a, b]);
  await a.mesh.start();
  await a.mesh.stop();
  await a.mesh.stop();
  assert.deepEqual(a.mesh.connectedPeers(), []);
  await a.mesh.start();
  await connection(a.mesh, b.mesh.self, true);
});

test('createMesh() keeps one of two connections after a simultaneous dial', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  for (const { mesh } of [a, b]) mesh.handle(echo, async (stream) => void (await stream.receive()));
  await Promise.all([a.mesh.start(), b.mesh.start()]);
  a.members.set(b.mesh.self, b.mesh.addresses());
  b.members.set(a.mesh.self, a.mesh.addresses());
  await Promise.allSettled([a.mesh.open(b.mesh.self, echo, within()), b.mesh.open(a.mesh.self, echo, within())]);
  const counts = () => [a, b].map(({ mesh }) => mesh.connectedPeers()[0]?.addresses.length);
  while (counts().some((count) => count !== 1)) await turn();
  const stream = await a.mesh.open(b.mesh.self, echo, within());
  await stream.close();
  assert.equal(await stream.receive(within()), undefined);
});

test('createMesh() accepts 24 peers behind one address at once', async (t) => {
  const peers = Array.from({ length: 24 }, () => newPeer(t));
  const [hub, ...others] = peers;
  if (hub === undefined) throw new Error('no hub');
  await hub.mesh.start();
  for (const { mesh } of others) hub.members.set(mesh.self);
  const all = others.map(({ mesh }) => connection(hub.mesh, mesh.self, true));
  for (const { members } of others) members.set(hub.mesh.self, hub.mesh.addresses());
  await Promise.all(others.map(({ mesh }) => mesh.start()));
  await Promise.all(all);
  assert.equal(hub.mesh.connectedPeers().length, 23);
});
