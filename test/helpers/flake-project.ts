// Gives tests a project: files of a flake, committed to a bare repository as a peer holds it.

import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ProcessRunner } from '../../node/interfaces.ts';

export interface FlakeProject {
  readonly repositoryFolder: string;
  /** Writes files (undefined removes nothing, texts replace), commits them, and returns the new revision. */
  commit(files: Readonly<Record<string, string>>): Promise<string>;
}

const environment = {
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'test',
  GIT_AUTHOR_EMAIL: 'test@parley.invalid',
  GIT_COMMITTER_NAME: 'test',
  GIT_COMMITTER_EMAIL: 'test@parley.invalid',
};

/** Makes an empty project below folder. */
export async function createFlakeProject(folder: string, runner: ProcessRunner): Promise<FlakeProject> {
  const workFolder = path.join(folder, 'work');
  const repositoryFolder = path.join(folder, 'project.git');
  const git = (...gitArguments: string[]) => runGit(runner, gitArguments);
  await git('init', '--quiet', '--initial-branch=main', workFolder);
  await git('init', '--quiet', '--bare', '--initial-branch=main', repositoryFolder);
  return {
    repositoryFolder,
    async commit(files) {
      for (const [name, text] of Object.entries(files)) {
        const file = path.join(workFolder, name);
        await mkdir(path.dirname(file), { recursive: true });
        await writeFile(file, text);
      }
      await git('-C', workFolder, 'add', '--all');
      await git('-C', workFolder, 'commit', '--quiet', '--allow-empty', '--message', 'change');
      await git('-C', workFolder, 'push', '--quiet', repositoryFolder, 'main');
      return await git('-C', workFolder, 'rev-parse', 'HEAD');
    },
  };
}

/** Pushes what a folder has committed into a bare repository. */
export async function pushTo(runner: ProcessRunner, workFolder: string, repositoryFolder: string): Promise<string> {
  await runGit(runner, ['init', '--quiet', '--bare', '--initial-branch=main', repositoryFolder]);
  await runGit(runner, ['-C', workFolder, 'push', '--quiet', repositoryFolder, 'main']);
  return await runGit(runner, ['-C', workFolder, 'rev-parse', 'HEAD']);
}

/** Runs git without anybody's own configuration; returns what it prints. */
export async function runGit(runner: ProcessRunner, gitArguments: readonly string[]): Promise<string> {
  const result = await runner.run({ program: 'git', arguments: gitArguments, environment });
  if (result.exitCode !== 0) throw new Error(`git ${gitArguments.join(' ')}: ${result.stderr}`);
  return Buffer.from(result.stdout).toString('utf8').trim();
}

const cheapFlake = `
{
  outputs = _: let
    system = "@system@";
    build = name: script: derivation { inherit name system; builder = "/bin/sh"; args = [ "-c" script ]; };
    host = toplevel: { config.system.build.toplevel = toplevel; };
  in {
@outputs@
  };
}
`;

/** Text of a flake.nix without inputs, in whose outputs \`build NAME SCRIPT\` and \`host DERIVATION\` are at hand. */
export function cheapFlakeText(system: string, outputs: string): string {
  return cheapFlake.replace('@system@', system).replace('@outputs@', () => outputs);
}
