// What callers are told about their proposals: done, lost or unknown, and each only where it is so.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Proposals } from '../../node/consensus/waiters.ts';

const { signal } = new AbortController();

test('Proposals.add() tells whoever waits at that index that the outcome is unknown: it may still be committed', async () => {
  const proposals = new Proposals();
  const older = proposals.add({ index: 12, term: 3 }, signal);
  const newer = proposals.add({ index: 12, term: 5 }, signal);
  await assert.rejects(older, {
    code: 'outcome-unknown',
    message: /entry 12 of term 3: .*term 5/,
    hint: /same command id/,
  });
  proposals.applied({ index: 12, term: 5 });
  assert.deepEqual(await newer, { index: 12, term: 5 });
});

test('Proposals.applied() tells whoever waits for another entry at that index that theirs is lost', async () => {
  const proposals = new Proposals();
  const waiting = proposals.add({ index: 12, term: 3 }, signal);
  proposals.applied({ index: 12, term: 4 });
  await assert.rejects(waiting, { code: 'proposal-lost', retryable: true });
});
