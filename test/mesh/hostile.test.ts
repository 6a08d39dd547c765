// Peers that speak nonsense at every level: raw TCP, below the multiplexer, inside a stream. The mesh must neither crash nor
// grow, and what others do must go on.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { noise } from '@libp2p/noise';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { createHost, type Stream } from '../../node/mesh/host.ts';
import { identityFromSeed } from '../../node/mesh/index.ts';
import { livenessProtocol } from '../../protocols/liveness.ts';
import { newPeer, seededRandom, startTogether, type TestPeer, within } from './fixtures.ts';

const everybody = { admitsOutbound: () => true, admitsInbound: () => true };
const echo = '/parley/echo/1';

/** Two peers, an honest conversation between them, and a member's key for a hostile program. */
async function prepare(t: TestContext) {
  const random = seededRandom(t.name);
  const [a, b] = [newPeer(t), newPeer(t, { listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws'] })];
  b.mesh.handle(echo, async (stream) => {
    for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
      await stream.send(message);
    }
  });
  await startTogether([a, b]);
  const honest = await a.mesh.open(b.mesh.self, echo, within());
  const hostile = identityFromSeed(random.bytes(32));
  b.members.set(hostile.peer);
  const stillFine = async () => {
    await honest.send(Uint8Array.of(1, 2, 3));
    assert.deepEqual(await honest.receive(within()), Uint8Array.of(1, 2, 3), random.seedText);
  };
  return { random, target: b, hostile, stillFine };
}

const tcpAddress = ({ mesh }: TestPeer) =>
  multiaddr(mesh.addresses().find((address) => !address.includes('/ws')) ?? '');
const portOf = (address: string) => Number(/\/tcp\/(\d+)/.exec(address)?.[1]);

async function closed(stream: Stream): Promise<void> {
  if (stream.status === 'open') await once(stream, 'close', within());
}

test('the mesh survives random bytes on its ports', async (t) => {
  const { random, target, stillFine } = await prepare(t);
  for (let round = 0; round < 60; round++) {
    const address = target.mesh.addresses()[round % 2] ?? '';
    const socket = connect(portOf(address), '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    const greeting =
      round % 3 === 0 ? 'GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n' : '\u0013/multistream/1.0.0\n\u0007/noise\n';
    if (round % 4 !== 0) socket.write(greeting);
    socket.write(random.bytes(random.below(3_000)));
    if (round % 2 === 0) socket.end();
    else socket.destroy();
  }
  await stillFine();
});

test('the mesh survives nonsense below the multiplexer', async (t) => {
  const { random, target, hostile, stillFine } = await prepare(t);
  const frame = (type: number, flags: number, stream: number, length: number) => {
    const bytes = Buffer.alloc(12);
    bytes[1] = type;
    bytes.writeUInt16BE(flags, 2);
    bytes.writeUInt32BE(stream, 4);
    bytes.writeUInt32BE(length, 8);
    return bytes;
  };
  const pieces = [
    ...Array.from({ length: 30 }, () => random.bytes(1 + random.below(2_000))),
    frame(0, 1, 1, 0xffffffff),
    frame(1, 1, 2, 0),
    frame(9, 0, 1, 5),
    frame(2, 2, 0, 77),
    Buffer.concat(Array.from({ length: 3_000 }, (_, index) => frame(1, 1, 2 * index + 1, 0))),
  ];
  for (const piece of pieces) {
    const host = await createLibp2p({
      privateKey: await generateKeyPairFromSeed('Ed25519', hostile.privateKey),
      transports: [tcp()],
      connectionEncrypters: [noise()],
      connectionMonitor: { enabled: false },
      streamMuxers: [() => rawMuxer(piece)],
    });
    await host.dial(tcpAddress(target));
    await host.stop();
  }
  await stillFine();
});

/** A multiplexer that sends one piece of bytes and nothing else. */
function rawMuxer(piece: Uint8Array) {
  return {
    protocol: '/yamux/1.0.0',
    createStreamMuxer(connection: { send(bytes: Uint8Array): boolean }) {
      connection.send(piece);
      const muxer = Object.assign(new EventTarget(), {
        protocol: '/yamux/1.0.0',
        status: 'open',
        streams: [],
        createStream: () => Promise.reject(new Error('none')),
        close: () => Promise.resolve(),
        abort: () => {},
      });
      return muxer as never;
    },
  };
}

test('the mesh drops a connection that announces a frame beyond every window', async (t) => {
  const { target, hostile, stillFine } = await prepare(t);
  const header = Buffer.from('000000010000000140000000', 'hex');
  const host = await createLibp2p({
    privateKey: await generateKeyPairFromSeed('Ed25519', hostile.privateKey),
    transports: [tcp()],
    connectionEncrypters: [noise()],
    connectionMonitor: { enabled: false },
    streamMuxers: [() => rawMuxer(header)],
  });
  t.after(() => host.stop());
  const connection = await host.dial(tcpAddress(target));
  if (connection.status === 'open') await once(connection, 'close', within());
  await stillFine();
});

async function hostileHost(t: TestContext, privateKey: Uint8Array): Promise<Libp2p> {
  const host = await createHost({ privateKey, listen: [], announce: [], gate: everybody });
  await host.start();
  t.after(() => host.stop());
  return host;
}

test('the mesh resets streams with malformed frames and keeps the others', async (t) => {
  const { random, target, hostile, stillFine } = await prepare(t);
  const host = await hostileHost(t, hostile.privateKey);
  for (let round = 0; round < 60; round++) {
    const connection = await host.dial(tcpAddress(target));
    const protocol = round % 3 === 0 ? livenessProtocol : echo;
    try {
      const stream = await connection.newStream([protocol], { maxOutboundStreams: 100, ...within() });
      stream.send(random.bytes(1 + random.below(5_000)));
      if (round % 2 === 0) await stream.close(within());
      else stream.abort(new Error('cut'));
    } catch (error) {
      // The mesh may reset the stream, or drop the connection after nonsense about liveness, while we are still writing.
      assert.match(String(error), /reset|closed|clos|negotiation/i, random.seedText);
    }
  }
  await stillFine();
});

for (const [name, frames] of [
  ['an oversized message', '7fffffff'],
  ['credit from nowhere', '80000001'],
  ['a message after the end', 'ffffffff00000000'],
] as const) {
  test(`the mesh resets a stream with ${name}`, async (t) => {
    const { target, hostile, stillFine } = await prepare(t);
    const host = await hostileHost(t, hostile.privateKey);
    const connection = await host.dial(tcpAddress(target));
    const stream = await connection.newStream([echo], within());
    stream.send(Buffer.from(frames, 'hex'));
    await closed(stream);
    assert.equal(stream.status, 'reset');
    await stillFine();
  });
}

test('the mesh resets a stream that sends beyond its credit', async (t) => {
  const { target, hostile, stillFine } = await prepare(t);
  const release = Promise.withResolvers<void>();
  t.after(() => release.resolve());
  target.mesh.handle('/parley/lazy/1', () => release.promise);
  const host = await hostileHost(t, hostile.privateKey);
  const connection = await host.dial(tcpAddress(target));
  const stream = await connection.newStream(['/parley/lazy/1'], within());
  const message = Buffer.alloc(4 + 1024 * 1024);
  message.writeUInt32BE(1024 * 1024);
  for (let count = 0; count < 3; count++) stream.send(message);
  await closed(stream);
  assert.equal(stream.status, 'reset');
  await stillFine();
});

/** A TCP connection that a stranger has turned into a WebSocket of the target. */
async function rawWebSocket(t: TestContext, target: TestPeer): Promise<Socket> {
  const port = portOf(target.mesh.addresses().find((address) => address.includes('/ws')) ?? '');
  const socket = connect(port, '127.0.0.1');
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  socket.write(
    'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  await once(socket, 'data', within());
  return socket.resume();
}

test('the mesh refuses a huge WebSocket message at its header, before it knows the peer', async (t) => {
  const { target, stillFine } = await prepare(t);
  const socket = await rawWebSocket(t, target);
  // A binary message of 2 MiB, masked, of which only the header is sent; refused sooner than the handshake times out.
  socket.write(Buffer.from('82ff000000000020000000000000', 'hex'));
  await once(socket, 'close', within(3_000));
  await stillFine();
});

test('the mesh survives malformed WebSocket frames of a stranger', async (t) => {
  const { random, target, stillFine } = await prepare(t);
  for (let round = 0; round < 40; round++) {
    const socket = await rawWebSocket(t, target);
    socket.end(random.bytes(1 + random.below(500)));
    await once(socket, 'close', within());
  }
  await stillFine();
});
