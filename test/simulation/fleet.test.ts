// A few simulated fleets, and that a seed repeats its run. More seeds run in fleet.slow.test.ts, any number by scripts/simulate.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runSeed } from '../../scripts/simulation/run.ts';

const given = process.env.PARLEY_SEED;
const seeds = given === undefined ? [1, 2] : [Number(given)];

test('simulated fleets keep every promise on random schedules', async () => {
  for (const seed of seeds) {
    const { violations, acknowledgedCommands } = await runSeed({ seed });
    assert.deepEqual(violations, [], `seed ${seed}: repeat it by node scripts/simulate.ts --seeds ${seed} --trace`);
    assert.ok(acknowledgedCommands > 0, `seed ${seed}: no command was acknowledged`);
  }
});

test('runSeed() repeats a run exactly', async () => {
  const lines: string[][] = [[], []];
  const results = [];
  for (const own of lines) results.push(await runSeed({ seed: 11, onEvent: (line) => own.push(line) }));
  assert.deepEqual(lines[0], lines[1]);
  assert.deepEqual(results[0], results[1]);
  assert.notEqual((await runSeed({ seed: 12 })).fingerprint, results[0]?.fingerprint);
});
