import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import type { Identity } from '../../node/mesh/index.ts';
import {
  createToken,
  identityFromSeed,
  inviteKeyOf,
  joinFleet,
  parseToken,
  serveJoins,
} from '../../node/mesh/index.ts';
import { encode, sha256Hex } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { inviteKeyHash, isJoinProven } from '../../protocols/invite-proof.ts';
import type { JoinToken } from '../../protocols/join.ts';
import { logger, newPeer, type TestPeer, within } from './fixtures.ts';

const genesis = encode({ kind: 'fleet-founded' });
const fleet = sha256Hex(genesis);
const builderKey = `web1:${Buffer.alloc(32).toString('base64')}`;
const newIdentity = () => identityFromSeed(randomBytes(32));
const voterKey = newIdentity().peer;

/** A member with an open invite that admits who proves to have the token; its own fleet may be another one than the token's. */
async function openFleet(
  t: TestContext,
  tokenFleet = fleet,
): Promise<{ host: TestPeer; token: string; admitted: string[] }> {
  const host = newPeer(t);
  const admitted: string[] = [];
  const keyHashes = new Set<string>();
  serveJoins({
    mesh: host.mesh,
    logger,
    async admit({ peer, proof, ...facts }) {
      const { addresses, system, ...keys } = facts;
      if (!keyHashes.has(inviteKeyHash(proof.key)) || !isJoinProven(tokenFleet, { peer, ...facts }, proof))
        throw new ParleyError('invite-unknown', 'no such invite', { hint: 'Ask.' });
      assert.deepEqual([addresses, system], [['/ip4/127.0.0.1/tcp/9'], 'x86_64-linux']);
      assert.deepEqual(keys, { builderKey, voterKey });
      admitted.push(peer);
      host.members.set(peer);
      const contacts = [{ peer: host.mesh.self, addresses: host.mesh.addresses(), raftId: 1 }];
      return { fleet, genesis, name: 'web1', site: 'home', roles: ['member'], raftId: 0, contacts };
    },
  });
  host.members.openJoins(true);
  await host.mesh.start();
  const token = createToken({ fleet: tokenFleet, addresses: host.mesh.addresses(), expiresAtMs: 1 });
  keyHashes.add(token.keyHash);
  return { host, token: token.text, admitted };
}

function join(token: JoinToken, identity: Identity) {
  const addresses = ['/ip4/127.0.0.1/tcp/9'];
  const signal = AbortSignal.timeout(8_000);
  return joinFleet({ token, identity, addresses, system: 'x86_64-linux', builderKey, voterKey, signal });
}

test('joinFleet() gets the grant, also a second time', async (t) => {
  const { host, token, admitted } = await openFleet(t);
  const identity = newIdentity();
  const grant = await join(parseToken(token), identity);
  assert.deepEqual([grant.name, grant.site, grant.roles, grant.fleet], ['web1', 'home', ['member'], fleet]);
  assert.deepEqual(grant.contacts, [{ peer: host.mesh.self, addresses: host.mesh.addresses(), raftId: 1 }]);
  host.members.openJoins(false);
  for (let round = 0; round < 3; round++) await join(parseToken(token), identity);
  assert.deepEqual(admitted, Array(4).fill(identity.peer));
});

test('joinFleet() fails when no invite is open', async (t) => {
  const { host, token, admitted } = await openFleet(t);
  host.members.openJoins(false);
  await assert.rejects(join(parseToken(token), newIdentity()), { code: 'invite-closed', hint: /UTC/ });
  assert.deepEqual(admitted, []);
});

test('joinFleet() passes the refusal of a forged secret on', async (t) => {
  const { token } = await openFleet(t);
  const forged = { ...parseToken(token), secret: new Uint8Array(randomBytes(32)) };
  await assert.rejects(join(forged, newIdentity()), {
    code: 'invite-unknown',
    message: 'no such invite',
    hint: 'Ask.',
  });
});

test('joinFleet() rejects a member of another fleet and another peer at the address', async (t) => {
  const { host, token } = await openFleet(t, sha256Hex('another'));
  await assert.rejects(join(parseToken(token), newIdentity()), { code: 'wrong-fleet', retryable: false });
  const addresses = host.mesh.addresses().map((address) => address.replace(/[^/]*$/, newIdentity().peer));
  await assert.rejects(join({ ...parseToken(token), addresses }, newIdentity()), { code: 'peer-unreachable' });
});

test('joinFleet() goes on to the next member when one is down', async (t) => {
  const { token } = await openFleet(t);
  const down = `/ip4/127.0.0.1/tcp/1/p2p/${newIdentity().peer}`;
  const parsed = parseToken(token);
  const grant = await join({ ...parsed, addresses: [down, ...parsed.addresses] }, newIdentity());
  assert.equal(grant.fleet, fleet);
});

test('a stranger may open nothing but the join protocol', async (t) => {
  const { host } = await openFleet(t);
  host.mesh.handle('/parley/echo/1', async (stream) => stream.send(new Uint8Array(1)));
  const stranger = newPeer(t);
  stranger.members.set(host.mesh.self, host.mesh.addresses());
  await stranger.mesh.start();
  const opened = stranger.mesh.open(host.mesh.self, '/parley/echo/1', within());
  await assert.rejects(async () => (await opened).receive(within()), { code: 'stream-closed' });
  assert.deepEqual(host.mesh.connectedPeers(), []);
});

test('parseToken() names what is wrong with a text', () => {
  const addresses = [`/ip4/192.0.2.1/tcp/4400/p2p/${newIdentity().peer}`];
  const { text, keyHash } = createToken({ fleet, addresses, expiresAtMs: 1_700_000_000_000 });
  const token = parseToken(text);
  assert.deepEqual([token.fleet, token.addresses, token.expiresAtMs], [fleet, addresses, 1_700_000_000_000]);
  assert.equal(inviteKeyOf(token.secret).keyHash, keyHash);
  assert.deepEqual(parseToken(` ${text.slice(0, 40)}\n  ${text.slice(40)}\n`), token);
  for (const other of ['', 'parley2:abc', 'ghp_abc', text.slice(1)]) {
    assert.throws(() => parseToken(other), { code: 'not-a-token' });
  }
  const swapped = text.slice(0, 60) + (text[60] === 'A' ? 'B' : 'A') + text.slice(61);
  for (const bad of [text.slice(0, -3), 'parley1:', swapped, `${text}!`, `parley1:${'A'.repeat(9000)}`]) {
    assert.throws(() => parseToken(bad), { code: 'token-damaged' });
  }
});
