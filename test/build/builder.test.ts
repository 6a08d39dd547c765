// Shows evaluation, building and updating through real git and real Nix, on flakes that cost almost nothing to build.

import assert from 'node:assert/strict';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type Builder, createBuilder } from '../../node/build/index.ts';
import { systemClock } from '../../node/host/index.ts';
import type { LogInput } from '../../node/journal/index.ts';
import { createProject, type Project } from '../../node/project/index.ts';
import type { BuildLogLine, BuildProgress } from '../../protocols/build-job.ts';
import { firstUnsigned } from '../../protocols/manifest.ts';
import { machineSystem } from '../../scripts/lib/sample.ts';
import { cheapFlakeText, createFlakeProject, type FlakeProject, runGit } from '../helpers/flake-project.ts';
import { createTestNix, type TestNix } from '../helpers/nix-store.ts';

const signal = new AbortController().signal;
let testNix: TestNix;
let flakes: FlakeProject;
let project: Project;

before(async () => {
  testNix = await createTestNix();
  flakes = await createFlakeProject(testNix.folder, testNix.runner);
  project = createProject({ repositoryFolder: flakes.repositoryFolder })({
    ...testNix,
    mesh: { handle: () => {}, open: () => Promise.reject(new Error('there is no other peer')) },
    fetchBlob: () => Promise.reject(new Error('there are no blobs')),
    holders: () => [],
  });
});
after(() => testNix.remove());

const taskLines: LogInput[] = [];

function builderOf(keyName = 'desk'): Builder {
  return createBuilder({
    repositoryFolder: flakes.repositoryFolder,
    keyFile: path.join(testNix.folder, 'keys', keyName),
    keyName,
    rootsFolder: path.join(testNix.folder, 'roots'),
    systems: [machineSystem()],
  })({
    ...{ ...testNix, project, clock: systemClock },
    taskLog: () => ({ append: (lines) => void taskLines.push(...lines) }),
  });
}

function commitFlake(outputs: string): Promise<string> {
  return flakes.commit({ 'flake.nix': cheapFlakeText(machineSystem(), outputs) });
}

test('evaluate() lets a failing host fail alone, with the error and its place', async () => {
  const revision = await commitFlake(`
    parley = { hosts.good.tags = [ "home" ]; };
    nixosConfigurations.good = host (build "good" "echo x > $out");
    nixosConfigurations.thrower = host (throw "the disk's name is missing");
    nixosConfigurations.empty = { };
    nixosConfigurations."\${"$"}{odd}" = { };`);
  const lines: BuildLogLine[] = [];
  const evaluation = await builderOf().evaluate({ revision }, { signal, onLog: (line) => lines.push(line) });
  assert.deepEqual(evaluation.parley, { hosts: { good: { tags: ['home'] } } });
  assert.deepEqual(evaluation.hostNames, ['empty', 'good', 'thrower']);
  const [empty, good, thrower] = evaluation.hosts;
  assert.equal(empty?.error?.code, 'evaluation-failed');
  assert.match(empty?.error?.message ?? '', /host 'empty' cannot be evaluated: attribute 'config' missing/);
  assert.match(good?.toplevel?.drvPath ?? '', /-good\.drv$/);
  assert.equal(good?.toplevel?.system, machineSystem());
  assert.match(thrower?.error?.message ?? '', /^host 'thrower' cannot be evaluated: the disk's name is missing/);
  assert.match(lines.map((line) => line.text).join('\n'), /left out: no host name/);
});

test('evaluate() leaves its programs and messages in the log of its task', async () => {
  taskLines.length = 0;
  const revision = await commitFlake(
    `nixosConfigurations.one = host (builtins.trace "a trace" (build "one" "echo x > $out"));`,
  );
  await builderOf().evaluate({ revision }, { signal, task: 't1' });
  const programs = taskLines.flatMap(({ program }) => program ?? []);
  assert.ok(programs.some(({ command, exitCode }) => command.startsWith('git --git-dir') && exitCode === 0));
  assert.ok(programs.some(({ command }) => /^nix --store .* eval --json .*toplevel/.test(command)));
  assert.deepEqual(
    taskLines.filter(({ stream }) => stream === 'nix').map(({ level, text }) => `${level} ${text}`),
    ['info trace: a trace'],
  );
});

test('evaluate() takes only the hosts that are asked for and names one that the flake does not have', async () => {
  const revision = await commitFlake(`
    nixosConfigurations.one = host (build "one" "echo x > $out");
    nixosConfigurations.two = host (throw "never asked for");`);
  const { hosts, parley } = await builderOf().evaluate({ revision, hosts: ['one', 'three'] }, { signal });
  assert.equal(parley, null);
  assert.equal(hosts[0]?.error, null);
  assert.equal(hosts[1]?.error?.code, 'unknown-host');
  assert.match(hosts[1]?.error?.message ?? '', /no host 'three': it has 'one', 'two'/);
});

test('evaluate() rejects a broken flake with the file and line of the error', async () => {
  const revision = await commitFlake('nixosConfigurations.one = ;');
  await assert.rejects(builderOf().evaluate({ revision }, { signal }), {
    code: 'evaluation-failed',
    message: /^the flake cannot be evaluated: syntax error, unexpected ';'[\s\S]*flake\.nix:\d+:\d+/,
  });
});

test('evaluate() rejects a flake without hosts, a commit that is not there, and a flake without its lock', async () => {
  const builder = builderOf();
  const empty = await commitFlake('packages = { };');
  await assert.rejects(builder.evaluate({ revision: empty }, { signal }), { code: 'no-hosts' });
  await assert.rejects(builder.evaluate({ revision: 'a'.repeat(40) }, { signal }), { code: 'revision-unknown' });
  const unlocked = await flakes.commit({
    'flake.nix': `{ inputs.other.url = "git+file://${flakes.repositoryFolder}?ref=main&rev=${empty}"; outputs = { other, ... }: other; }`,
  });
  await assert.rejects(builder.evaluate({ revision: unlocked }, { signal }), {
    code: 'evaluation-failed',
    hint: /flake\.lock does not fit/,
  });
});

test('evaluate() rejects with cancelled when its signal aborts', async () => {
  const revision =
    await commitFlake(`nixosConfigurations.loop = host (builtins.trace "running" (builtins.genericClosure {
    startSet = [ { key = 0; } ];
    operator = item: [ { key = item.key + 1; } ];
  }));`);
  const abort = new AbortController();
  const evaluation = builderOf().evaluate({ revision }, { signal: abort.signal, onLog: () => abort.abort() });
  await assert.rejects(evaluation, { code: 'cancelled' });
});

test('build() gives the whole closure as a manifest that its key signed', async () => {
  const revision = await commitFlake(`
    nixosConfigurations.one = host (let part = build "part" "echo part > $out"; in build "whole-1.2" "echo \${part} > $out");`);
  const builder = builderOf();
  const drvPath = await drvPathOf(builder, revision, 'one');
  const progress: BuildProgress[] = [];
  const { storePath, manifest } = await builder.build(
    { drvPath },
    { signal, onProgress: (news) => progress.push(news) },
  );
  assert.match(storePath, /-whole-1\.2$/);
  assert.equal(manifest.root, storePath);
  assert.equal(manifest.paths.length, 2);
  assert.equal(firstUnsigned(manifest, await builder.publicKey()), undefined);
  assert.notEqual(firstUnsigned(manifest, await builderOf('other').publicKey()), undefined);
  assert.ok(progress.some((news) => news.done === 2 && news.expected === 2));
  const root = path.join(testNix.folder, 'roots', path.basename(drvPath, '.drv'));
  assert.equal(await testNix.nix.readProfile(root), storePath);
});

test('build() names the derivation that failed and shows the last lines of its log', async () => {
  const revision = await commitFlake(`
    nixosConfigurations.one = host (let
      part = build "broken-part" "i=1; while [ $i -le 30 ]; do echo line $i; i=$((i+1)); done; exit 7";
    in build "whole" "echo \${part} > $out");`);
  const builder = builderOf();
  const drvPath = await drvPathOf(builder, revision, 'one');
  const lines: BuildLogLine[] = [];
  await assert.rejects(builder.build({ drvPath }, { signal, onLog: (line) => lines.push(line) }), (error: Error) => {
    assert.match(error.message, /^building '.*-broken-part\.drv' failed with exit code 7:\nline 11\n[\s\S]*line 30$/);
    return true;
  });
  assert.ok(
    lines.some(
      (line) => line.level === 'build' && line.text === 'line 1' && line.drvPath?.endsWith('-broken-part.drv'),
    ),
  );
});

test('build() says of a failure without a log what is usually behind it', async () => {
  const revision = await commitFlake('nixosConfigurations.one = host (build "silent" "exit 3");');
  const builder = builderOf();
  const drvPath = await drvPathOf(builder, revision, 'one');
  await assert.rejects(builder.build({ drvPath }, { signal }), {
    code: 'build-failed',
    message: /-silent\.drv' failed with exit code 3 without a log/,
    hint: /busybox-static/,
  });
});

test('build() names the system that this builder cannot build for', async () => {
  const foreign = machineSystem() === 'riscv64-linux' ? 'mips-linux' : 'riscv64-linux';
  const outputs = 'nixosConfigurations.one = host (build "foreign" "echo x > $out");';
  const revision = await flakes.commit({ 'flake.nix': cheapFlakeText(foreign, outputs) });
  const builder = builderOf();
  const drvPath = await drvPathOf(builder, revision, 'one');
  await assert.rejects(builder.build({ drvPath }, { signal }), {
    code: 'system-unsupported',
    message: new RegExp(`-foreign\\.drv' failed: this builder cannot build for the system '${foreign}'`),
  });
});

test('build() ends what it started when its signal aborts', async () => {
  const name = `parley-endless-${process.pid}`;
  const script = `echo started; while :; do sleep 0.1; done; : ${name}`;
  const revision = await commitFlake(`nixosConfigurations.one = host (build "endless" "${script}");`);
  const builder = builderOf();
  const drvPath = await drvPathOf(builder, revision, 'one');
  const abort = new AbortController();
  const onLog = (line: BuildLogLine) => {
    if (line.text === 'started') abort.abort();
  };
  await assert.rejects(builder.build({ drvPath }, { signal: abort.signal, onLog }), { code: 'cancelled' });
  const deadlineMs = performance.now() + 8_000;
  while (await isRunning(name)) {
    assert.ok(performance.now() < deadlineMs, 'the build is still running');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

async function isRunning(name: string): Promise<boolean> {
  for (const entry of await readdir('/proc')) {
    const line = /^\d+$/.test(entry) ? await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '') : '';
    if (line.includes(name)) return true;
  }
  return false;
}

test('build() runs once when it is asked for twice, and goes on while one asker remains', async () => {
  const marker = `once-${process.pid}`;
  const revision = await commitFlake(
    `nixosConfigurations.one = host (build "${marker}" "echo started; sleep 0.5; echo x > $out");`,
  );
  const builder = builderOf();
  const drvPath = await drvPathOf(builder, revision, 'one');
  const abort = new AbortController();
  const started: string[] = [];
  const onLog = (line: BuildLogLine) => {
    if (line.level === 'build') started.push(line.text);
  };
  const first = builder.build({ drvPath }, { signal: abort.signal, onLog: () => abort.abort() });
  const second = builder.build({ drvPath }, { signal, onLog });
  await assert.rejects(first, { code: 'cancelled' });
  assert.match((await second).storePath, new RegExp(marker));
  assert.deepEqual(started, ['started']);
});

test('build() makes a derivation again from its commit when this builder did not evaluate it', async () => {
  const revision = await commitFlake('nixosConfigurations.one = host (build "again" "echo again > $out");');
  const builder = builderOf();
  const drvPath = await drvPathOf(builder, revision, 'one');
  await testNix.nix.deletePaths([drvPath]);
  await assert.rejects(builder.build({ drvPath }, { signal }), { code: 'derivation-missing' });
  const source = { revision, host: 'one' };
  assert.match((await builder.build({ drvPath, source }, { signal })).storePath, /-again$/);
});

test('update() gives a new lock file and says what changed, without touching the tree', async () => {
  const inputFolder = path.join(testNix.folder, 'input');
  const git = (...gitArguments: string[]) => runGit(testNix.runner, ['-C', inputFolder, ...gitArguments]);
  await runGit(testNix.runner, ['init', '--quiet', '--initial-branch=main', inputFolder]);
  await writeFile(path.join(inputFolder, 'flake.nix'), '{ outputs = _: { }; }');
  await git('add', '--all');
  await git('commit', '--quiet', '--message', 'one');
  const revision = await flakes.commit({
    'flake.nix': `{ inputs.other.url = "git+file://${inputFolder}"; outputs = _: { }; }`,
  });
  const builder = builderOf();
  const request = { tree: revision, base: revision, pack: null, inputs: [] };
  const first = await builder.update(request, { signal });
  assert.deepEqual(
    first.changes.map(({ name, before: old }) => [name, old]),
    [['other', null]],
  );
  const locked = await flakes.commit({ 'flake.lock': first.lockFile });
  await git('commit', '--quiet', '--allow-empty', '--message', 'two');
  const head = await git('rev-parse', 'HEAD');
  const second = await builder.update({ ...request, tree: locked, inputs: ['other'] }, { signal });
  assert.equal(second.changes.length, 1);
  assert.ok(second.changes[0]?.after?.startsWith(head.slice(0, 12)));
  await assert.rejects(builder.update({ ...request, tree: locked, inputs: ['nope'] }, { signal }), {
    code: 'unknown-input',
    message: "the flake has no input 'nope': it has 'other'",
  });
});

test('publicKey() keeps one key in a file of its owner and refuses a damaged one', async () => {
  const key = await builderOf('keeper').publicKey();
  assert.match(key, /^keeper-[0-9a-f]{8}:[A-Za-z0-9+/]{43}=$/);
  const file = path.join(testNix.folder, 'keys/keeper');
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.equal(await builderOf('keeper').publicKey(), key);
  await chmod(file, 0o600);
  await writeFile(file, (await readFile(file, 'utf8')).slice(0, 40));
  await assert.rejects(builderOf('keeper').publicKey(), { code: 'builder-key-damaged' });
});

async function drvPathOf(builder: Builder, revision: string, host: string): Promise<string> {
  const { hosts } = await builder.evaluate({ revision, hosts: [host] }, { signal });
  const drvPath = hosts[0]?.toplevel?.drvPath;
  assert.ok(drvPath, hosts[0]?.error?.message);
  return drvPath;
}
