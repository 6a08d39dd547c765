// Gives tests a diverted Nix store of their own and removes it again.

import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  createLogger,
  createNix,
  createProcessRunner,
  createRecordingRunner,
  type Nix,
} from '../../node/host/index.ts';
import type { Logger, ProcessRunner, ProgramRecorder } from '../../node/interfaces.ts';

export interface TestNix {
  readonly folder: string;
  readonly runner: ProcessRunner & ProgramRecorder;
  readonly logger: Logger;
  readonly nix: Nix;
  remove(): Promise<void>;
}

/** A fresh folder with an empty store. Call `remove` after the test. */
export async function createTestNix(): Promise<TestNix> {
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-nix-'));
  const logger = createLogger({ level: 'silent' });
  const runner = createRecordingRunner(createProcessRunner({ logger }));
  const nix = createNix({ store: path.join(folder, 'store'), cacheHome: path.join(folder, 'cache') })({ runner });
  return { folder, runner, logger, nix, remove: () => removeStore(folder) };
}

/** Removes a folder that may hold store paths, whose folders are read-only. */
export async function removeStore(folder: string): Promise<void> {
  await makeWritable(folder);
  await rm(folder, { recursive: true, force: true });
}

async function makeWritable(folder: string): Promise<void> {
  await chmod(folder, 0o700).catch(() => {});
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await makeWritable(path.join(folder, entry.name));
}
