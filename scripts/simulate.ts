// Runs whole simulated fleets through random schedules of faults, one for each seed, and says what must never happen and did:
//   node scripts/simulate.ts --seeds 1..500 [--json]     many seeds (1..100 unless told otherwise)
//   node scripts/simulate.ts --seeds 17 --trace          one seed with its events: it repeats its run exactly
// Tells of each seed as it is done, and prints figures. Exits with 1 when anything was violated.

import { printFigures, readArguments, refuse, tell } from './lib/tool.ts';
import { addCounts, noCounts } from './simulation/counts.ts';
import { type RunResult, runSeed } from './simulation/run.ts';
import { runInThreads } from './simulation/threads.ts';

export interface Summary {
  readonly seeds: number;
  readonly violations: readonly { readonly seed: number; readonly violations: readonly string[] }[];
  readonly acknowledgedCommands: number;
  readonly seedsPerSecond: number;
  readonly simulatedSeconds: number;
  readonly entries: number;
  readonly events: number;
  readonly counts: ReturnType<typeof noCounts>;
}

export interface SimulationOptions {
  readonly onResult?: (result: RunResult) => void;
  readonly onEvent?: (line: string) => void;
  /** Ends with the first seed that violates anything. */
  readonly stopsEarly?: boolean;
}

/** Runs seeds in one thread for each core; those whose events are wanted one after the other, here. */
export async function simulateSeeds(seeds: readonly number[], options: SimulationOptions = {}): Promise<Summary> {
  const { onResult, onEvent, stopsEarly = false } = options;
  const started = performance.now();
  const counts = noCounts();
  const sums = { seeds: 0, acknowledgedCommands: 0, simulatedMs: 0, entries: 0, events: 0 };
  const violations: Summary['violations'][number][] = [];
  const take = (result: RunResult): 'go on' | 'enough' => {
    sums.seeds += 1;
    for (const field of ['acknowledgedCommands', 'simulatedMs', 'entries', 'events'] as const)
      sums[field] += result[field];
    addCounts(counts, result.counts);
    if (result.violations.length > 0) violations.push({ seed: result.seed, violations: result.violations });
    onResult?.(result);
    return stopsEarly && violations.length > 0 ? 'enough' : 'go on';
  };
  if (onEvent === undefined && seeds.length > 1) await runInThreads(seeds, take);
  else for (const seed of seeds) if (take(await runSeed({ seed, ...(onEvent && { onEvent }) })) === 'enough') break;
  violations.sort((a, b) => a.seed - b.seed);
  const { simulatedMs, ...rest } = sums;
  const seedsPerSecond = (1_000 * sums.seeds) / (performance.now() - started);
  return { ...rest, violations, seedsPerSecond, simulatedSeconds: Math.round(simulatedMs / 1_000), counts };
}

/** `17` or `1..500`. */
function seedsOf(text: string): number[] {
  const [first = Number.NaN, last = first] = (/^(\d{1,9})(?:\.\.(\d{1,9}))?$/.exec(text)?.slice(1) ?? [])
    .filter((number) => number !== undefined)
    .map(Number);
  if (!(first <= last)) refuse(`'${text}' names no seeds`, 'Say --seeds 17 or --seeds 1..500.');
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}

async function main(): Promise<void> {
  const { values } = readArguments(import.meta.filename, {
    seeds: { type: 'string', default: '1..100' },
    json: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
  });
  const summary = await simulateSeeds(seedsOf(values.seeds), {
    ...(values.trace ? { onEvent: (line: string) => console.log(line) } : {}),
    onResult({ seed, violations, fingerprint, entries, events }) {
      if (violations.length > 0) tell(`seed ${seed} is violated: ${violations.join('; ')}`);
      else tell(`seed ${seed} holds: ${entries} entries, ${events} events, ${fingerprint}`);
    },
  });
  printFigures(summary);
  if (summary.violations.length > 0) process.exitCode = 1;
}

if (import.meta.main) await main();
