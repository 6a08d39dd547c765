// Owns the making of a fleet's project from the sample in nix/: two git repositories, one of the project and one of the
// input that `update` refreshes without a network.

import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Nix } from '../../node/host/index.ts';
import type { ProcessRunner } from '../../node/interfaces.ts';
import { ParleyError } from '../../protocols/errors.ts';

export interface SampleInit {
  /** Absolute folders that do not exist yet or are empty. */
  readonly projectFolder: string;
  readonly channelFolder: string;
  /** Names of the hosts; default: the sample's own six. A name that the sample knows keeps its sample file. */
  readonly hosts?: readonly SampleHost[];
  /** Nix's name of the devices' system; default: this machine's. */
  readonly system?: string;
}

export interface SampleHost {
  readonly name: string;
  /** Tags of a host that the sample does not know. */
  readonly tags?: readonly string[];
}

export interface SampleComponents {
  readonly runner: ProcessRunner;
  /** Locks the project's input. */
  readonly nix: Nix;
}

export interface Sample {
  /** The commit of the new project. */
  readonly revision: string;
  readonly hosts: readonly string[];
}

const sampleFolder = path.resolve(import.meta.dirname, '../../nix/sample');
const sampleChannelFolder = path.resolve(import.meta.dirname, '../../nix/sample-channel');

/** What keeps a person's own git configuration (signing, hooks, templates) out of the sample. */
const gitEnvironment = {
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'Parley sample',
  GIT_AUTHOR_EMAIL: 'sample@parley.invalid',
  GIT_COMMITTER_NAME: 'Parley sample',
  GIT_COMMITTER_EMAIL: 'sample@parley.invalid',
};

/**
 * Copies the sample, writes its hosts, and makes both git repositories. The project is locked to the channel's first
 * release while the channel is already one ahead, so that the first `update` brings something.
 */
export async function instantiateSample(init: SampleInit, components: SampleComponents): Promise<Sample> {
  const { projectFolder, channelFolder } = init;
  await createChannel(channelFolder, components.runner);
  await cp(sampleFolder, projectFolder, { recursive: true });
  await writeHosts(projectFolder, init.hosts);
  await replaceIn(path.join(projectFolder, 'flake.nix'), {
    '@channel@': encodeURI(channelFolder),
    '@system@': init.system ?? machineSystem(),
  });
  await git(components.runner, projectFolder, ['init', '--quiet', '--initial-branch=main']);
  await git(components.runner, projectFolder, ['add', '--all']);
  await components.nix.runChecked({
    program: 'nix',
    arguments: ['flake', 'lock', `git+file://${encodeURI(projectFolder)}`],
  });
  await commitAll(components.runner, projectFolder, 'Start from the sample');
  await writeChannelRelease(channelFolder, 'versions-next.nix', components.runner);
  const revision = await git(components.runner, projectFolder, ['rev-parse', 'HEAD']);
  return { revision, hosts: await hostNames(projectFolder) };
}

/** Nix's name for this machine's processor and system. */
export function machineSystem(): string {
  const processor = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  return `${processor}-${process.platform === 'darwin' ? 'darwin' : 'linux'}`;
}

async function createChannel(folder: string, runner: ProcessRunner): Promise<void> {
  await mkdir(folder, { recursive: true });
  await cp(path.join(sampleChannelFolder, 'flake.nix'), path.join(folder, 'flake.nix'));
  await git(runner, folder, ['init', '--quiet', '--initial-branch=main']);
  await writeChannelRelease(folder, 'versions.nix', runner);
}

async function writeChannelRelease(folder: string, fileName: string, runner: ProcessRunner): Promise<void> {
  const text = await readFile(path.join(sampleChannelFolder, fileName), 'utf8');
  await writeFile(path.join(folder, 'versions.nix'), text);
  const release = /release = "([^"]+)"/.exec(text)?.[1] ?? '';
  await commitAll(runner, folder, `Release ${release}`);
}

async function writeHosts(projectFolder: string, hosts: readonly SampleHost[] | undefined): Promise<void> {
  if (hosts === undefined) return;
  const folder = path.join(projectFolder, 'hosts');
  const known = await hostNames(projectFolder);
  const wanted = new Set(hosts.map((host) => host.name));
  for (const name of known) if (!wanted.has(name)) await rm(path.join(folder, `${name}.nix`));
  for (const host of hosts) {
    if (!known.includes(host.name)) await writeFile(path.join(folder, `${host.name}.nix`), hostText(host));
  }
}

function hostText(host: SampleHost): string {
  const tags = (host.tags ?? []).map((tag) => JSON.stringify(tag)).join(' ');
  return `{
  tags = [ ${tags} ];
  message = "Welcome to ${host.name}.";
  services = {
    greeter = "cat /etc/motd > /run/greeting";
  };
}
`;
}

async function hostNames(projectFolder: string): Promise<string[]> {
  const files = await readdir(path.join(projectFolder, 'hosts'));
  return files
    .filter((file) => file.endsWith('.nix'))
    .map((file) => file.slice(0, -'.nix'.length))
    .sort();
}

async function replaceIn(file: string, replacements: Readonly<Record<string, string>>): Promise<void> {
  let text = await readFile(file, 'utf8');
  for (const [placeholder, value] of Object.entries(replacements)) text = text.replaceAll(placeholder, value);
  await writeFile(file, text);
}

async function commitAll(runner: ProcessRunner, folder: string, message: string): Promise<void> {
  await git(runner, folder, ['add', '--all']);
  await git(runner, folder, ['commit', '--quiet', '--message', message]);
}

async function git(runner: ProcessRunner, folder: string, gitArguments: readonly string[]): Promise<string> {
  const result = await runner.run({
    program: 'git',
    arguments: ['-C', folder, ...gitArguments],
    environment: gitEnvironment,
  });
  if (result.exitCode === 0) return Buffer.from(result.stdout).toString('utf8').trim();
  throw new ParleyError('git-failed', `git ${gitArguments[0]} failed in '${folder}': ${result.stderr.trim()}`);
}
