// What simulated time puts in the place of Node's own signals does what those do, and forgets what nobody holds.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { VirtualTime } from '../../scripts/simulation/time.ts';

/** Runs `work` as an event of simulated time. */
async function during(work: (time: VirtualTime) => void): Promise<void> {
  const time = new VirtualTime();
  time.schedule(0, undefined, 'work', () => work(time));
  await time.run(10_000);
}

test('run() puts time limits on simulated time, and gives Node its own back', async () => {
  const own = [AbortSignal.timeout, AbortSignal.any];
  let endedAtMs = 0;
  await during((time) => {
    AbortSignal.timeout(3_000).addEventListener('abort', () => {
      endedAtMs = time.nowMs;
    });
  });
  assert.equal(endedAtMs, 3_000);
  assert.deepEqual([AbortSignal.timeout, AbortSignal.any], own);
});

test('AbortSignal.any() of simulated time follows the first of its signals, with its reason', async () => {
  await during(() => {
    const [first, second] = [new AbortController(), new AbortController()];
    const both = AbortSignal.any([first.signal, second.signal]);
    const outer = AbortSignal.any([both]);
    let calls = 0;
    outer.addEventListener('abort', () => {
      calls += 1;
    });
    second.abort('enough');
    first.abort('late');
    assert.deepEqual([both.reason, outer.reason, calls], ['enough', 'enough', 1]);
    assert.equal(AbortSignal.any([new AbortController().signal, first.signal]).reason, 'late');
  });
});

test('AbortSignal.any() of simulated time keeps no signal that only its own listeners know', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const held: WeakRef<AbortSignal>[] = [];
  await during(() => {
    const signal = AbortSignal.any([new AbortController().signal]);
    signal.addEventListener('abort', () => undefined);
    held.push(new WeakRef(signal));
  });
  await turn();
  collect();
  assert.equal(held[0]?.deref(), undefined);
});
