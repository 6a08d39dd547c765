// Owns what benches of whole fleets share: a sample fleet in a temporary folder, brought up as the demo does.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createLogger, createProcessRunner } from '../../node/host/index.ts';
import { type DemoFleet, foundFleet } from '../lib/demo-fleet.ts';
import { type DemoOptions, planPeers } from '../lib/demo-options.ts';
import { importProject, makeSample } from '../lib/demo-project.ts';
import { tell } from '../lib/tool.ts';

export interface BenchFleet {
  readonly fleet: DemoFleet;
  readonly folder: string;
  readonly signal: AbortSignal;
}

export const runner = createProcessRunner({ logger: createLogger({ level: 'silent' }) });
const benchMsMax = 540_000;
const defaults: DemoOptions = {
  help: false,
  script: undefined,
  project: undefined,
  keep: undefined,
  peers: undefined,
  sites: undefined,
  voters: undefined,
};

/** Runs one bench on the demo's own fleet; ends all peers and removes the folder afterwards. */
export async function withSampleFleet<T>(
  measure: (fleet: BenchFleet) => Promise<T>,
  options: { readonly logLevel?: 'debug' } = {},
): Promise<T> {
  const signal = AbortSignal.timeout(benchMsMax);
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-bench-'));
  let fleet: DemoFleet | undefined;
  try {
    tell('bringing up the sample fleet');
    const plans = planPeers(defaults, undefined);
    const workFolder = await makeSample(folder, plans, runner);
    fleet = await foundFleet({ folder, runner, signal, onProgress: tell, ...options }, plans);
    await importProject(fleet, workFolder, signal);
    return await measure({ fleet, folder, signal });
  } finally {
    await fleet?.stop();
    await runner.run({ program: 'chmod', arguments: ['-R', 'u+w', folder] });
    await rm(folder, { recursive: true, force: true });
  }
}
