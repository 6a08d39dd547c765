import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import type { Mesh, MessageStream } from '../../node/interfaces.ts';
import { createMesh, identityFromSeed, joinFleet, parseToken } from '../../node/mesh/index.ts';
import { encode } from '../../protocols/codec.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import { livenessProtocol } from '../../protocols/liveness.ts';
import { ask } from '../../scripts/lib/demo-fleet.ts';
import { seededRandom } from '../helpers/random.ts';
import { clock, connection, logger, TestMembers } from '../mesh/fixtures.ts';
import { protocolIds, sampleRequests } from './requests.ts';
import { startPeer, type TestedPeer } from './tested-peer.ts';

const messagesPerProtocol = 50;
/** Nonsense about liveness may cost the connection, and the next one is let in later each time. */
const livenessMessages = 2;
/** Streams of one protocol that the hostile member leaves open: more than any handler admits. */
const streamsLeftOpen = 40;
/** What a peer may grow by while it is told nonsense: its heap moves by tens of MiB between collections. */
const growthMiBMax = 120;

/** A member of the peer's fleet by the real way in, whose mesh says whatever the test wants. */
async function joinAsMember(t: TestContext, peer: TestedPeer): Promise<Mesh> {
  const signal = AbortSignal.timeout(30_000);
  const invite = { name: 'invite', peer: 'evil', site: 'home', roles: ['member'], expiresInMs: 60_000 } as const;
  const { token } = (await ask([peer.socket], { ...invite, roles: [...invite.roles] }, signal)) as { token: string };
  const identity = identityFromSeed(randomBytes(32));
  const builderKey = `evil-1:${Buffer.alloc(32).toString('base64')}`;
  const voterKey = identityFromSeed(randomBytes(32)).peer;
  const facts = { identity, addresses: [], system: 'x86_64-linux', builderKey, voterKey };
  const grant = await joinFleet({ ...facts, token: parseToken(token), signal });
  const members = new TestMembers();
  for (const contact of grant.contacts) members.set(contact.peer, [...contact.addresses]);
  const init = { privateKey: identity.privateKey, listen: ['/ip4/127.0.0.1/tcp/0'], discovery: 'none' } as const;
  const mesh = createMesh(init)({ clock, logger, random: randomBytes, members });
  t.after(() => mesh.stop());
  await mesh.start();
  await connection(mesh, peer.peer, true);
  return mesh;
}

/** Opens a stream, after the peer has taken us back if it hung up: it does on who breaks the rules of the mesh itself. */
async function open(mesh: Mesh, peer: string, protocol: string): Promise<MessageStream> {
  const signal = AbortSignal.timeout(30_000);
  for (;;) {
    await connection(mesh, peer, true);
    try {
      return await mesh.open(peer, protocol, { signal });
    } catch (error) {
      if ((error as { code?: string }).code !== 'peer-unreachable' || signal.aborted) throw error;
      await wait(50);
    }
  }
}

/** Sends one message and our end, and waits until the peer has answered, ended or reset: it may not keep the stream. */
async function tell(mesh: Mesh, peer: string, protocol: string, message: Uint8Array): Promise<void> {
  const signal = AbortSignal.timeout(20_000);
  const stream = await open(mesh, peer, protocol);
  try {
    await stream.send(message);
    await stream.close();
    while ((await stream.receive({ signal })) !== undefined);
  } catch (error) {
    // Our own mesh sends nothing beyond its limit of liveness.
    const isOver = ['stream-closed', 'too-large'].includes((error as { code?: string }).code ?? '');
    assert.ok(isOver, `${protocol} keeps a stream that has ended: ${error}`);
  } finally {
    stream.abort(new Error('told'));
  }
}

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024;
}

test('a peer survives whatever a member says on any of its protocols, and does not grow', {
  skip: process.platform !== 'linux',
}, async (t) => {
  const seed = Number(process.env.PARLEY_SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`PARLEY_SEED=${seed}`);
  const random = seededRandom(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const peer = await startPeer(t);
  const mesh = await joinAsMember(t, peer);
  const ids = await protocolIds();
  assert.deepEqual(Object.keys(sampleRequests).toSorted(), ids, 'each protocol has samples here');

  async function bombard(protocol: string): Promise<void> {
    const count = protocol === livenessProtocol ? livenessMessages : messagesPerProtocol;
    for (let told = 0; told < count; told += 1) await tell(mesh, peer.peer, protocol, mutated(protocol));
  }
  function mutated(protocol: string): Uint8Array {
    const samples = sampleRequests[protocol] ?? [];
    const sample = { ...samples[below(samples.length)] };
    const keys = Object.keys(sample);
    const values = [null, -1, 2 ** 40, '', 'x'.repeat(5_000), [], {}, new Uint8Array(300), true, [[[[]]]]];
    switch (below(5)) {
      case 0:
        return Uint8Array.from({ length: below(200) }, () => below(256));
      case 1:
        return encode(sample).subarray(0, below(encode(sample).byteLength));
      case 2:
        return encode({ ...sample, [keys[below(keys.length)] ?? '']: values[below(values.length)] });
      case 3: {
        const bytes = encode(sample);
        bytes[below(bytes.byteLength)] = below(256);
        return bytes;
      }
      default:
        return encode(sample);
    }
  }

  for (const protocol of ids) await bombard(protocol);
  const beforeMiB = await residentMiB(peer.pid());
  const leftOpen: MessageStream[] = [];
  for (const protocol of ids) {
    await bombard(protocol);
    await tell(mesh, peer.peer, protocol, new Uint8Array(messageBytesMax));
    const opening = Array.from({ length: streamsLeftOpen }, () => mesh.open(peer.peer, protocol, { signal: t.signal }));
    for (const opened of await Promise.allSettled(opening))
      if (opened.status === 'fulfilled') leftOpen.push(opened.value);
    await peer.answers(`after ${protocol}`);
  }
  const grownMiB = (await residentMiB(peer.pid())) - beforeMiB;
  t.diagnostic(`${beforeMiB.toFixed(0)} MiB before, grown by ${grownMiB.toFixed(0)} MiB`);
  assert.ok(grownMiB < growthMiBMax, `grown by ${grownMiB} MiB`);
  for (const stream of leftOpen) stream.abort(new Error('over'));
});
