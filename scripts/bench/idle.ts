//   node scripts/bench/idle.ts [--json]
// Measures what a peer costs while nothing happens: resident memory and processor time of a member (neither voter nor builder)
// of the sample fleet, and for comparison of a voter. Aims: 100 MiB and 0.5 % of a core.

import { setTimeout as wait } from 'node:timers/promises';
import { printFigures, readArguments, tell } from '../lib/tool.ts';
import { withSampleFleet } from './bench-fleet.ts';
import { usageOf } from './process-usage.ts';

readArguments(import.meta.filename, { json: { type: 'boolean' } });

/** After this the start's garbage has been collected and its elections are over. */
const settleMs = 30_000;
/** Four beats. */
const measureMs = 60_000;

const figures = await withSampleFleet(async ({ fleet }) => {
  const pidOf = (votes: boolean): number => {
    const plan = fleet.record.peers.find(({ roles }) => roles.includes('voter') === votes);
    const pid = fleet.peers.find(({ name }) => name === plan?.name)?.pid();
    if (pid === undefined) throw new Error('a peer of the sample fleet does not run');
    return pid;
  };
  tell(`letting the fleet settle for ${settleMs / 1000} s, then measuring for ${measureMs / 1000} s`);
  await wait(settleMs);
  const [member, voter] = await Promise.all([usageOf(pidOf(false), measureMs), usageOf(pidOf(true), measureMs)]);
  return { ...member, voter };
});
printFigures(figures);
process.exit(0);
