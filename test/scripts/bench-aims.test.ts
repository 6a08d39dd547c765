// What the benches ask of their figures, and what counts as time that an event loop took.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { missedFailoverAims, missedLedgerAims, missedMembersAims } from '../../scripts/bench/aims.ts';
import { heldMsOf, probeLoop } from '../../scripts/bench/loop-probe.ts';

test('missedFailoverAims() names each figure that is over its aim', () => {
  const good = { stallMs: 900, heldMs: 49 };
  const figures = { p50Ms: 600, p99Ms: 1_000, handover: { p50Ms: 200 }, stalls: { build: good, transfer: good } };
  assert.deepEqual(missedFailoverAims(figures), []);
  const late = { ...figures, p99Ms: 1_001, stalls: { build: good, transfer: { stallMs: 51, heldMs: 50.1 } } };
  assert.deepEqual(missedFailoverAims(late), [
    'p99 of failover: 1001 ms, at most 1000',
    'held by transfer: 50.1 ms, at most 50',
  ]);
  assert.equal(missedFailoverAims({ ...figures, p50Ms: Number.NaN }).length, 1, 'what was not measured is missed');
});

test('missedLedgerAims() and missedMembersAims() name what is too slow, too large or too much', () => {
  const commits = (commitsPerSecond: number, p50Ms: number) => ({ commitsPerSecond, p50Ms });
  assert.deepEqual(missedLedgerAims({ voters1batch1: commits(2_000, 1), voters3batch64: commits(5_000, 12) }), []);
  assert.deepEqual(missedLedgerAims({ voters1batch1: commits(1_999, 1.1), voters3batch64: commits(4_000, 12) }), [
    'commits of one voter: 1999 /s, at least 2000',
    'p50 of a commit of one voter: 1.1 ms, at most 1',
    'commits of three voters, 64 together: 4000 /s, at least 5000',
  ]);
  assert.equal(missedLedgerAims({}).length, 3);
  const good = { cpuPercent: 2, catchUp: { with3Of5: 400 }, storm: { failures: 0 } };
  assert.deepEqual(missedMembersAims(good), []);
  const bad = { cpuPercent: 2.1, catchUp: { with3Of5: 401 }, storm: { failures: 3 } };
  assert.deepEqual(missedMembersAims(bad), [
    'processor of the controller: 2.1 %, at most 2',
    'catch-up beyond the entries: 401 bytes, at most 400',
    'members that a storm keeps out: 3, at most 0',
  ]);
});

test('heldMsOf() counts what the loop computed or waited for in a call, not what others had the processor for', () => {
  const gap = { wallMs: 101, idleMs: 1, processorMs: 2, waitedMs: 0 };
  assert.equal(heldMsOf(gap), 100, 'a synchronous read or fsync');
  assert.equal(heldMsOf({ ...gap, processorMs: 100 }), 100, 'a long computation');
  assert.equal(heldMsOf({ ...gap, waitedMs: 98 }), 2, 'a busy neighbour while it works');
  assert.equal(heldMsOf({ ...gap, idleMs: 99, waitedMs: 98 }), 2, 'a busy neighbour while it rests');
  assert.equal(heldMsOf({ wallMs: 160, idleMs: 61, processorMs: 1, waitedMs: 60 }), 99, 'one and then the other');
  assert.equal(heldMsOf({ ...gap, waitedMs: 40 }), 2, 'helpers that the thread waits for wait as it does');
  assert.equal(heldMsOf({ ...gap, waitedMs: undefined }), 2, 'where nobody tells');
});

test('probeLoop() sees a loop that stands in a system call', { skip: process.platform !== 'linux' }, async (t) => {
  const stopping = new AbortController();
  const worst = probeLoop(stopping.signal);
  t.after(() => stopping.abort());
  await wait(20);
  worst();
  spawnSync('sleep', ['0.5']);
  await wait(20);
  const { stallMs, heldMs } = worst();
  assert.ok(stallMs >= 480, `${stallMs}`);
  assert.ok(heldMs > 50, `${heldMs}`);
});
