// Shows the form of log lines and the clock's contract.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger, systemClock } from '../../node/host/index.ts';
import { ParleyError } from '../../protocols/errors.ts';

test('createLogger() writes one JSON line per call from its level on', () => {
  const lines: string[] = [];
  const logger = createLogger({ level: 'info', destination: { write: (line) => lines.push(line) } });
  logger.debug({}, 'hidden');
  logger.child({ room: 'mesh' }).warn({ error: new ParleyError('code-a', 'text', { hint: 'Do it.' }) }, 'message');
  assert.equal(lines.length, 1);
  const record = JSON.parse(lines[0] ?? '');
  assert.equal(record.room, 'mesh');
  assert.equal(record.msg, 'message');
  assert.equal(record.error.code, 'code-a');
  assert.equal(record.error.hint, 'Do it.');
});

test('systemClock.after() calls once and not after it was cancelled', async () => {
  const keepAlive = setInterval(() => {}, 1_000);
  const calls: string[] = [];
  const cancel = systemClock.after(5, () => calls.push('cancelled'));
  cancel();
  await new Promise<void>((resolve) => {
    systemClock.after(10, () => {
      calls.push('due');
      resolve();
    });
  });
  clearInterval(keepAlive);
  assert.deepEqual(calls, ['due']);
});

test('systemClock.after() does not fire at once for a delay beyond the limit of timers', async () => {
  let fired = false;
  const cancel = systemClock.after(2 ** 40, () => {
    fired = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 5));
  cancel();
  assert.equal(fired, false);
});
