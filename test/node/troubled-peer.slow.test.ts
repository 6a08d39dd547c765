import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { createProcessRunner } from '../../node/host/index.ts';
import { ask } from '../../scripts/lib/demo-fleet.ts';
import { cheapFlakeText, runGit } from '../helpers/flake-project.ts';
import { logger } from '../mesh/fixtures.ts';
import { startPeer } from './tested-peer.ts';

const runner = createProcessRunner({ logger });
const parley = path.resolve(import.meta.dirname, '../../scripts/parley');
const oldNix = path.resolve(import.meta.dirname, '../fixtures/bin/old-nix');

async function createFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-troubled-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A folder with every program of PATH but Nix. */
async function programsWithoutNix(t: TestContext): Promise<string> {
  const folder = await createFolder(t);
  for (const place of (process.env.PATH ?? '').split(':')) {
    for (const name of await readdir(place).catch(() => [])) {
      if (!name.startsWith('nix'))
        await symlink(path.join(place, name), path.join(folder, name)).catch(() => undefined);
    }
  }
  return folder;
}

/** Peers that start in this test find their programs there. */
function usePath(t: TestContext, folders: string): void {
  const before = process.env.PATH;
  process.env.PATH = folders;
  t.after(() => {
    process.env.PATH = before;
  });
}

async function createWorkFolder(t: TestContext): Promise<string> {
  const work = path.join(await createFolder(t), 'work');
  await mkdir(work);
  await runGit(runner, ['init', '--quiet', '--initial-branch=main', work]);
  await writeFile(path.join(work, 'flake.nix'), cheapFlakeText('x86_64-linux', 'nixosConfigurations = {};'));
  await runGit(runner, ['-C', work, 'add', '--all']);
  return work;
}

/** Starts a peer and deploys; gives what went wrong with the deploy. */
async function troubleOfDeploy(t: TestContext): Promise<string> {
  const peer = await startPeer(t);
  const options = { workFolder: await createWorkFolder(t), follow: true };
  const signal = AbortSignal.timeout(60_000);
  await ask([peer.socket], { name: 'commit', message: 'first' }, signal, options);
  const deploy = { name: 'deploy', selector: '@all', keepGoing: false, commitMessage: null } as const;
  const trouble = await ask([peer.socket], deploy, signal, { follow: true }).then(
    () => 'none',
    (error: Error) => error.message,
  );
  await peer.answers('after the deploy');
  return trouble;
}

test('a second peer on one state folder ends, names the first, and does not disturb it', async (t) => {
  const peer = await startPeer(t);
  const second = await runner.run({
    program: parley,
    arguments: ['run', '--state', peer.stateFolder],
    timeoutMs: 60_000,
  });
  assert.equal(second.exitCode, 1);
  assert.match(second.stderr, new RegExp(`cannot use the state folder '${peer.stateFolder}': .*${peer.pid()}`));
  await peer.answers('after the second');
});

test('a peer without Nix starts, and its deploy fails and says what to install', async (t) => {
  usePath(t, await programsWithoutNix(t));
  assert.match(await troubleOfDeploy(t), /Nix is needed here: there is no program 'nix' on PATH/);
});

test('a peer with an old Nix starts, and its deploy fails and says which Nix there is', async (t) => {
  usePath(t, `${oldNix}:${process.env.PATH}`);
  assert.match(await troubleOfDeploy(t), /Nix 2\.8 or newer is needed: this machine has 'nix \(Nix\) 2\.3\.16'/);
});
