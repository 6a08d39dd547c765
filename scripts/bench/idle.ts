// Measures what a peer costs while nothing happens: resident memory and processor time of a member (neither voter nor builder)
// of the sample fleet, and for comparison of a voter. Aims: 100 MiB and 0.5 % of a core.

import { readFile } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { printFigures, round, tell, withSampleFleet } from './bench-fleet.ts';

/** After this the start's garbage has been collected and its elections are over. */
const settleMs = 30_000;
/** Four beats. */
const measureMs = 60_000;
/** Linux counts processor time of a process in hundredths of a second (USER_HZ) on all platforms that Node runs on. */
const ticksPerSecond = 100;

interface Usage {
  readonly rssMiB: number;
  readonly cpuPercent: number;
}

async function usageOf(pid: number): Promise<Usage> {
  const before = await processorTicks(pid);
  const startedMs = performance.now();
  await wait(measureMs);
  const seconds = (performance.now() - startedMs) / 1000;
  const cpuPercent = ((await processorTicks(pid)) - before) / ticksPerSecond / seconds;
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const rssKiB = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]);
  return { rssMiB: round(rssKiB / 1024, 1), cpuPercent: round(cpuPercent * 100, 2) };
}

async function processorTicks(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

const figures = await withSampleFleet(async ({ fleet }) => {
  const pidOf = (votes: boolean): number => {
    const plan = fleet.record.peers.find(({ roles }) => roles.includes('voter') === votes);
    const pid = fleet.peers.find(({ name }) => name === plan?.name)?.pid();
    if (pid === undefined) throw new Error('a peer of the sample fleet does not run');
    return pid;
  };
  tell(`letting the fleet settle for ${settleMs / 1000} s, then measuring for ${measureMs / 1000} s`);
  await wait(settleMs);
  const [member, voter] = await Promise.all([usageOf(pidOf(false)), usageOf(pidOf(true))]);
  return { ...member, voter };
});
printFigures(figures);
process.exit(0);
