// Thirty simulated fleets: no promise is broken, and everything that the simulation is there for has happened.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simulateSeeds } from '../../scripts/simulate.ts';

test('simulated fleets keep every promise, and no fault or event is missing', async () => {
  const seeds = Array.from({ length: 30 }, (_, at) => 1 + at);
  const { violations, counts, acknowledgedCommands } = await simulateSeeds(seeds, { stopsEarly: true });
  assert.deepEqual(violations, []);
  const missing = Object.entries(counts).filter(([, count]) => count === 0);
  assert.deepEqual(missing, [], 'what never happened proves nothing');
  assert.ok(acknowledgedCommands > 10 * seeds.length, `${acknowledgedCommands} commands were acknowledged`);
});
