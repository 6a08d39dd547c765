// Shows what people are told about two closures or two lock files.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffClosures, splitName } from '../../node/build/closure-diff-core.ts';
import { diffLocks, inputNames } from '../../node/build/lock-diff-core.ts';

const path = (digit: string, name: string, narSize: number) => ({
  storePath: `/nix/store/${digit.repeat(32)}-${name}`,
  narSize,
});

test('splitName() finds the version by the rule of Nix', () => {
  const names = [
    'glibc-2.38-27',
    'nixos-system-home-gate-26.05.1',
    'etc',
    'source-sans-pro-1',
    'python3.11-requests-2.31',
  ];
  const split = names.map((name) => splitName(`/nix/store/${'0'.repeat(32)}-${name}`));
  assert.deepEqual(split, [
    { name: 'glibc', version: '2.38-27' },
    { name: 'nixos-system-home-gate', version: '26.05.1' },
    { name: 'etc', version: '' },
    { name: 'source-sans-pro', version: '1' },
    { name: 'python3.11-requests', version: '2.31' },
  ]);
});

test('diffClosures() tells new versions, additions, removals and rebuilds apart', () => {
  const before = [path('0', 'kept-1', 5), path('1', 'old-1', 10), path('2', 'tool-1.0', 20), path('3', 'same-3', 30)];
  const after = [path('0', 'kept-1', 5), path('4', 'new-1', 11), path('5', 'tool-1.1', 21), path('6', 'same-3', 31)];
  const difference = diffClosures(before, after);
  assert.deepEqual(
    difference.changes.map(({ name, kind, before: old, after: recent }) => [name, kind, old, recent]),
    [
      ['tool', 'changed', ['1.0'], ['1.1']],
      ['new', 'added', [], ['1']],
      ['old', 'removed', ['1'], []],
      ['same', 'rebuilt', ['3'], ['3']],
    ],
  );
  assert.deepEqual([difference.pathsAdded, difference.bytesAdded], [3, 63]);
  assert.deepEqual([difference.pathsRemoved, difference.bytesRemoved], [3, 60]);
});

test('diffClosures() of equal closures is empty', () => {
  const paths = [path('0', 'kept-1', 5)];
  assert.deepEqual(diffClosures(paths, paths).changes, []);
});

const lock = (rev: string, lastModified: number, more: object = {}) =>
  JSON.stringify({
    version: 7,
    root: 'root',
    nodes: {
      root: { inputs: { nixpkgs: 'nixpkgs', ...more } },
      nixpkgs: { locked: { rev, lastModified }, inputs: { lib: 'lib', again: ['nixpkgs'] } },
      lib: { locked: { narHash: 'sha256-abc' } },
    },
  });

test('diffLocks() lists changed, new and inner inputs', () => {
  const before = lock('a'.repeat(40), 86_400);
  assert.deepEqual(diffLocks(before, lock('b'.repeat(40), 2 * 86_400)), [
    { name: 'nixpkgs', before: 'aaaaaaaaaaaa (1970-01-02)', after: 'bbbbbbbbbbbb (1970-01-03)' },
  ]);
  assert.deepEqual(
    diffLocks(undefined, before).map((change) => change.name),
    ['nixpkgs', 'nixpkgs/lib'],
  );
  assert.deepEqual(diffLocks(before, before), []);
  assert.deepEqual(inputNames(before), ['nixpkgs']);
});

test('diffLocks() survives locks that are damaged or refer to themselves', () => {
  const circular = JSON.stringify({ root: 'a', nodes: { a: { inputs: { a: 'a', gone: 'gone' } } } });
  for (const text of ['', '{', 'null', '[]', '{"nodes":7,"root":"a"}', '{"nodes":{"a":{"inputs":7}},"root":"a"}']) {
    assert.deepEqual(diffLocks(text, text), []);
  }
  assert.ok(diffLocks(undefined, circular).length > 0);
});
