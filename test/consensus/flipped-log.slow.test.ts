// Flipped bits in the log file of a real LevelDB, at each byte of a small one and at many of one of several blocks.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flipBits } from './flipped-log.ts';

test('openLogStore() finds what a flipped bit in any byte of the log of LevelDB took away', async (t) => {
  const flips = await flipBits({ batches: 3, entryBytes: 10, stride: 1 });
  t.diagnostic(JSON.stringify(flips));
  assert.ok(flips.onlyWitness > 0);
});

test('openLogStore() finds what a flipped bit in a log of several blocks took away', async (t) => {
  const flips = await flipBits({ batches: 12, entryBytes: 8_000, stride: 311 });
  t.diagnostic(JSON.stringify(flips));
  assert.ok(flips.onlyWitness > 0);
  assert.ok(flips.refused > flips.onlyWitness);
});
