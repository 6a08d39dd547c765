// Shows which peers on which sites the demo makes of what was asked for.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planPeers, readDemoOptions } from '../../scripts/lib/demo-options.ts';

const plan = (words: string, hosts?: readonly string[]) =>
  planPeers(readDemoOptions(words.split(' ').filter((word) => word !== '')), hosts);

test('planPeers() makes six peers on two sites with three voters on both', () => {
  const peers = plan('');
  assert.deepEqual(
    peers.map(({ name }) => name),
    ['home-gate', 'shop-till', 'home-desk', 'shop-sign', 'home-media', 'shop-cam'],
  );
  const voters = peers.filter(({ roles }) => roles.includes('voter'));
  assert.deepEqual(
    voters.map(({ site }) => site),
    ['home', 'shop', 'home'],
  );
});

test('planPeers() gives each peer a name of its own for any size', () => {
  for (const words of ['--peers 1', '--peers 2', '--peers 9 --sites 4 --voters 5', '--peers 32 --sites 12']) {
    const peers = plan(words);
    assert.equal(new Set(peers.map(({ name }) => name)).size, peers.length, words);
  }
  assert.equal(new Set(plan('--peers 32 --sites 12').map(({ site }) => site)).size, 12);
  assert.equal(plan('--peers 2').filter(({ roles }) => roles.includes('voter')).length, 1);
});

test('planPeers() gives the hosts of a project their peers', () => {
  assert.deepEqual(
    plan('', ['a', 'b']).map(({ name, site }) => [name, site]),
    [
      ['a', 'home'],
      ['b', 'shop'],
    ],
  );
  assert.deepEqual(
    plan('--peers 3 --sites 1', ['a', 'b']).map(({ name }) => name),
    ['a', 'b', 'home-3'],
  );
});

test('readDemoOptions() and planPeers() say what does not fit', () => {
  for (const words of ['--peers 0', '--peers x', '--peers 1 --sites 2', '--voters 2', '--voters 8', '--peer 3', 'x']) {
    assert.throws(() => plan(words), { code: 'usage', hint: /--help/ }, words);
  }
});
