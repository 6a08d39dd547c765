// The benches of consensus keep working: a short run of each ends well and prints its figures as one object on the last line.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { missedAims } from '../../scripts/bench/failover-aims.ts';

const benches = path.resolve(import.meta.dirname, '../../scripts/bench');
const timeoutMs = 120_000;

async function figuresOf(bench: string): Promise<Record<string, unknown>> {
  const words = [path.join(benches, bench), '--json', '--quick'];
  const { stdout } = await promisify(execFile)(process.execPath, words, { timeout: timeoutMs });
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
}

test('bench/ledger.ts tells commits beside bare batches for each number of voters', async () => {
  const figures = await figuresOf('ledger.ts');
  for (const voters of [1, 3, 5]) {
    for (const batch of [1, 64]) {
      const rate = figures[`voters${voters}batch${batch}`] as Record<string, number>;
      assert.ok(
        Object.values(rate).every((figure) => figure > 0),
        JSON.stringify(figures),
      );
    }
  }
});

test('missedAims() names each figure that is over its aim', () => {
  const good = { stallMs: 900, heldMs: 49 };
  const figures = { p50Ms: 600, p99Ms: 1_000, handover: { p50Ms: 200 }, stalls: { build: good, transfer: good } };
  assert.deepEqual(missedAims(figures), []);
  const late = { ...figures, p99Ms: 1_001, stalls: { build: good, transfer: { stallMs: 51, heldMs: 50.1 } } };
  assert.deepEqual(missedAims(late), [
    'p99 of failover: 1001 ms, at most 1000',
    'held by transfer: 50.1 ms, at most 50',
  ]);
  assert.deepEqual(missedAims({ ...figures, p50Ms: Number.NaN }).length, 1, 'what was not measured is missed');
});

test('bench/failover.ts tells how long nobody led and how long event loops stood still', async () => {
  const figures = await figuresOf('failover.ts');
  for (const name of ['p50Ms', 'p99Ms', 'kills', 'longestStallMs', 'longestHeldMs']) {
    assert.ok(Number(figures[name]) > 0, JSON.stringify(figures));
  }
});
