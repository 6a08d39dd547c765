//   node scripts/bench/failover.ts [--json] [--quick]
// Measures how long a fleet of three voters is without a controller, and how long the voters' event loops stand still under
// load. Each voter is a process with the real consensus, certificates, LevelDB and libp2p on loopback; the state machine only
// counts: no ledger, no control. Times end when the new leader has committed an entry. A stall is told twice: as the clock saw
// it, and what of it the voter itself took (loop-probe.ts). Ends with 1 where an aim (aims.ts) is missed.

import { spawn } from 'node:child_process';
import { setTimeout as wait } from 'node:timers/promises';
import type { ConsensusStatus } from '../../node/consensus/index.ts';
import { readArguments, round, tell } from '../lib/tool.ts';
import { benchOptions, missedFailoverAims, printJudged } from './aims.ts';
import type { Stall } from './loop-probe.ts';
import { VoterGroup } from './voter-group.ts';

const { quick: isQuick } = readArguments(import.meta.filename, benchOptions).values;
const kills = isQuick ? 2 : 50;
const pauses = isQuick ? 1 : 20;
const handovers = isQuick ? 2 : 20;
const transferBytes = isQuick ? 2 ** 24 : 2 ** 30;
const busyMs = isQuick ? 500 : 10_000;
/** Programs that compute beside the voters, as a build does: one for each core. */
const busyPrograms = 2;
const pollMs = 5;
/** A snapshot of a state near the largest size is on its way within this time, too. */
const followMsMax = 120_000;
const voters = 3;

/** Ends the leader as a crash of its process does: its connections close. */
async function measureKill(group: VoterGroup): Promise<number> {
  const { leader } = group;
  const next = group.nextLeader();
  const startedMs = performance.now();
  group.signal(leader, 'SIGKILL');
  await next;
  const tookMs = performance.now() - startedMs;
  await group.kill(leader);
  await group.startVoter(leader);
  await untilAllFollow(group);
  return tookMs;
}

/** Stops the leader without a word, as a power cut or a dead cable does: its connections stay, and only time tells. */
async function measurePause(group: VoterGroup): Promise<number> {
  const { leader } = group;
  const next = group.nextLeader();
  const startedMs = performance.now();
  group.signal(leader, 'SIGSTOP');
  await next;
  const tookMs = performance.now() - startedMs;
  group.signal(leader, 'SIGCONT');
  await untilAllFollow(group);
  return tookMs;
}

async function measureHandover(group: VoterGroup): Promise<number> {
  const { leader } = group;
  const next = group.nextLeader();
  const startedMs = performance.now();
  await group.ask(leader, { do: 'hand-over', to: (leader % voters) + 1 });
  await next;
  const tookMs = performance.now() - startedMs;
  await untilAllFollow(group);
  return tookMs;
}

/** Everybody follows the same leader and has applied what it has. */
async function untilAllFollow(group: VoterGroup): Promise<void> {
  const deadlineMs = performance.now() + followMsMax;
  for (;;) {
    const all = await Promise.all(group.raftIds.map((raftId) => group.ask<ConsensusStatus>(raftId, { do: 'status' })));
    const last = Math.max(...all.map(({ lastIndex }) => lastIndex));
    const isOne = all.every(({ leader, appliedIndex }) => leader === group.leader && appliedIndex === last);
    if (isOne) return;
    if (performance.now() > deadlineMs)
      throw new Error(`the voters do not follow one leader after ${followMsMax} ms: ${JSON.stringify(all)}`);
    await wait(pollMs);
  }
}

/** The worst since it was last asked of the event loops of these voters. */
async function stallOf(group: VoterGroup, raftIds: readonly number[]): Promise<Stall> {
  const stalls = await Promise.all(raftIds.map((raftId) => group.ask<Stall>(raftId, { do: 'stall' })));
  const worst = (of: keyof Stall): number => round(Math.max(...stalls.map((stall) => stall[of])), 1);
  return { stallMs: worst('stallMs'), heldMs: worst('heldMs') };
}

async function stallDuring(group: VoterGroup, work: () => Promise<unknown>): Promise<Stall> {
  await stallOf(group, group.raftIds);
  await work();
  return stallOf(group, group.raftIds);
}

async function runBusyPrograms(): Promise<void> {
  const text =
    "const { createHash } = require('node:crypto'); for (;;) createHash('sha256').update(Buffer.alloc(2 ** 20)).digest();";
  const programs = Array.from({ length: busyPrograms }, () =>
    spawn(process.execPath, ['-e', text], { stdio: 'ignore' }),
  );
  await wait(busyMs);
  for (const program of programs) program.kill('SIGKILL');
}

/** A follower comes back to find the log gone and gets a snapshot of a state near the largest size. */
async function stallDuringSnapshot(group: VoterGroup, follower: number): Promise<Stall> {
  await group.kill(follower);
  await group.ask(group.leader, { do: 'propose', clients: 1, durationMs: 100 });
  await group.ask(group.leader, { do: 'compact' });
  await stallOf(
    group,
    group.raftIds.filter((raftId) => raftId !== follower),
  );
  const { lastIndex } = await group.ask<ConsensusStatus>(group.leader, { do: 'status' });
  await group.startVoter(follower);
  await stallOf(group, [follower]);
  await untilAllFollow(group);
  const stall = await stallOf(group, group.raftIds);
  const { firstIndex } = await group.ask<ConsensusStatus>(follower, { do: 'status' });
  if (firstIndex <= lastIndex) throw new Error('the follower came back without a snapshot');
  return stall;
}

function summary(times: readonly number[]): { p50Ms: number; p99Ms: number } {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number => Math.round(sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN);
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}

async function repeat(times: number, what: string, once: () => Promise<number>): Promise<number[]> {
  tell(`${times} times: ${what}`);
  const taken: number[] = [];
  for (let turn = 0; turn < times; turn += 1) taken.push(await once());
  return taken;
}

const group = await VoterGroup.start(voters);
try {
  await untilAllFollow(group);
  const killed = summary(await repeat(kills, 'the leader is killed', () => measureKill(group)));
  const silent = summary(await repeat(pauses, 'the leader falls silent', () => measurePause(group)));
  const handover = summary(await repeat(handovers, 'the leader hands over', () => measureHandover(group)));
  tell('looking for stalls of the event loop');
  const follower = (group.leader % voters) + 1;
  const transfer = { do: 'transfer', to: follower, bytes: transferBytes } as const;
  const idle = await stallDuring(group, () => wait(busyMs));
  const bulk = await stallDuring(group, () => group.ask(group.leader, transfer));
  const build = await stallDuring(group, runBusyPrograms);
  const snapshot = await stallDuringSnapshot(group, follower);
  const worst = (of: keyof Stall): number => Math.max(...[bulk, build, snapshot].map((stall) => stall[of]));
  const figures = {
    ...killed,
    kills,
    silent: { ...silent, pauses },
    handover: { ...handover, handovers },
    stalls: { idle, transfer: bulk, build, snapshot },
    longestStallMs: worst('stallMs'),
    longestHeldMs: worst('heldMs'),
  };
  printJudged({ ...figures, certified: true }, missedFailoverAims(figures));
} finally {
  await group.stop();
}
