// Flipped bits in the log file of a real LevelDB, at some of its bytes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flipBits } from './flipped-log.ts';

test('openLogStore() finds acknowledged batches that LevelDB lost without an error to one flipped bit', async () => {
  const { onlyWitness } = await flipBits({ batches: 6, entryBytes: 10, stride: 79 });
  assert.ok(onlyWitness > 0, 'some batches were lost without an error');
});

test('openLogStore() finds a gap in the middle that a flipped bit made of acknowledged batches', async () => {
  const { refused, onlyWitness } = await flipBits({ batches: 12, entryBytes: 8_000, stride: 6_000 });
  assert.ok(refused > onlyWitness, 'the chain was broken');
});
