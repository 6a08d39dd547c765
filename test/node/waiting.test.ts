// Waiting by the clock: what ends it, and that nothing of it is left behind.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { pause, within } from '../../node/waiting.ts';
import { createManualClock } from '../helpers/manual-clock.ts';

test('pause() ends with its time or its signal, and leaves no listener behind', async () => {
  const clock = createManualClock();
  const ending = new AbortController();
  const { signal } = ending;
  for (let times = 0; times < 3; times += 1) {
    const paused = pause(clock, 500, signal);
    clock.advance(500);
    await paused;
  }
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  const paused = assert.rejects(pause(clock, 500, signal), /enough/);
  ending.abort(new Error('enough'));
  await paused;
  await assert.rejects(pause(clock, 500, signal), /enough/);
});

test('within() ends a step with its limit or the outer signal, and gives what it comes to', async () => {
  const clock = createManualClock();
  const forever = (signal: AbortSignal): Promise<never> =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const limit = { clock, limitMs: 100, late: () => new Error('late') };
  const late = assert.rejects(within(limit, forever), /late/);
  clock.advance(100);
  await late;
  const ending = new AbortController();
  const ended = assert.rejects(within({ ...limit, outer: ending.signal }, forever), /enough/);
  ending.abort(new Error('enough'));
  await ended;
  let given: AbortSignal | undefined;
  const seven = async (signal: AbortSignal): Promise<number> => {
    given = signal;
    return 7;
  };
  assert.equal(await within(limit, seven), 7);
  clock.advance(100);
  assert.equal(given?.aborted, false, 'the limit is over with the step');
});
