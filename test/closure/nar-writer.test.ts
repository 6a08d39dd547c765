// Tests the NAR writer against Nix's own.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { writeNar } from '../../node/closure/nar-writer.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { narHashDigits } from '../../protocols/nix32.ts';
import { hashBytes, readNar } from './fleet.ts';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'parley-nar-'));
});
after(() => rm(folder, { recursive: true, force: true }));

const trees: Record<string, (path: string) => Promise<unknown>> = {
  'an empty file': (path) => writeFile(path, ''),
  'an executable of 8 bytes': async (path) => {
    await writeFile(path, '12345678');
    await chmod(path, 0o500);
  },
  'an empty folder': (path) => mkdir(path),
  'a dangling symlink': (path) => symlink('../nowhere/ü', path),
  'a file larger than a frame': (path) => writeFile(path, Buffer.alloc(700_001, 'x')),
  'a folder with names that sort differently in bytes and in locale': async (path) => {
    await mkdir(path);
    for (const name of ['a', 'A', 'b', 'ä', 'z', '.dot', '-dash', '~', 'a b', '日本', '𝄞', '\uffee', 'n'.repeat(255)]) {
      await writeFile(join(path, name), name);
    }
    await writeFile(Buffer.concat([Buffer.from(`${path}/`), Buffer.from([0xff, 0xfe])]), 'no unicode');
    await mkdir(join(path, 'deep/er/empty'), { recursive: true });
    await symlink('/absolute', join(path, 'deep/link'));
    await writeFile(join(path, 'deep/run'), '#!', { mode: 0o755 });
  },
};

for (const [name, make] of Object.entries(trees)) {
  test(`writeNar() equals nix-store --dump for ${name}`, async () => {
    const path = join(folder, name);
    await make(path);
    const expected = execFileSync('nix-store', ['--dump', path], { maxBuffer: 2 ** 24 });
    const nar = await readNar(path);
    assert.equal(Buffer.compare(nar, expected), 0);
    const digits = execFileSync('nix-hash', ['--type', 'sha256', '--base32', path], { encoding: 'utf8' }).trim();
    assert.equal(hashBytes(nar), `sha256:${digits}`);
  });
}

test('writeNar() resumed at any offset gives the rest and the hash of the whole', async () => {
  const path = join(folder, 'resumed');
  await writeFile(path, Buffer.alloc(1_000, 'y'));
  const whole = await readNar(path);
  for (const offset of [0, 1, 63, 64, 100, whole.byteLength - 1, whole.byteLength]) {
    const frames = writeNar({ physicalPath: path, offset, frameBytes: 64, signal: new AbortController().signal });
    const rest: Uint8Array[] = [];
    for (;;) {
      const next = await frames.next();
      if (next.done === true) {
        assert.deepEqual(next.value, { narHash: hashBytes(whole), narSize: whole.byteLength });
        break;
      }
      assert.ok(next.value.byteLength <= 64);
      rest.push(next.value);
    }
    assert.equal(Buffer.compare(Buffer.concat(rest), whole.subarray(offset)), 0, `offset ${offset}`);
  }
});

test('writeNar() refuses what cannot be in a store path', async () => {
  const path = join(folder, 'fifo');
  execFileSync('mkfifo', [path]);
  await assert.rejects(readNar(path), (error) => error instanceof ParleyError && error.code === 'store-path-changed');
  await assert.rejects(readNar(join(folder, 'absent')), /changed while it was read/);
});

test('narHashDigits() refuses hashes that are no SHA-256 in base 32', () => {
  for (const text of [
    '',
    'sha1:abc',
    `sha256:${'0'.repeat(51)}`,
    `sha256:${'z'.repeat(52)}`,
    `sha256:${'e'.repeat(52)}`,
  ]) {
    assert.throws(
      () => narHashDigits(text),
      (error) => error instanceof ParleyError && error.code === 'malformed',
      text,
    );
  }
  assert.equal(narHashDigits(`sha256:1${'0'.repeat(51)}`).length, 52);
});
