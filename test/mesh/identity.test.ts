import assert from 'node:assert/strict';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import {
  createIdentity,
  identityFromSeed,
  loadIdentity,
  peerIdOfPublicKey,
  publicKeyOfPeerId,
  verifySignature,
} from '../../node/mesh/index.ts';
import { ParleyError } from '../../protocols/errors.ts';

async function temporaryFolder(t: { after(call: () => Promise<void>): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-identity-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test('createIdentity() writes a key that loadIdentity() reads back', async (t) => {
  const folder = await temporaryFolder(t);
  const file = join(folder, 'new', 'identity.pem');
  const created = await createIdentity(file);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(join(folder, 'new')), ['identity.pem']);
  const loaded = await loadIdentity(file);
  assert.equal(loaded.peer, created.peer);
  assert.deepEqual(loaded.privateKey, created.privateKey);
  const text = await readFile(file, 'utf8');
  await assert.rejects(createIdentity(file), { code: 'identity-exists' });
  assert.equal(await readFile(file, 'utf8'), text);
});

test('loadIdentity() refuses a key that is missing, exposed or damaged', async (t) => {
  const file = join(await temporaryFolder(t), 'identity.pem');
  await assert.rejects(loadIdentity(file), { code: 'identity-missing' });
  await createIdentity(file);
  await chmod(file, 0o640);
  await assert.rejects(loadIdentity(file), (error) => {
    assert.ok(error instanceof ParleyError);
    assert.equal(error.code, 'identity-exposed');
    assert.match(error.message, /0640/);
    assert.match(String(error.hint), /chmod 600/);
    return true;
  });
  await writeFile(file, 'no key');
  await chmod(file, 0o600);
  await assert.rejects(loadIdentity(file), { code: 'identity-unusable' });
});

test('identityFromSeed() has the peer id that libp2p derives', async () => {
  for (let round = 0; round < 20; round++) {
    const seed = new Uint8Array(32).fill(round);
    const identity = identityFromSeed(seed);
    assert.equal(identity.peer, peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', seed)).toString());
    assert.deepEqual(identity.privateKey, seed);
    assert.equal(peerIdOfPublicKey(publicKeyOfPeerId(identity.peer)), identity.peer);
  }
});

test('verifySignature() accepts only the signer, the bytes and the signature', () => {
  const [one, two] = [identityFromSeed(new Uint8Array(32).fill(1)), identityFromSeed(new Uint8Array(32).fill(2))];
  const bytes = new TextEncoder().encode('entry');
  const signature = one.sign(bytes);
  assert.equal(signature.byteLength, 64);
  assert.equal(verifySignature(one.peer, bytes, signature), true);
  assert.equal(verifySignature(two.peer, bytes, signature), false);
  assert.equal(verifySignature(one.peer, bytes.subarray(1), signature), false);
  assert.equal(
    verifySignature(
      one.peer,
      bytes,
      signature.map((byte, index) => (index === 9 ? byte ^ 1 : byte)),
    ),
    false,
  );
  assert.equal(verifySignature(one.peer, bytes, signature.subarray(1)), false);
  assert.equal(verifySignature('12D3KooW', bytes, signature), false);
  assert.equal(verifySignature(`12D3KooW${'z'.repeat(44)}`, bytes, signature), false);
});

test('publicKeyOfPeerId() rejects what is no Ed25519 peer id', () => {
  const { peer } = identityFromSeed(new Uint8Array(32).fill(3));
  for (const text of ['', 'Qm', peer.slice(1), `${peer}1`, peer.replace(/.$/, '0'), `12D3KooW${'z'.repeat(44)}`]) {
    assert.throws(() => publicKeyOfPeerId(text), { code: 'malformed' });
  }
});
