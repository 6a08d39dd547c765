// Owns the refreshing of a flake's inputs: a new flake.lock for a tree that is not committed yet. Nothing but the lock file
// comes back, and the tree that was asked about stays as it is.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { UpdateRequest, UpdateResult } from '../../protocols/build-job.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { BuildNix, BuildProject } from './index.ts';
import { diffLocks, inputNames } from './lock-diff-core.ts';
import type { Watcher } from './shared-jobs.ts';

const updateTimeoutMs = 10 * 60_000;

export interface UpdaterComponents {
  readonly nix: BuildNix;
  readonly project: BuildProject;
}

export type Updater = (request: UpdateRequest, watcher: Watcher) => Promise<UpdateResult>;

/** @returns the function that updates inputs. */
export function createUpdater({ nix, project }: UpdaterComponents): Updater {
  return async (request, watcher) => {
    const options = { signal: watcher.signal };
    if (request.base !== null) await project.ensureRevision(request.base, options);
    if (request.pack !== null) await project.ensurePack(request.pack, options);
    const folder = await mkdtemp(path.join(tmpdir(), 'parley-update-'));
    try {
      await project.checkout(request.tree, folder);
      return await updateFolder(nix, folder, request.inputs, watcher);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  };
}

/** Refreshes the inputs of the flake in a folder, whose flake.lock is rewritten. */
async function updateFolder(
  nix: BuildNix,
  folder: string,
  inputs: readonly string[],
  watcher: Watcher,
): Promise<UpdateResult> {
  const lockFile = path.join(folder, 'flake.lock');
  const before = await readFile(lockFile, 'utf8').catch(() => undefined);
  const version = await nix.requireVersion();
  await nix
    .runChecked({
      program: 'nix',
      arguments: updateArguments(version, `path:${encodeURI(folder)}`, inputs),
      signal: watcher.signal,
      timeoutMs: updateTimeoutMs,
      onStderrLine: (line) => reportLine(line, watcher),
    })
    .catch((error: unknown) => {
      throw explained(error);
    });
  const after = await readFile(lockFile, 'utf8').catch(() => undefined);
  const known = inputNames(after);
  const unknown = inputs.find((input) => !known.includes(input.split('/')[0] ?? ''));
  if (unknown !== undefined) {
    const state = known.length === 0 ? 'it has none' : `it has ${known.map((name) => `'${name}'`).join(', ')}`;
    throw new ParleyError('unknown-input', `the flake has no input '${unknown}': ${state}`);
  }
  // A flake without inputs has no lock file either.
  if (after === undefined) return { lockFile: before ?? '', changes: [] };
  return { lockFile: after, changes: diffLocks(before, after) };
}

/** The inputs to refresh are arguments of `nix flake update` from 2.19 on, before that options of `nix flake lock`. */
function updateArguments(version: string, flake: string, inputs: readonly string[]): string[] {
  const [, major = '2', minor = '8'] = /(\d+)\.(\d+)/.exec(version.slice(version.lastIndexOf(')') + 1)) ?? [];
  const isRecent = Number(major) > 2 || Number(minor) >= 19;
  if (isRecent) return ['flake', 'update', ...inputs, '--flake', flake];
  if (inputs.length === 0) return ['flake', 'update', flake];
  return ['flake', 'lock', flake, ...inputs.flatMap((input) => ['--update-input', input])];
}

/** Nix calls the news of a new lock file a warning, and names our temporary folder in it. */
function reportLine(line: string, watcher: Watcher): void {
  const plain = stripVTControlCharacters(line).trimEnd();
  if (plain === '' || plain.startsWith('warning: updating lock file')) return;
  const warning = /^warning:\s*(.*)$/.exec(plain)?.[1];
  watcher.onLog?.(warning === undefined ? { level: 'info', text: plain } : { level: 'warning', text: warning });
}

/** A person asked for this and can ask again: what failed is told, not tried for ever. */
function explained(error: unknown): unknown {
  if (!(error instanceof ParleyError) || error.code === 'cancelled') return error;
  const state = error.message.replace(/^nix failed: /, '');
  return new ParleyError('update-failed', `the inputs cannot be updated: ${state}`, { cause: error });
}
