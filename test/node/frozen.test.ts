// A peer that has seen two records of one generation says again and again why it obeys nothing.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Logger } from '../../node/interfaces.ts';
import { createFrozenAlarm } from '../../node/wiring/frozen.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { logger } from '../mesh/fixtures.ts';

test('createFrozenAlarm() says at the start and each minute that the peer is frozen', async () => {
  const said: object[] = [];
  const loud: Logger = { ...logger, error: (fields) => said.push(fields) };
  const clock = createManualClock();
  const alarm = createFrozenAlarm('two of them', { clock, logger: loud });
  await alarm.start();
  clock.advance(120_000);
  await alarm.stop();
  clock.advance(120_000);
  assert.deepEqual(
    said,
    Array.from({ length: 3 }, () => ({ reason: 'two of them' })),
  );
  const calm = createFrozenAlarm(undefined, { clock, logger: loud });
  await calm.start();
  await calm.stop();
  assert.equal(said.length, 3);
});
