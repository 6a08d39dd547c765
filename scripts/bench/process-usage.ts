// Owns what a process costs as Linux tells it: its resident memory and the processor time that it has taken.

import { readFile } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { round } from '../lib/tool.ts';

/** Linux counts processor time of a process in hundredths of a second (USER_HZ) on all platforms that Node runs on. */
const ticksPerSecond = 100;

interface Usage {
  readonly rssMiB: number;
  readonly cpuPercent: number;
}

/** Its share of one core from now on for so long, and its memory at the end of that. */
export async function usageOf(pid: number, measureMs: number): Promise<Usage> {
  const before = await processorSeconds(pid);
  const startedMs = performance.now();
  await wait(measureMs);
  const seconds = (performance.now() - startedMs) / 1000;
  const cpuPercent = round((((await processorSeconds(pid)) - before) / seconds) * 100, 2);
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const rssKiB = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]);
  return { rssMiB: round(rssKiB / 1024, 1), cpuPercent };
}

export async function processorSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
