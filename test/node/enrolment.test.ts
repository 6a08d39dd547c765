// Founding a fleet: what lies in the state folder afterwards, who may read it, and that a folder is taken once.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { enrol, foundFleet, loadMembership, readToken } from '../../node/enrolment.ts';
import { readGenesis } from '../../node/ledger/index.ts';
import { check } from '../../protocols/codec.ts';
import { configSchema } from '../../protocols/config.ts';

const config = check(configSchema, { version: 1, listen: ['/ip4/127.0.0.1/tcp/4400', '/ip4/0.0.0.0/tcp/4401'] });

async function createFolder(context: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-enrolment-'));
  context.after(() => rm(folder, { recursive: true, force: true }));
  return join(folder, 'state');
}

const found = (stateFolder: string, name = 'gate') =>
  foundFleet({ stateFolder, config, name, site: 'home', nowMs: 1_700_000_000_000 });

test('foundFleet() makes a fleet of one whose genesis names the founder', async (context) => {
  const stateFolder = await createFolder(context);
  const { peer, membership, recoveryKeyFile } = await found(stateFolder);
  const { fleet, state } = readGenesis(membership.genesis);
  assert.equal(fleet, membership.fleet);
  assert.deepEqual(state.members[peer]?.roles, ['builder', 'member', 'voter']);
  assert.deepEqual(state.members[peer]?.addresses, ['/ip4/127.0.0.1/tcp/4400'], 'only what others can dial');
  assert.match(state.members[peer]?.builderKey ?? '', /^gate-[^:]*:/);
  assert.deepEqual(await loadMembership(stateFolder), membership);
  assert.equal(recoveryKeyFile, join(stateFolder, 'recovery.key'));
});

test('foundFleet() leaves no key that others may read', async (context) => {
  const stateFolder = await createFolder(context);
  await found(stateFolder);
  for (const name of (await readdir(stateFolder)).filter((file) => file.endsWith('.key'))) {
    assert.equal((await stat(join(stateFolder, name))).mode & 0o077, 0, name);
  }
  assert.equal((await stat(stateFolder)).mode & 0o077, 0);
});

test('foundFleet() and enrol() refuse a folder that belongs to a peer', async (context) => {
  const stateFolder = await createFolder(context);
  const { peer } = await found(stateFolder);
  const key = await readFile(join(stateFolder, 'identity.key'), 'utf8');
  await assert.rejects(found(stateFolder, 'other'), { code: 'already-enrolled', message: /'gate'/ });
  assert.equal(await readFile(join(stateFolder, 'identity.key'), 'utf8'), key, `the key of ${peer} stays`);
  const signal = AbortSignal.timeout(5_000);
  await assert.rejects(enrol({ stateFolder, config, token: 'parley1:x', signal }), { code: 'token-damaged' });
});

test('foundFleet() goes on after it was cut off before the end', async (context) => {
  const stateFolder = await createFolder(context);
  const first = await found(stateFolder);
  await rm(join(stateFolder, 'membership.cbor'));
  const second = await found(stateFolder);
  assert.equal(second.peer, first.peer, 'the key that was made first is used');
  const recoveryKeyOf = ({ membership }: typeof first) => readGenesis(membership.genesis).state.recoveryKey;
  assert.equal(recoveryKeyOf(second), recoveryKeyOf(first), 'people may have put the recovery key away already');
});

test('foundFleet() founds no second fleet over a membership that it cannot read', async (context) => {
  const stateFolder = await createFolder(context);
  await found(stateFolder);
  const recoveryKey = await readFile(join(stateFolder, 'recovery.key'), 'utf8');
  const file = join(stateFolder, 'membership.cbor');
  const flipped = await readFile(file);
  flipped.writeUInt8(flipped.readUInt8(5) ^ 1, 5);
  await writeFile(file, flipped);
  await assert.rejects(found(stateFolder), { code: 'membership-unreadable', message: /membership\.cbor/ });
  assert.deepEqual(await readFile(file), flipped);
  assert.equal(await readFile(join(stateFolder, 'recovery.key'), 'utf8'), recoveryKey);
});

test('foundFleet() leaves a recovery key alone that it cannot use', async (context) => {
  const stateFolder = await createFolder(context);
  await mkdir(stateFolder);
  const file = join(stateFolder, 'recovery.key');
  for (const text of [
    '',
    'no key',
    generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'pem' }),
  ]) {
    await writeFile(file, text);
    await assert.rejects(found(stateFolder), { code: 'recovery-key-unusable' });
    assert.equal(await readFile(file, 'utf8'), text);
  }
});

test('loadMembership() tells a folder of no peer from one that it cannot read', async (context) => {
  const stateFolder = await createFolder(context);
  await assert.rejects(loadMembership(stateFolder), { code: 'not-enrolled' });
  await mkdir(join(stateFolder, 'membership.cbor'), { recursive: true });
  await assert.rejects(loadMembership(stateFolder), { code: 'membership-unreadable', message: /EISDIR/ });
});

test('foundFleet() refuses names that cannot be hosts', async (context) => {
  const stateFolder = await createFolder(context);
  for (const name of ['', 'a b', '-x', 'constructor', 'x'.repeat(80)]) {
    await assert.rejects(found(stateFolder, name), { code: 'malformed' }, name);
  }
});

test('readToken() takes the first line, and stops at too much', async () => {
  const from = async function* (...chunks: string[]) {
    yield* chunks;
  };
  assert.equal(await readToken(from('\n  par', 'ley1:abc\nmore', 'never read')), 'parley1:abc');
  assert.equal(await readToken(from('parley1:abc')), 'parley1:abc');
  assert.equal(await readToken(from()), '');
  let asked = 0;
  const endless = async function* () {
    for (; asked < 1_000; asked += 1) yield 'x'.repeat(1_000);
  };
  assert.ok((await readToken(endless())).length < 100_000);
  assert.ok(asked < 100);
});
