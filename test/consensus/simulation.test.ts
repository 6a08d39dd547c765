// Random schedules of raft nodes; a failing seed is printed and can be run alone by PARLEY_SEED.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Mutant, simulate } from './simulator.ts';

const given = process.env.PARLEY_SEED;
const firstSeed = given === undefined ? 1 : Number(given);
const seeds = given === undefined ? 40 : 1;
const steps = 4_000;

test('groups of nodes never contradict themselves on random schedules', () => {
  let acknowledged = 0;
  let elections = 0;
  for (let seed = firstSeed; seed < firstSeed + seeds; seed += 1) {
    const result = simulate({ seed, nodes: 3 + (seed % 3), steps });
    assert.deepEqual(result.violations, [], `seed ${seed}`);
    acknowledged += result.acknowledged;
    elections += result.elections;
  }
  // A single schedule may well be too rough for any progress.
  if (given !== undefined) return;
  assert.ok(acknowledged > seeds * 5, `${acknowledged} proposals were acknowledged`);
  assert.ok(elections > seeds * 2, `${elections} terms had a leader`);
});

for (const mutant of ['acknowledges-before-disk', 'forgets-vote', 'forgets-term'] satisfies Mutant[]) {
  test(`random schedules catch a caller that ${mutant.replaceAll('-', ' ')}`, () => {
    const caught = Array.from({ length: 200 }, (_, position) => position + 1).find(
      (seed) => simulate({ seed, nodes: 3, steps, mutant }).violations.length > 0,
    );
    assert.ok(caught !== undefined, 'no seed of 200 notices');
  });
}
