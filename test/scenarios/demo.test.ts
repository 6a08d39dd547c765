// Shows what people rely on in the demo itself: another project, other sizes, nothing left behind.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import type { StatusView } from '../../protocols/views.ts';
import { keptFolder, runDemo } from './demo-runner.ts';

const sample = path.resolve(import.meta.dirname, '../../nix/sample');
const demo = path.resolve(import.meta.dirname, '../../scripts/demo');

/** A flake of its own: no inputs, derivations that need nothing but the sandbox's shell. */
const ownFlake = `{
  outputs = { self }: {
    nixosConfigurations = builtins.listToAttrs (map (name: {
      inherit name;
      value.config.system.build.toplevel = derivation {
        inherit name;
        system = builtins.currentSystem or "${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux";
        builder = "/bin/sh";
        args = [ "-c" "echo \${name} > $out" ];
      };
    }) [ "one" "two" "three" ]);
  };
}
`;

test('a project of the operator is copied, built and deployed, and left as it is', async (t) => {
  const project = await keptFolder(t);
  await writeFile(path.join(project, 'flake.nix'), ownFlake);
  const run = await runDemo(
    t,
    ['status --json', '-deploy @all', '-approve t2', 'tasks --all --json'],
    ['--project', project, '--voters', '1', '--sites', '3'],
  );
  assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`);
  const status: StatusView = JSON.parse(run.outputOf('status --json'));
  assert.deepEqual(
    status.peers.map(({ name, site, online }) => [name, site, online]),
    [
      ['one', 'home', true],
      ['three', 'shop', true],
      ['two', 'depot', true],
    ],
  );
  assert.match(run.outputOf('-deploy @all'), /Plan [0-9a-f]{8} by root@one: 3 hosts, 3 closures/);
  assert.equal(await readFile(path.join(project, 'flake.nix'), 'utf8'), ownFlake);
  assert.ok(!existsSync(path.join(project, '.git')) && !existsSync(path.join(project, 'flake.lock')));
});

test('a folder without a flake, and one without hosts, are refused before any peer starts', async (t) => {
  const empty = await keptFolder(t);
  const refused = await runDemo(t, ['status'], ['--project', empty]);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /has no flake\.nix/);
  await cp(path.join(sample, 'parley.nix'), path.join(empty, 'parley.nix'));
  await writeFile(path.join(empty, 'flake.nix'), '{ outputs = { self }: { }; }');
  assert.match((await runDemo(t, ['status'], ['--project', empty])).stderr, /no nixosConfigurations/);
});

test('peers end with the demo even when it is killed', async (t) => {
  const keep = await keptFolder(t);
  const child = spawn(demo, ['--peers', '2', '--voters', '1', '--keep', keep, '--run', '-'], { stdio: 'pipe' });
  t.after(() => child.kill('SIGKILL'));
  child.stdin.write('demo peers\n');
  let text = '';
  for await (const chunk of child.stdout) {
    text += chunk;
    if (/home-gate .*\n.*shop-till .*\n/.test(text)) break;
  }
  const pids = [...text.matchAll(/running +([0-9]+)/g)].map((match) => Number(match[1]));
  assert.equal(pids.length, 2, text);
  child.kill('SIGKILL');
  await once(child, 'exit');
  const deadlineMs = performance.now() + 15_000;
  while (pids.some(isRunning) && performance.now() < deadlineMs)
    await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(pids.filter(isRunning), []);
});

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
