// Owns what the bench of failover asks of its figures.

import type { Stall } from './loop-probe.ts';

export interface FailoverFigures {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly handover: { readonly p50Ms: number };
  readonly stalls: Readonly<Record<string, Stall>>;
}

const p50MsMax = 600;
const p99MsMax = 1_000;
const handoverMsMax = 200;
/** What an event loop may compute at a stretch: half a heartbeat. How long it stood still besides is the machine's doing. */
const heldMsMax = 50;

/** The aims that these figures miss, each with its figure. */
export function missedAims({ p50Ms, p99Ms, handover, stalls }: FailoverFigures): string[] {
  const figures: readonly (readonly [what: string, figureMs: number, maxMs: number])[] = [
    ['p50 of failover', p50Ms, p50MsMax],
    ['p99 of failover', p99Ms, p99MsMax],
    ['p50 of handover', handover.p50Ms, handoverMsMax],
    ...Object.entries(stalls).map(([load, { heldMs }]) => [`held by ${load}`, heldMs, heldMsMax] as const),
  ];
  return figures
    .filter(([, figureMs, maxMs]) => !(figureMs <= maxMs))
    .map(([what, figureMs, maxMs]) => `${what}: ${figureMs} ms, at most ${maxMs}`);
}
