// Proposals that are made at one moment are appended together, and each caller hears of its own entry.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProposalBatch } from '../../node/consensus/proposal-batch.ts';

const { signal } = new AbortController();

function createBatch(): { batch: ProposalBatch; proposed: number[]; refuse: (error: Error | undefined) => void } {
  const proposed: number[] = [];
  let next = 10;
  let refusal: Error | undefined;
  const batch = new ProposalBatch({
    propose(data) {
      if (refusal) throw refusal;
      proposed.push(data.length);
      next += data.length;
      return { index: next - data.length, term: 3 };
    },
    wait: async (position) => position,
  });
  return {
    batch,
    proposed,
    refuse: (error) => {
      refusal = error;
    },
  };
}

test('add() proposes together what is added at one moment, and gives each its position', async () => {
  const { batch, proposed } = createBatch();
  const first = await Promise.all([1, 2, 3].map((byte) => batch.add(new Uint8Array([byte]), signal)));
  assert.deepEqual(
    first.map(({ index, term }) => [index, term]),
    [
      [10, 3],
      [11, 3],
      [12, 3],
    ],
  );
  assert.equal((await batch.add(new Uint8Array([4]), signal)).index, 13);
  assert.deepEqual(proposed, [3, 1]);
});

test('size counts what is not proposed yet', async () => {
  const { batch } = createBatch();
  const added = [1, 2].map((byte) => batch.add(new Uint8Array([byte]), signal));
  assert.equal(batch.size, 2);
  await Promise.all(added);
  assert.equal(batch.size, 0);
});

test('add() bounds the bytes that are proposed together', async () => {
  const { batch, proposed } = createBatch();
  const large = new Uint8Array(60_000);
  const positions = await Promise.all(Array.from({ length: 9 }, () => batch.add(large, signal)));
  assert.deepEqual(proposed, [4, 4, 1]);
  assert.equal(positions.at(-1)?.index, 18);
});

test('add() rejects for all that were refused together, and goes on afterwards', async () => {
  const { batch, proposed, refuse } = createBatch();
  refuse(new Error('not the leader'));
  const refused = [1, 2].map((byte) => assert.rejects(batch.add(new Uint8Array([byte]), signal), /not the leader/));
  await Promise.all(refused);
  refuse(undefined);
  await batch.add(new Uint8Array([3]), signal);
  assert.deepEqual(proposed, [1]);
});
