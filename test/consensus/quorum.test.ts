// The arithmetic of majorities, held against its definition for every small group.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jointIndex, jointVote, majorityIndex, majorityOf, majorityVote } from '../../node/consensus/core/quorum.ts';
import { seededRandom } from '../helpers/random.ts';

const idsUpTo = (size: number): number[] => Array.from({ length: size }, (_, at) => at + 1);

test('any two majorities of a group share a voter', () => {
  for (let size = 1; size <= 9; size += 1) {
    assert.ok(2 * majorityOf(size) > size, `${size}`);
    assert.ok(2 * (majorityOf(size) - 1) <= size, `${size}: no more than needed`);
  }
});

test('majorityVote() is won by a majority of the voters and by nobody else', () => {
  for (let size = 1; size <= 5; size += 1) {
    const voters = new Set(idsUpTo(size));
    // Each voter says yes, no or nothing; two strangers always say yes.
    for (let code = 0; code < 3 ** size; code += 1) {
      const words = idsUpTo(size).map((raftId) => Math.floor(code / 3 ** (raftId - 1)) % 3);
      const votes = new Map<number, boolean>([8, 9].map((stranger) => [stranger, true]));
      for (const [at, word] of words.entries()) if (word > 0) votes.set(at + 1, word === 1);
      const yes = words.filter((word) => word === 1).length;
      const open = words.filter((word) => word === 0).length;
      const expected = 2 * yes > size ? 'won' : 2 * (yes + open) > size ? 'pending' : 'lost';
      assert.equal(majorityVote(voters, votes), expected, `${words}`);
    }
  }
});

test('majorityIndex() is the highest index that a majority of the voters holds', () => {
  const random = seededRandom(1);
  for (let round = 0; round < 500; round += 1) {
    const size = 1 + Math.floor(random() * 7);
    const held = new Map<number, number>([[99, 1_000]]);
    for (const raftId of idsUpTo(size)) if (random() < 0.8) held.set(raftId, Math.floor(random() * 6));
    const index = majorityIndex(new Set(idsUpTo(size)), (raftId) => held.get(raftId));
    const holders = (at: number): number => idsUpTo(size).filter((raftId) => (held.get(raftId) ?? 0) >= at).length;
    assert.ok(2 * holders(index) > size, 'a majority holds it');
    assert.ok(2 * holders(index + 1) <= size, 'no majority holds more');
  }
});

test('a joint configuration needs both majorities', () => {
  const voters = { incoming: new Set([1, 2, 3]), outgoing: new Set([3, 4, 5]) };
  const held = new Map([
    [1, 9],
    [2, 9],
    [3, 9],
    [4, 2],
    [5, 1],
  ]);
  assert.equal(
    jointIndex(voters, (raftId) => held.get(raftId)),
    2,
  );
  const swapped = { incoming: voters.outgoing, outgoing: voters.incoming };
  assert.equal(
    jointIndex(swapped, (raftId) => held.get(raftId)),
    2,
  );
  const votes = (...yes: number[]) => new Map(idsUpTo(5).map((raftId) => [raftId, yes.includes(raftId)]));
  assert.equal(jointVote(voters, votes(1, 2, 3)), 'lost');
  assert.equal(jointVote(voters, votes(3, 4, 5)), 'lost');
  assert.equal(jointVote(voters, votes(1, 3, 4)), 'won');
  assert.equal(jointVote(voters, new Map([1, 2, 3].map((raftId) => [raftId, true]))), 'pending');
});
