// Shows that a device which crashes (or loses power) before or after anything that leaves a trace ends with exactly the old
// or exactly the new system, and says which. More stories are in crash.slow.test.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ParleyError } from '../../protocols/errors.ts';
import type { OrderState } from '../../protocols/journal.ts';
import { checkTruth, fresh, live, number, old, stories, testStory } from './crashes.ts';
import { makeWorld } from './world.ts';

testStory('a good system');
testStory('a system that fails');

test('a disk that takes no writes for a while interrupts an order like a crash', async (t) => {
  const good = stories['a good system'];
  assert.ok(good !== undefined);
  for (let firstFailed = 1; firstFailed <= 12; firstFailed += 1) {
    const world = await makeWorld(t);
    let writes = 0;
    const failedIn: OrderState[] = [];
    world.onWrite = () => {
      writes += 1;
      if (writes < firstFailed || writes > firstFailed + 2) return;
      failedIn.push(world.slot()?.state ?? 'ordered');
      throw new ParleyError('disk-full', 'no space left on the device', { retryable: true });
    };
    const lived = await live(world, []);
    if (lived.end.outcome !== 'failed') {
      checkTruth(world, good, { ...lived, interruptedIn: failedIn });
      continue;
    }
    assert.deepEqual([world.running, world.profile, lived.end.reason], [old, old, 'no space left on the device']);
  }
});

test('the end is reported again in a new incarnation of the journal', async (t) => {
  const world = await makeWorld(t);
  world.order(number, fresh);
  const run = await world.start();
  t.after(() => run.stop());
  await run.ended(number);
  const again = Promise.withResolvers<unknown>();
  run.journal.onAppended((report) => {
    if (report.kind === 'order-ended') again.resolve([report.incarnation, report.body.outcome, report.running]);
  });
  await run.journal.acknowledge({ incarnation: 3, sequence: 1 });
  world.apply({});
  assert.deepEqual(await again.promise, [4, 'succeeded', fresh]);
});
