// Shows that the sample project builds with real Nix, and that its toplevels keep the contract of NixOS's switch inside a
// container that has nothing but their own store.

import assert from 'node:assert/strict';
import { readFile, readlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type Builder, createBuilder, diffClosures } from '../../node/build/index.ts';
import { systemClock } from '../../node/host/index.ts';
import { createProject } from '../../node/project/index.ts';
import type { BuildResult } from '../../protocols/build-job.ts';
import { check } from '../../protocols/codec.ts';
import { narBytesOf } from '../../protocols/manifest.ts';
import { parleyOutputSchema } from '../../protocols/policy.ts';
import { instantiateSample, machineSystem } from '../../scripts/lib/sample.ts';
import { pushTo, runGit } from '../helpers/flake-project.ts';
import { createTestNix, type TestNix } from '../helpers/nix-store.ts';

const signal = new AbortController().signal;
const mebibyte = 1024 ** 2;
let testNix: TestNix;
let builder: Builder;
let projectFolder: string;
let repositoryFolder: string;
let revision: string;

before(async () => {
  testNix = await createTestNix();
  projectFolder = path.join(testNix.folder, 'project');
  repositoryFolder = path.join(testNix.folder, 'project.git');
  await instantiateSample({ projectFolder, channelFolder: path.join(testNix.folder, 'channel') }, testNix);
  revision = await pushTo(testNix.runner, projectFolder, repositoryFolder);
  const project = createProject({ repositoryFolder })({
    ...testNix,
    mesh: { handle: () => {}, open: () => Promise.reject(new Error('there is no other peer')) },
    fetchBlob: () => Promise.reject(new Error('there are no blobs')),
    holders: () => [],
  });
  const init = {
    repositoryFolder,
    keyFile: path.join(testNix.folder, 'builder.key'),
    keyName: 'home-gate',
    rootsFolder: path.join(testNix.folder, 'roots'),
    systems: [machineSystem()],
  };
  builder = createBuilder(init)({
    ...{ ...testNix, project, clock: systemClock },
    taskLog: () => ({ append: () => {} }),
  });
});
after(() => testNix.remove());

/** Replaces a host's file, commits, and builds the host. */
async function buildHost(name: string, options: string): Promise<BuildResult> {
  await writeFile(path.join(projectFolder, `hosts/${name}.nix`), `{ ${options} }\n`);
  await runGit(testNix.runner, ['-C', projectFolder, 'add', '--all']);
  await runGit(testNix.runner, ['-C', projectFolder, 'commit', '--quiet', '--allow-empty', '--message', 'change']);
  const changed = await pushTo(testNix.runner, projectFolder, repositoryFolder);
  return await buildAt(changed, name);
}

async function buildAt(at: string, name: string): Promise<BuildResult> {
  const { hosts } = await builder.evaluate({ revision: at, hosts: [name] }, { signal });
  const drvPath = hosts[0]?.toplevel?.drvPath;
  assert.ok(drvPath, hosts[0]?.error?.message);
  return await builder.build({ drvPath }, { signal });
}

/** Runs a program of a toplevel with the root of a device that was never switched before, unless a name is reused. */
async function onDevice(device: string, program: string, programArguments: readonly string[]) {
  const script = path.resolve(import.meta.dirname, '../fixtures/enter-device.sh');
  const store = testNix.nix.physicalPath('/nix/store');
  const root = path.join(testNix.folder, 'devices', device);
  const result = await testNix.runner.run({
    program: script,
    arguments: [store, root, program, ...programArguments],
  });
  return {
    exitCode: result.exitCode,
    stdout: Buffer.from(result.stdout).toString('utf8'),
    stderr: result.stderr,
    root,
  };
}

const switchOn = (device: string, toplevel: string, action: string) =>
  onDevice(device, `${toplevel}/bin/switch-to-configuration`, [action]);
const systemctlOn = (device: string, toplevel: string, ...words: string[]) =>
  onDevice(device, `${toplevel}/sw/bin/systemctl`, words);

test('the sample has a policy that fits, six hosts, and a large shared and small own part', async () => {
  const { parley, hosts } = await builder.evaluate({ revision }, { signal });
  const output = check(parleyOutputSchema, parley);
  assert.deepEqual(
    Object.keys(output.hosts).sort(),
    hosts.map((host) => host.name),
  );
  assert.deepEqual(output.operators.bob?.roles, ['deployer', 'approver']);
  assert.equal(hosts.length, 6);
  const [gate, till] = [await buildAt(revision, 'home-gate'), await buildAt(revision, 'shop-till')];
  assert.ok(narBytesOf(gate.manifest) > 30 * mebibyte && narBytesOf(gate.manifest) < 40 * mebibyte);
  const { bytesAdded } = diffClosures(gate.manifest.paths, till.manifest.paths);
  assert.ok(bytesAdded < 64 * 1024, `${bytesAdded} bytes`);
});

test('an update of the channel changes the certificates and rebuilds only what needs them', async () => {
  const before = await buildAt(revision, 'home-gate');
  const update = await builder.update({ tree: revision, base: revision, pack: null, inputs: [] }, { signal });
  assert.deepEqual(
    update.changes.map((change) => change.name),
    ['channel'],
  );
  await writeFile(path.join(projectFolder, 'flake.lock'), update.lockFile);
  const after = await buildHost(
    'home-gate',
    (await readFile(path.join(projectFolder, 'hosts/home-gate.nix'), 'utf8')).replace(/^\{|\}\s*$/g, ''),
  );
  const { changes } = diffClosures(before.manifest.paths, after.manifest.paths);
  const named = changes.map((change) => `${change.kind} ${change.name}`);
  assert.ok(named.includes('changed certificates'), named.join(', '));
  assert.ok(named.includes('rebuilt web-runtime'), named.join(', '));
  assert.ok(!named.some((name) => name.includes('media-codecs')), named.join(', '));
});

test('switch-to-configuration test activates, starts units and makes the system current; check changes nothing', async () => {
  const { storePath } = await buildHost(
    'good',
    'message = "hello"; services.greeter = "cat /etc/motd > /run/greeting";',
  );
  const checked = await switchOn('good', storePath, 'check');
  assert.equal(checked.exitCode, 0, checked.stderr);
  await assert.rejects(readlink(path.join(checked.root, 'run/current-system')));
  const { exitCode, stdout, stderr, root } = await switchOn('good', storePath, 'test');
  assert.equal(exitCode, 0, stderr);
  assert.match(stdout, /starting the following units: greeter\.service/);
  assert.equal(await readlink(path.join(root, 'run/current-system')), storePath);
  assert.equal(await readFile(path.join(root, 'run/greeting'), 'utf8'), 'hello\n');
  assert.equal((await systemctlOn('good', storePath, 'is-active', 'greeter.service')).stdout, 'active\n');
  assert.equal((await systemctlOn('good', storePath, 'is-system-running')).exitCode, 0);
  assert.doesNotMatch((await switchOn('good', storePath, 'test')).stdout, /starting/);
  await assert.rejects(readlink(path.join(root, 'var/lib/boot/default')));
  assert.equal((await switchOn('good', storePath, 'boot')).exitCode, 0);
  assert.equal(await readlink(path.join(root, 'var/lib/boot/default')), storePath);
  assert.equal((await switchOn('good', storePath, 'dance')).exitCode, 1);
});

test('switch-to-configuration stops units that are gone and undoes what a former system left in /etc', async () => {
  const former = await buildHost('moving', 'etc.former = "x"; services.former = "true";');
  const next = await buildHost('moving', 'services.next = "true";');
  assert.equal((await switchOn('moving', former.storePath, 'test')).exitCode, 0);
  const { stdout, root } = await switchOn('moving', next.storePath, 'test');
  assert.match(
    stdout,
    /stopping the following units: former\.service[\s\S]*starting the following units: next\.service/,
  );
  await assert.rejects(readlink(path.join(root, 'etc/former')));
  assert.equal((await systemctlOn('moving', next.storePath, 'is-active', 'former')).exitCode, 3);
  assert.equal((await switchOn('moving', former.storePath, 'test')).exitCode, 0);
  assert.equal(await readlink(path.join(root, 'run/current-system')), former.storePath);
});

test('switch-to-configuration ends with 4 and lists the units that failed', async () => {
  const { storePath } = await buildHost('degraded', 'services.fine = "true"; failUnits = [ "broken" ];');
  const { exitCode, stderr } = await switchOn('degraded', storePath, 'test');
  assert.equal(exitCode, 4);
  assert.match(stderr, /the following units failed: broken\.service/);
  const { stdout } = await systemctlOn('degraded', storePath, '--failed', '--plain', '--no-legend');
  assert.equal(stdout, 'broken.service loaded failed failed broken of the sample fleet\n');
  assert.equal((await systemctlOn('degraded', storePath, 'is-active', 'fine.service')).exitCode, 0);
});

test('switch-to-configuration ends with 2 when activation fails, and says so', async () => {
  const { storePath } = await buildHost('refusing', 'failActivation = true;');
  const { exitCode, stderr } = await switchOn('refusing', storePath, 'test');
  assert.equal(exitCode, 2);
  assert.match(stderr, /Failed to run activate script/);
});

test('switch-to-configuration ends with 100 and touches nothing when the running init is another one', async () => {
  const old = await buildHost('rebooting', 'initInterface = 1;');
  const next = await buildHost('rebooting', 'initInterface = 2;');
  assert.equal((await switchOn('rebooting', old.storePath, 'test')).exitCode, 0);
  const { exitCode, root } = await switchOn('rebooting', next.storePath, 'test');
  assert.equal(exitCode, 100);
  assert.equal(await readlink(path.join(root, 'run/current-system')), old.storePath);
});

test('a host that is told to fails alone, in its evaluation or in its build with a log', async () => {
  await assert.rejects(
    buildHost('failing', 'failEvaluation = true;'),
    /hosts\/failing\.nix asks for a failing evaluation/,
  );
  await assert.rejects(buildHost('failing', 'tgas = [ ];'), /sets 'tgas', which is no option of a host/);
  await assert.rejects(buildHost('failing', 'failBuild = true;'), {
    code: 'build-failed',
    message: /building '.*-etc-failing\.drv' failed with exit code 7:\netc: step 1 of 4 done[\s\S]*step 4 failed/,
  });
});

test('instantiateSample() writes hosts that it is told of and keeps its own files for known names', async () => {
  const folder = path.join(testNix.folder, 'sized');
  const sample = await instantiateSample(
    {
      projectFolder: path.join(folder, 'project'),
      channelFolder: path.join(folder, 'channel'),
      hosts: [{ name: 'site1-peer1', tags: ['site1'] }, { name: 'home-gate' }],
    },
    testNix,
  );
  assert.deepEqual(sample.hosts, ['home-gate', 'site1-peer1']);
  assert.match(await readFile(path.join(folder, 'project/hosts/home-gate.nix'), 'utf8'), /gateway/);
  assert.match(await readFile(path.join(folder, 'project/hosts/site1-peer1.nix'), 'utf8'), /tags = \[ "site1" \]/);
});
