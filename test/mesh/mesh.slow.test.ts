// What takes long or needs a network of its own: bulk with a slow reader, a process that is frozen, sockets that say
// nothing, discovery by multicast.

import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { identityFromSeed } from '../../node/mesh/index.ts';
import { connection, newPeer, within } from './fixtures.ts';
import { sendToSlowReader } from './slow-reader.ts';

for (const listen of ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws']) {
  test(`send() of 100 MiB waits for a slow reader over ${listen}`, (t) => sendToSlowReader(t, listen, 100));
}

test('createMesh() accepts 120 peers behind one address', async (t) => {
  const hub = newPeer(t);
  await hub.mesh.start();
  const others = Array.from({ length: 120 }, () => newPeer(t));
  for (const { mesh } of others) hub.members.set(mesh.self);
  const all = others.map(({ mesh }) => connection(hub.mesh, mesh.self, true));
  for (const { members } of others) members.set(hub.mesh.self, hub.mesh.addresses());
  await Promise.all(others.map(({ mesh }) => mesh.start()));
  await Promise.all(all);
  assert.equal(hub.mesh.connectedPeers().length, 120);
});

test('createMesh() notices a frozen process and takes it back when it goes on', async (t) => {
  const { mesh, members } = newPeer(t);
  await mesh.start();
  const seed = createHash('sha256').update(mesh.self).digest();
  const peer = identityFromSeed(seed).peer;
  members.set(peer);
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'one-peer.ts'), seed.toString('hex'), mesh.self, ...mesh.addresses()],
    { stdio: ['pipe', 'inherit', 'inherit'] },
  );
  t.after(() => child.kill('SIGKILL'));
  await connection(mesh, peer, true);
  child.kill('SIGSTOP');
  const frozenAtMs = performance.now();
  await connection(mesh, peer, false);
  const noticedMs = performance.now() - frozenAtMs;
  assert.ok(noticedMs < 25_000, `${noticedMs} ms`);
  child.kill('SIGCONT');
  await connection(mesh, peer, true);
  const killedAtMs = performance.now();
  child.kill('SIGKILL');
  await connection(mesh, peer, false);
  assert.ok(performance.now() - killedAtMs < 2_000, `${performance.now() - killedAtMs} ms`);
});

test('createMesh() drops a WebSocket connection that says nothing and keeps one that is in use', async (t) => {
  const target = newPeer(t, { listen: ['/ip4/127.0.0.1/tcp/0/ws'] });
  const member = newPeer(t, { listen: [] });
  target.mesh.handle('/parley/echo/1', async (stream) => {
    for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
      await stream.send(message);
    }
  });
  target.members.set(member.mesh.self);
  await Promise.all([target.mesh.start(), member.mesh.start()]);
  member.members.set(target.mesh.self, target.mesh.addresses());
  const stream = await member.mesh.open(target.mesh.self, '/parley/echo/1', within());
  const port = Number(/\/tcp\/(\d+)/.exec(target.mesh.addresses()[0] ?? '')?.[1]);
  const socket = connect(port, '127.0.0.1').resume();
  await once(socket, 'close', within(15_000));
  await stream.send(Uint8Array.of(4));
  assert.deepEqual(await stream.receive(within()), Uint8Array.of(4));
});

const ownNetwork = ['--user', '--map-root-user', '--net'];
const setUp = [
  'ip link set lo up',
  'ip link add site0 type veth peer name site1',
  'ip address add 10.99.0.1/24 dev site0',
  'ip link set site1 up',
  'ip link set site0 up multicast on',
  'ip route add 224.0.0.0/4 dev site0',
].join(' && ');
const networkable = spawnSync('unshare', [...ownNetwork, 'sh', '-ec', setUp]).status === 0;

test('createMesh() finds members by multicast on the local network', {
  skip: networkable ? false : 'needs a network namespace of its own with ip',
}, async () => {
  const child = join(import.meta.dirname, 'two-peers-by-multicast.ts');
  const { stdout } = await promisify(execFile)(
    'unshare',
    [...ownNetwork, 'sh', '-ec', `${setUp} && exec "$1" "$2"`, 'sh', process.execPath, child],
    { timeout: 60_000 },
  );
  assert.equal(stdout, 'found\n');
});
