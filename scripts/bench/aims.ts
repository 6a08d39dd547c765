// Owns what the benches ask of their figures. All do alike: `missed` in the output names each figure that is over or under its
// aim, and the bench then ends with 1. A short run (--quick) tells what it missed and ends well: it says that the bench works.

import { printFigures } from '../lib/tool.ts';
import type { Stall } from './loop-probe.ts';

export const benchOptions = {
  json: { type: 'boolean', default: false },
  quick: { type: 'boolean', default: false },
} as const;

export interface FailoverFigures {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly handover: { readonly p50Ms: number };
  readonly stalls: Readonly<Record<string, Stall>>;
}

/** By `voters3batch64` and the like. */
export type LedgerFigures = Readonly<Record<string, { readonly commitsPerSecond: number; readonly p50Ms: number }>>;

export interface MembersFigures {
  readonly cpuPercent: number;
  readonly catchUp: { readonly with3Of5: number };
  readonly storm: { readonly failures: number };
}

type Aim = readonly [what: string, figure: number, bound: 'at most' | 'at least', limit: number, unit: string];

/** What an event loop may take at a stretch: half a heartbeat. How long it stood still besides is the machine's doing. */
const heldMsMax = 50;

/** The aims that these figures miss, each with its figure; what was not measured is missed. */
export function missedFailoverAims({ p50Ms, p99Ms, handover, stalls }: FailoverFigures): string[] {
  return missed([
    ['p50 of failover', p50Ms, 'at most', 600, 'ms'],
    ['p99 of failover', p99Ms, 'at most', 1_000, 'ms'],
    ['p50 of handover', handover.p50Ms, 'at most', 200, 'ms'],
    ...Object.entries(stalls).map(
      ([load, { heldMs }]) => [`held by ${load}`, heldMs, 'at most', heldMsMax, 'ms'] as const,
    ),
  ]);
}

export function missedLedgerAims({ voters1batch1, voters3batch64 }: LedgerFigures): string[] {
  return missed([
    ['commits of one voter', voters1batch1?.commitsPerSecond ?? Number.NaN, 'at least', 2_000, '/s'],
    ['p50 of a commit of one voter', voters1batch1?.p50Ms ?? Number.NaN, 'at most', 1, 'ms'],
    ['commits of three voters, 64 together', voters3batch64?.commitsPerSecond ?? Number.NaN, 'at least', 5_000, '/s'],
  ]);
}

export function missedMembersAims({ cpuPercent, catchUp, storm }: MembersFigures): string[] {
  return missed([
    ['processor of the controller', cpuPercent, 'at most', 2, '%'],
    ['catch-up beyond the entries', catchUp.with3Of5, 'at most', 400, 'bytes'],
    ['members that a storm keeps out', storm.failures, 'at most', 0, ''],
  ]);
}

function missed(aims: readonly Aim[]): string[] {
  const isMet = ([, figure, bound, limit]: Aim): boolean => (bound === 'at most' ? figure <= limit : figure >= limit);
  return aims
    .filter((aim) => !isMet(aim))
    .map(([what, figure, bound, limit, unit]) => `${what}: ${`${figure} ${unit}`.trim()}, ${bound} ${limit}`);
}

/** Prints figures with what they miss, and sets how the process ends. */
export function printJudged(figures: Record<string, unknown>, missedAims: readonly string[]): void {
  printFigures({ ...figures, missed: missedAims });
  if (missedAims.length > 0 && !process.argv.includes('--quick')) process.exitCode = 1;
}
