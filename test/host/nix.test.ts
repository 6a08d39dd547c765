// Shows the use of a real Nix store: validity, roots, profiles, and that only what a trusted key signed gets in.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { loadBuilderKey } from '../../node/build/builder-key.ts';
import { createNix, type PathInfo } from '../../node/host/index.ts';
import { machineSystem } from '../../scripts/lib/sample.ts';
import { createTestNix, type TestNix } from '../helpers/nix-store.ts';

let testNix: TestNix;
let part: string;
let whole: string;

before(async () => {
  testNix = await createTestNix();
  await writeFile(path.join(testNix.folder, 'part'), 'part');
  part = await add(path.join(testNix.folder, 'part'));
  // A built path: unlike `part`, whose name is made from its content, it is nothing without a signature.
  whole = await build('whole', `echo needs \${builtins.storePath "${part}"} > $out`);
});
after(() => testNix.remove());

async function add(file: string): Promise<string> {
  const { stdout } = await testNix.nix.runChecked({ program: 'nix-store', arguments: ['--add', file] });
  return Buffer.from(stdout).toString('utf8').trim();
}

async function build(name: string, script: string): Promise<string> {
  const expression = `(derivation {
    name = "${name}"; system = "${machineSystem()}"; builder = "/bin/sh"; args = [ "-c" "${script}" ];
  }).drvPath`;
  const drvPath = await testNix.nix.runChecked({
    program: 'nix',
    arguments: ['eval', '--impure', '--raw', '--expr', expression],
  });
  const { stdout } = await testNix.nix.runChecked({
    program: 'nix-store',
    arguments: ['--realise', Buffer.from(drvPath.stdout).toString('utf8')],
  });
  return Buffer.from(stdout).toString('utf8').trim();
}

const unknownPath = `/nix/store/${'0'.repeat(32)}-unknown`;

test('pathInfo() gives the closure in the form that signatures cover and leaves unknown paths out', async () => {
  const infos = await testNix.nix.pathInfo([whole], { closure: true });
  const byPath = new Map(infos.map((info) => [info.path, info]));
  assert.deepEqual([...byPath.keys()].sort(), [part, whole].sort());
  assert.deepEqual(byPath.get(whole)?.references, [part]);
  assert.match(byPath.get(part)?.narHash ?? '', /^sha256:[0-9a-z]{52}$/);
  const { stdout } = await testNix.nix.runChecked({ program: 'nix-store', arguments: ['--query', '--hash', part] });
  assert.equal(byPath.get(part)?.narHash, Buffer.from(stdout).toString('utf8').trim());
  assert.deepEqual(await testNix.nix.pathInfo([unknownPath]), []);
});

test('missingPaths() names what is not valid', async () => {
  assert.deepEqual(await testNix.nix.missingPaths([part, unknownPath, whole]), [unknownPath]);
});

test('addRoot() keeps a path through garbage collection until removeRoot()', async () => {
  const kept = await add(await fileOf('kept'));
  const loose = await add(await fileOf('loose'));
  const held = path.join(testNix.folder, 'roots/held');
  await testNix.nix.addRoot(held, kept);
  const rootOfWhole = path.join(testNix.folder, 'roots/whole');
  await testNix.nix.addRoot(rootOfWhole, whole);
  await assert.rejects(testNix.nix.deletePaths([kept]), { code: 'path-in-use' });
  await testNix.nix.collectGarbage();
  assert.deepEqual(await testNix.nix.missingPaths([kept, loose, whole, part]), [loose]);
  assert.equal(await testNix.nix.readProfile(held), kept);
  await testNix.nix.removeRoot(held);
  await testNix.nix.deletePaths([kept]);
  assert.deepEqual(await testNix.nix.missingPaths([kept]), [kept]);
});

test('addRoot() lets an older target of its link go and refuses what is not valid', async () => {
  const link = path.join(testNix.folder, 'roots/moving');
  const next = await add(await fileOf('next'));
  await testNix.nix.addRoot(link, part);
  await testNix.nix.addRoot(link, next);
  assert.equal(await testNix.nix.readProfile(link), next);
  await assert.rejects(testNix.nix.addRoot(link, unknownPath), { code: 'path-missing' });
});

test('setProfile() makes the path the newest generation', async () => {
  const profile = path.join(testNix.folder, 'profiles/system');
  assert.equal(await testNix.nix.readProfile(profile), undefined);
  await testNix.nix.setProfile(profile, part);
  await testNix.nix.setProfile(profile, whole);
  assert.equal(await testNix.nix.readProfile(profile), whole);
});

test('physicalPath() is where the files of a path lie', async () => {
  assert.equal(await readFile(testNix.nix.physicalPath(part), 'utf8'), 'part');
});

test("realise() takes what our builder's key signed, and nothing that another key signed or nobody", async () => {
  const cache = path.join(testNix.folder, 'cache-of-files');
  await testNix.nix.runChecked({ program: 'nix', arguments: ['copy', '--to', `file://${cache}`, whole] });
  const infos = await testNix.nix.pathInfo([whole], { closure: true });
  const trusted = await loadBuilderKey(path.join(testNix.folder, 'trusted.key'), 'trusted');
  const stranger = await loadBuilderKey(path.join(testNix.folder, 'stranger.key'), 'stranger');
  const options = { substituter: `file://${cache}`, trustedPublicKeys: [trusted.publicKey] };

  await withEmptyStore(async (other) => {
    await assert.rejects(other.nix.realise(whole, options), { code: 'untrusted-path' });
    await sign(cache, infos, stranger);
    await assert.rejects(other.nix.realise(whole, options), { code: 'untrusted-path' });
    await sign(cache, infos, {
      ...stranger,
      sign: (entry) => stranger.sign(entry).replace(stranger.name, trusted.name),
    });
    await assert.rejects(other.nix.realise(whole, options), { code: 'untrusted-path' });
    await sign(cache, infos, trusted);
    const root = path.join(other.folder, 'roots/whole');
    await other.nix.realise(whole, { ...options, root });
    assert.deepEqual(await other.nix.missingPaths([part, whole]), []);
    assert.equal(await other.nix.readProfile(root), whole);
  });
});

test('realise() refuses content that does not fit its signed hash', async () => {
  const cache = path.join(testNix.folder, 'cache-damaged');
  await testNix.nix.runChecked({
    program: 'nix',
    arguments: ['copy', '--to', `file://${cache}?compression=none`, part],
  });
  const infos = await testNix.nix.pathInfo([part]);
  const key = await loadBuilderKey(path.join(testNix.folder, 'damaged.key'), 'damaged');
  await sign(cache, infos, key);
  const url = /^URL: (.+)$/m.exec(await readFile(narinfoOf(cache, part), 'utf8'))?.[1] ?? '';
  const nar = await readFile(path.join(cache, url));
  const at = nar.indexOf('part');
  nar.write('trap', at);
  await writeFile(path.join(cache, url), nar);
  await withEmptyStore(async (other) => {
    const options = { substituter: `file://${cache}`, trustedPublicKeys: [key.publicKey] };
    await assert.rejects(other.nix.realise(part, options), { code: 'corrupt-path' });
    assert.deepEqual(await other.nix.missingPaths([part]), [part]);
  });
});

test('requireVersion() says which Nix there is, that it is too old, or that there is none', async () => {
  assert.match(await testNix.nix.requireVersion(), /^nix \(.+\) \d+\.\d+/);
  const withPath = (folder: string) => {
    const runner = {
      run: (request: Parameters<typeof testNix.runner.run>[0]) =>
        testNix.runner.run({ ...request, environment: { ...request.environment, PATH: folder } }),
    };
    return createNix({ cacheHome: path.join(testNix.folder, 'cache') })({ runner });
  };
  await assert.rejects(withPath(path.join(import.meta.dirname, '../fixtures/bin/old-nix')).requireVersion(), {
    code: 'nix-too-old',
    message: "Nix 2.8 or newer is needed: this machine has 'nix (Nix) 2.3.16'",
    hint: /apt-get install nix-bin/,
  });
  await assert.rejects(withPath('/nonexistent').requireVersion(), {
    code: 'nix-missing',
    hint: /apt-get install nix-bin/,
  });
});

async function fileOf(text: string): Promise<string> {
  const file = path.join(testNix.folder, text);
  await writeFile(file, text);
  return file;
}

async function withEmptyStore(use: (other: TestNix) => Promise<void>): Promise<void> {
  const other = await createTestNix();
  try {
    await use(other);
  } finally {
    await other.remove();
  }
}

function narinfoOf(cache: string, storePath: string): string {
  return path.join(cache, `${path.basename(storePath).slice(0, 32)}.narinfo`);
}

async function sign(
  cache: string,
  infos: readonly PathInfo[],
  key: Pick<Awaited<ReturnType<typeof loadBuilderKey>>, 'sign'>,
) {
  for (const { path: storePath, narHash, narSize, references } of infos) {
    const file = narinfoOf(cache, storePath);
    const unsigned = (await readFile(file, 'utf8')).replace(/^Sig: .*\n/gm, '');
    await writeFile(
      file,
      `${unsigned}Sig: ${key.sign({ storePath, narHash, narSize, references: [...references] })}\n`,
    );
  }
}
