// Shows what crash.test.ts shows for more kinds of systems, and for several crashes in one order's life.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../helpers/random.ts';
import { stories, tell, testStory } from './crashes.ts';

for (const name of Object.keys(stories).filter((story) => !['a good system', 'a system that fails'].includes(story))) {
  testStory(name);
}

test('orders end as exactly old or new after several crashes', async (t) => {
  const seed = Number(process.env.PARLEY_SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`PARLEY_SEED=${seed}`);
  const random = seededRandom(seed);
  const all = Object.values(stories);
  for (let round = 0; round < 60; round += 1) {
    const story = all[Math.floor(random() * all.length)] ?? stories['a good system'];
    assert.ok(story !== undefined);
    const interruptions = Array.from({ length: 2 + Math.floor(random() * 3) }, () => ({
      afterTraces: Math.floor(random() * 40),
      isReboot: random() < 0.5,
    }));
    await tell(t, story, interruptions);
  }
});
