// Shows that the outputs of all versions of Nix become the same records, and their errors one sentence.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nixFailure, trimNixError } from '../../node/host/nix-failure-core.ts';
import { normaliseNarHash, parseNixVersion, parsePathInfo } from '../../node/host/nix-format-core.ts';

const name = `${'0'.repeat(32)}-part`;
const storePath = `/nix/store/${name}`;
const hex = '24c604e53256c864b30518f0f1e6e1e8bf03f4bd5d9e33ed3dbdba286427cb7f';
const sri = `sha256-${Buffer.from(hex, 'hex').toString('base64')}`;
const nix32 = normaliseNarHash(`sha256:${hex}`);
const fields = {
  narHash: sri,
  narSize: 120,
  references: [storePath],
  deriver: `${storePath}.drv`,
  signatures: ['k:s'],
};
const record = {
  path: storePath,
  narHash: nix32,
  narSize: 120,
  references: [storePath],
  deriver: `${storePath}.drv`,
  signatures: ['k:s'],
};

test('parsePathInfo() reads the list of old, the map of newer and the envelope of newest versions alike', () => {
  const unknown = `/nix/store/${'1'.repeat(32)}-unknown`;
  const old = [
    { path: storePath, valid: true, ...fields },
    { path: unknown, valid: false },
  ];
  const newer = { [storePath]: fields, [unknown]: null };
  const newest = {
    version: 2,
    storeDir: '/nix/store',
    info: {
      [name]: { ...fields, references: [name], deriver: `${name}.drv`, narHash: { algorithm: 'sha256', hash: hex } },
    },
  };
  for (const output of [old, newer, newest]) assert.deepEqual(parsePathInfo(JSON.stringify(output)), [record]);
});

test('parsePathInfo() rejects what no version prints', () => {
  for (const text of [
    '',
    '7',
    'null',
    `{"${storePath}":{}}`,
    `[{"path":"x","narSize":1,"references":[],"narHash":"md5:1"}]`,
  ]) {
    assert.throws(() => parsePathInfo(text), { code: 'nix-output-unknown' }, text);
  }
});

test('normaliseNarHash() gives the same digits for every form of a hash', () => {
  assert.match(nix32, /^sha256:[0-9a-df-np-sv-z]{52}$/);
  assert.equal(normaliseNarHash(sri), nix32);
  assert.equal(normaliseNarHash(nix32), nix32);
});

test('parseNixVersion() reads Nix and its relatives', () => {
  assert.deepEqual(parseNixVersion('nix (Nix) 2.8.0'), { major: 2, minor: 8 });
  assert.deepEqual(parseNixVersion('nix (Lix, like Nix) 2.91.1'), { major: 2, minor: 91 });
  assert.deepEqual(parseNixVersion('nix (Determinate Nix 3.6.2) 2.29.0'), { major: 2, minor: 29 });
  assert.equal(parseNixVersion('command not found'), undefined);
});

test('trimNixError() keeps the error and its place of old and new wordings', () => {
  const old =
    "\u001b[31;1merror:\u001b[0m attribute 'toplevel' missing\n\n       at \u001b[35;1m«string»:1:2\u001b[0m:\n\n            1| x\n(use '--show-trace' to show detailed location information)\n";
  assert.equal(trimNixError(old), "attribute 'toplevel' missing\n\n       at «string»:1:2:\n\n            1| x");
  const recent =
    "error:\n       … while evaluating the attribute 'x'\n         at /nix/store/a/flake.nix:1:2:\n\n       error: the disk's name is missing\n";
  assert.equal(trimNixError(recent), "the disk's name is missing");
  assert.equal(trimNixError('something else\n'), 'something else');
});

test('trimNixError() tells the cause and not the consequence', () => {
  const full =
    "copying path 'x'...\nerror: writing to file: No space left on device\nerror: build of '/nix/store/x' failed\n";
  assert.equal(trimNixError(full), 'writing to file: No space left on device');
  const unsigned = "warning: the substitute for 'x' is not signed by any of the keys\nerror: build of 'x' failed\n";
  assert.equal(trimNixError(unsigned), "the substitute for 'x' is not signed by any of the keys");
  const retried =
    "warning: unable to download 'u': refused; retrying in 9 ms\nwarning: unable to download 'u': refused\nerror: build of 'x' failed\n";
  assert.equal(trimNixError(retried), "unable to download 'u': refused");
  assert.equal(trimNixError("error: build of 'x' failed\n"), "build of 'x' failed");
});

test('nixFailure() gives the code to act on', () => {
  const codeOf = (text: string) => nixFailure('nix-store', 1, text).code;
  assert.equal(codeOf('error: writing to file: No space left on device'), 'disk-full');
  assert.equal(codeOf("error: cannot add path 'x' because it lacks a valid signature"), 'untrusted-path');
  assert.equal(codeOf("error: cannot add path 'x' because it lacks a signature by a trusted key"), 'untrusted-path');
  assert.equal(codeOf("error: hash mismatch importing path 'x';\n  specified: a\n  got: b"), 'corrupt-path');
  assert.equal(codeOf('error: nonsense'), 'nix-failed');
  assert.match(nixFailure('nix', 9, '').message, /status 9 without a message/);
});
