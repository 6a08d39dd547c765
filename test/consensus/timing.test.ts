// How long voters wait for a leader, by what they measure, and in which order they stand once it is gone.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecentTimes } from '../../node/consensus/recent-times.ts';
import { electionTicksFor, type Measured, standDelayMs } from '../../node/consensus/timing-core.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { CoreGroup } from './core-group.ts';
import { Fleet, peerName } from './fleet.ts';

const quick: Measured = { leaderRttMs: 1, rttsMs: [1, 1], writeMs: 1 };
const ticksFor = (measured: Partial<Measured>, current = 5): number =>
  electionTicksFor({ ...quick, ...measured }, { current, minimumTicks: 5, tickMs: 100 });

test('electionTicksFor() is ten times the slowest of disk, leader and majority, within bounds', () => {
  assert.equal(ticksFor({}), 5);
  assert.equal(ticksFor({ leaderRttMs: undefined, rttsMs: [] }), 5);
  assert.equal(ticksFor({ writeMs: 80 }), 8);
  assert.equal(ticksFor({ leaderRttMs: 120 }), 12);
  assert.equal(ticksFor({ rttsMs: [90, 90] }), 9);
  assert.equal(ticksFor({ writeMs: 60_000 }), 100);
});

test('electionTicksFor() does not wait for voters that no majority needs', () => {
  assert.equal(ticksFor({ rttsMs: [1, 300] }), 5);
  assert.equal(ticksFor({ rttsMs: [300, 1, 300, 1] }), 5);
  assert.equal(ticksFor({ rttsMs: [300, 1, 200, 300] }), 20);
});

test('electionTicksFor() is raised at once and lowered only when much less will do', () => {
  assert.equal(ticksFor({ writeMs: 110 }, 10), 11);
  assert.equal(ticksFor({ writeMs: 90 }, 10), 10);
  assert.equal(ticksFor({ writeMs: 70 }, 10), 10);
  assert.equal(ticksFor({ writeMs: 60 }, 10), 6);
});

test('standDelayMs() lets voters stand one after another, from the lost leader on', () => {
  const delays = (lost: number, chance: number): number[] =>
    [1, 2, 3, 4, 5]
      .filter((self) => self !== lost)
      .map((self) => standDelayMs([5, 3, 1, 2, 4], { self, lost, tickMs: 100, chance }));
  assert.deepEqual(delays(3, 0), [200, 300, 0, 100]);
  assert.deepEqual(delays(5, 1), [25, 125, 225, 325]);
});

test('RecentTimes believes outliers only among many, and forgets what is old', () => {
  const clock = createManualClock();
  const times = new RecentTimes(clock);
  assert.equal(times.quantileMs(0.99), 0);
  for (const tookMs of [3, 900, 2, 4]) times.add(tookMs);
  assert.equal(times.quantileMs(0.99), 3);
  for (let count = 0; count < 60; count += 1) times.add(4);
  assert.equal(times.quantileMs(0.99), 4);
  for (let count = 0; count < 3; count += 1) times.add(500);
  assert.equal(times.quantileMs(0.99), 500);
  assert.equal(times.quantileMs(0.5), 4);
  for (let count = 0; count < 1_000; count += 1) times.add(7);
  assert.equal(times.quantileMs(0.99), 7);
  clock.advance(300_001);
  assert.equal(times.quantileMs(0.99), 0);
});

test('changeElectionTicks() makes a node wait longer from now on', () => {
  const group = new CoreGroup(1);
  const { raw } = group.node(1);
  raw.changeElectionTicks(40);
  for (let ticks = 0; ticks < 39; ticks += 1) raw.tick();
  assert.equal(raw.status().role, 'follower');
  for (let ticks = 0; ticks < 41; ticks += 1) raw.tick();
  assert.notEqual(raw.status().role, 'follower');
});

test('a voter among slow links stands for election less often', async () => {
  const clock = createManualClock();
  const fleet = new Fleet({ voters: 3, clock, heartbeatMs: 100, electionMinMs: 500 });
  const voter = fleet.voter(1);
  for (const raftId of [2, 3]) fleet.network.setRtt(peerName(raftId), 1_000);
  fleet.network.remove(peerName(2));
  fleet.network.remove(peerName(3));
  await fleet.bootstrap(voter);
  await voter.consensus.start();
  const opensWithin = async (ticks: number): Promise<number> => {
    const before = fleet.network.opens;
    for (let tick = 0; tick < ticks; tick += 1) {
      clock.advance(100);
      // What a tick leads to, links that open included, is over before the next.
      for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate);
    }
    return fleet.network.opens - before;
  };
  assert.ok((await opensWithin(49)) > 4, 'it stands again and again');
  await opensWithin(1);
  assert.equal(await opensWithin(95), 0);
  await voter.consensus.stop();
});
