// Owns the work folder of the demo: the sample project, or a copy of the operator's own flake. The original is only read.

import { existsSync, lstatSync } from 'node:fs';
import { cp, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { createNix, type Nix } from '../../node/host/index.ts';
import type { ProcessRunner } from '../../node/interfaces.ts';
import type { Command } from '../../protocols/control.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { ask, type DemoFleet } from './demo-fleet.ts';
import type { PeerPlan } from './demo-options.ts';
import { instantiateSample } from './sample.ts';

const evaluationMsMax = 300_000;
/** A project without a `parley` output never gets a policy; then root decides. */
const policyMsMax = 30_000;
const policyPollMs = 200;
const firstMessage = 'Import the project';
/** Keeps a person's own git configuration (signing, hooks) out of the copy. */
const gitEnvironment = {
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'Parley demo',
  GIT_AUTHOR_EMAIL: 'demo@parley.invalid',
  GIT_COMMITTER_NAME: 'Parley demo',
  GIT_COMMITTER_EMAIL: 'demo@parley.invalid',
};

/** A Nix whose store and settings are the demo's own, so that not even the person's evaluation caches change. */
export function demoNix(folder: string, runner: ProcessRunner): Nix {
  return createNix({ store: path.join(folder, 'store'), cacheHome: path.join(folder, 'cache') })({ runner });
}

export function workFolderOf(folder: string): string {
  return path.join(folder, 'project');
}

/** Makes the sample project with one host for each peer. */
export async function makeSample(folder: string, peers: readonly PeerPlan[], runner: ProcessRunner): Promise<string> {
  const workFolder = workFolderOf(folder);
  await instantiateSample(
    {
      projectFolder: workFolder,
      channelFolder: path.join(folder, 'channel'),
      hosts: peers.map(({ name, site }) => ({ name, tags: [site] })),
    },
    { runner, nix: demoNix(folder, runner) },
  );
  return workFolder;
}

/**
 * Copies a flake with what git tracks or would track (all of a folder that is no checkout) into a repository of its own.
 * @throws ParleyError `not-a-flake`
 */
export async function copyProject(folder: string, source: string, runner: ProcessRunner): Promise<string> {
  const original = path.resolve(source);
  const workFolder = workFolderOf(folder);
  if (!existsSync(path.join(original, 'flake.nix'))) {
    throw new ParleyError('not-a-flake', `'${original}' has no flake.nix`, { hint: 'Name the folder of a flake.' });
  }
  await mkdir(workFolder);
  const files = await projectFiles(original, runner);
  if (files === undefined) {
    await cp(original, workFolder, { recursive: true, filter: (from) => path.basename(from) !== '.git' });
  } else {
    for (const file of files) {
      const from = path.join(original, file);
      if (lstatSync(from, { throwIfNoEntry: false }))
        await cp(from, path.join(workFolder, file), { recursive: true, verbatimSymlinks: true });
    }
  }
  await git(runner, workFolder, ['init', '--quiet', '--initial-branch=main']);
  await git(runner, workFolder, ['add', '--all']);
  await git(runner, workFolder, ['commit', '--quiet', '--allow-empty', '--message', firstMessage]);
  return workFolder;
}

/** Names of the project's hosts. @throws ParleyError with Nix's own message, or `no-hosts` */
export async function hostsOf(folder: string, workFolder: string, runner: ProcessRunner): Promise<string[]> {
  const url = JSON.stringify(`git+file://${encodeURI(workFolder)}`);
  const expression = `builtins.attrNames ((builtins.getFlake ${url}).nixosConfigurations or {})`;
  const { stdout } = await demoNix(folder, runner).runChecked({
    program: 'nix',
    arguments: ['eval', '--json', '--impure', '--no-write-lock-file', '--expr', expression],
    timeoutMs: evaluationMsMax,
  });
  const hosts = JSON.parse(Buffer.from(stdout).toString('utf8')) as string[];
  if (hosts.length > 0) return hosts;
  throw new ParleyError('no-hosts', 'the project has no nixosConfigurations', {
    hint: 'The demo needs at least one host to deploy.',
  });
}

/** Commits the work folder as the fleet's first commit, as root, and waits until its policy is in force. */
export async function importProject(fleet: DemoFleet, workFolder: string, signal: AbortSignal): Promise<void> {
  const commit: Command = { name: 'commit', message: firstMessage };
  await ask(fleet.sockets(), commit, signal, { workFolder, follow: true });
  const deadlineMs = performance.now() + policyMsMax;
  while ((await fleet.status(signal)).policyRevision === null && performance.now() < deadlineMs) {
    await wait(policyPollMs, undefined, { signal });
  }
}

async function projectFiles(folder: string, runner: ProcessRunner): Promise<string[] | undefined> {
  const list = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const result = await runner.run({
    program: 'git',
    arguments: ['-c', `safe.directory=${folder}`, '-C', folder, ...list],
    environment: gitEnvironment,
  });
  if (result.exitCode !== 0) return undefined;
  return [...new Set(Buffer.from(result.stdout).toString('utf8').split('\0'))].filter((file) => file !== '');
}

async function git(runner: ProcessRunner, folder: string, words: readonly string[]): Promise<void> {
  const result = await runner.run({ program: 'git', arguments: ['-C', folder, ...words], environment: gitEnvironment });
  if (result.exitCode === 0) return;
  throw new ParleyError('git-failed', `git ${words[0]} failed in '${folder}': ${result.stderr.trim()}`);
}
