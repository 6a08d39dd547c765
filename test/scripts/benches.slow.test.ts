// The benches of consensus keep working: a short run of each ends well and prints its figures as one object on the last line.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

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
  assert.ok(figures.certified === true && Array.isArray(figures.missed), JSON.stringify(figures));
});

test('bench/failover.ts tells how long nobody led and how long event loops stood still', async () => {
  const figures = await figuresOf('failover.ts');
  for (const name of ['p50Ms', 'p99Ms', 'kills', 'longestStallMs', 'longestHeldMs']) {
    assert.ok(Number(figures[name]) > 0, JSON.stringify(figures));
  }
  assert.ok(figures.certified === true && Array.isArray(figures.missed), JSON.stringify(figures));
});

test('bench/members.ts tells what members cost their controller, and what of it is too much', async () => {
  const figures = await figuresOf('members.ts');
  assert.ok(Number(figures.cpuPercent) > 0 && Array.isArray(figures.missed), JSON.stringify(figures));
});
