import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { createDialer } from '../../node/mesh/dialer.ts';
import { manualClock } from './fixtures.ts';

function prepare(self: string) {
  const clock = manualClock();
  const dialledAtMs: number[] = [];
  const connected = new Set<string>();
  let reachable = false;
  const dialer = createDialer({
    self,
    clock,
    random: (count) => new Uint8Array(count).fill(128),
    isConnected: (peer) => connected.has(peer),
    async dial(peer) {
      dialledAtMs.push(clock.monotonicMs());
      if (!reachable) throw new Error('refused');
      connected.add(peer);
      dialer.gained(peer);
    },
  });
  const run = async (durationMs: number) => {
    for (let passedMs = 0; passedMs < durationMs; passedMs += 50) {
      clock.advance(50);
      await turn();
    }
  };
  const reach = () => {
    reachable = true;
  };
  return { clock, connected, dialer, dialledAtMs, run, reach };
}

test('createDialer() dials soon, then less and less often, at least every 10 s', async () => {
  const { dialer, dialledAtMs, run } = prepare('a');
  dialer.want(['a', 'b']);
  await run(60_000);
  const [first = Infinity] = dialledAtMs;
  assert.ok(first < 250, String(dialledAtMs));
  const pauses = dialledAtMs.slice(1).map((atMs, index) => atMs - (dialledAtMs[index] ?? 0));
  assert.ok(
    pauses.every((pauseMs, index) => pauseMs <= 10_050 && pauseMs + 100 >= (pauses[index - 1] ?? 0)),
    String(pauses),
  );
  assert.ok(dialledAtMs.length >= 9 && dialledAtMs.length <= 16, String(dialledAtMs.length));
});

test('createDialer() dials at once when something new is known', async () => {
  const { dialer, dialledAtMs, run } = prepare('a');
  dialer.want(['b']);
  await run(30_000);
  const before = dialledAtMs.length;
  dialer.nudge('b');
  await run(250);
  assert.equal(dialledAtMs.length, before + 1);
});

test('createDialer() is quick after a steady connection and slow after fleeting ones', async () => {
  const { connected, dialer, dialledAtMs, run, reach } = prepare('a');
  reach();
  dialer.want(['b']);
  await run(10_000);
  assert.equal(dialledAtMs.length, 1);
  connected.delete('b');
  dialer.lost('b');
  await run(250);
  assert.equal(dialledAtMs.length, 2);
  for (let round = 0; round < 40; round++) {
    if (connected.delete('b')) dialer.lost('b');
    await run(500);
  }
  assert.ok(dialledAtMs.length <= 9, `${dialledAtMs.length} dials in 20 s`);
});

test('createDialer() lets the smaller id dial first and forgets who is not wanted', async () => {
  const [small, large] = [prepare('a'), prepare('z')];
  for (const { dialer, run } of [small, large]) {
    dialer.want(['m']);
    await run(350);
  }
  assert.deepEqual([small.dialledAtMs.length > 0, large.dialledAtMs.length], [true, 0]);
  large.dialer.want([]);
  small.dialer.stop();
  const before = small.dialledAtMs.length;
  for (const { run } of [small, large]) await run(20_000);
  assert.deepEqual([small.dialledAtMs.length, large.dialledAtMs.length], [before, 0]);
});
