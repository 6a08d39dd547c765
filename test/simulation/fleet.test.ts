// A few simulated fleets, and that a seed repeats its run. More seeds run in fleet.slow.test.ts, any number by scripts/simulate.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runSeed } from '../../scripts/simulation/run.ts';

const troubleMs = 3_000;

test('simulated fleets keep every promise on random schedules', async () => {
  for (const seed of [1, 2]) {
    const { violations, acknowledgedCommands } = await runSeed({ seed, troubleMs });
    assert.deepEqual(violations, [], `seed ${seed}`);
    assert.ok(acknowledgedCommands > 0, `seed ${seed}: no command was acknowledged`);
  }
});

test('runSeed() repeats a run exactly, whatever ran before', async () => {
  const lines: string[][] = [[], []];
  const results = [];
  for (const own of lines) results.push(await runSeed({ seed: 3, troubleMs, onEvent: (line) => own.push(line) }));
  assert.deepEqual(lines[0], lines[1]);
  assert.deepEqual(results[0], results[1]);
  assert.notEqual(results[0]?.fingerprint, (await runSeed({ seed: 4, troubleMs })).fingerprint);
});
