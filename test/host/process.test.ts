// Shows that programs run as ProcessRunner promises: own group, own environment, bounded output, coded errors.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { createLogger, createProcessRunner } from '../../node/host/index.ts';
import { cutMark } from '../../node/host/lines.ts';

const runner = createProcessRunner({ logger: createLogger({ level: 'silent' }) });
const shell = (script: string) => ({ program: '/bin/sh', arguments: ['-c', script] });
let folder = '';

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'parley-host-'));
});
after(() => rm(folder, { recursive: true, force: true }));

test('run() gives exit status and both outputs of a program that ends', async () => {
  const result = await runner.run(shell('echo out; echo err >&2; exit 3'));
  assert.equal(result.exitCode, 3);
  assert.equal(new TextDecoder().decode(result.stdout), 'out\n');
  assert.equal(result.stderr, 'err\n');
});

test('run() gives 128 + number when a signal ended the program', async () => {
  assert.equal((await runner.run(shell('kill -KILL $$'))).exitCode, 137);
});

test('run() passes only PATH, HOME and what the request names', async () => {
  const result = await runner.run({
    program: 'env',
    arguments: [],
    environment: { SAMPLE: 'a b', HOME: '/elsewhere' },
  });
  const names = new TextDecoder().decode(result.stdout).trim().split('\n').sort();
  assert.deepEqual(names, ['HOME=/elsewhere', `PATH=${process.env.PATH}`, 'SAMPLE=a b']);
});

test('run() hands input to standard input and otherwise closes it', async () => {
  const echoed = await runner.run({ program: 'cat', arguments: [], input: new TextEncoder().encode('hello') });
  assert.equal(new TextDecoder().decode(echoed.stdout), 'hello');
  assert.equal((await runner.run({ program: 'cat', arguments: [] })).stdout.byteLength, 0);
});

test('run() delivers lines as they come, keeps escape sequences and cuts long lines', async () => {
  const lines: string[] = [];
  await runner.run({
    ...shell(`printf '\\033[31mred\\033[0m\\r\\n'; head -c 100 /dev/zero | tr '\\0' x; printf '\\nlast'`),
    lineCharactersMax: 40,
    onStdoutLine: (line) => lines.push(line),
  });
  assert.deepEqual(lines, ['\u001b[31mred\u001b[0m', 'x'.repeat(40) + cutMark, 'last']);
});

for (const [what, start] of [
  ['of its group', 'sh'],
  ['in a session of their own', 'setsid sh'],
] as const) {
  test(`run() ends stubborn descendants ${what} when its signal aborts`, async () => {
    const abort = new AbortController();
    const pidFile = path.join(folder, start);
    const loop = `trap "" TERM; echo $$ >"${pidFile}"; exec >/dev/null 2>&1; while :; do sleep 0.1; done`;
    const script = `${start} -c '${loop}' & until [ -s "${pidFile}" ]; do sleep 0.02; done; echo ready; wait`;
    const run = runner.run({ ...shell(script), signal: abort.signal, onStdoutLine: () => abort.abort() });
    await assert.rejects(run, { name: 'ParleyError', code: 'cancelled' });
    const pid = Number(await readFile(pidFile, 'utf8'));
    assert.ok(pid > 0);
    for (let round = 0; (await stateOf(pid)) !== 'gone' && round < 100; round += 1) await wait(20);
    assert.equal(await stateOf(pid), 'gone');
  });
}

/** A killed orphan may stay a zombie until the machine's first process collects it. */
async function stateOf(pid: number): Promise<string> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return status === '' || status.includes(') Z ') ? 'gone' : status;
}

test('run() rejects at once when its signal has aborted before', async () => {
  await assert.rejects(runner.run({ ...shell('exit 0'), signal: AbortSignal.abort() }), { code: 'cancelled' });
});

test('run() rejects with timed-out and ends the program', async () => {
  const startedMs = performance.now();
  await assert.rejects(runner.run({ ...shell('sleep 30'), timeoutMs: 100 }), { code: 'timed-out', retryable: true });
  assert.ok(performance.now() - startedMs < 4_000);
});

test('run() ends a program that writes more than stdoutBytesMax', async () => {
  const endless = { program: 'yes', arguments: [], stdoutBytesMax: 100_000 };
  await assert.rejects(runner.run(endless), { code: 'output-too-large' });
});

test('run() drops what is beyond stdoutBytesMax where the request says so', async () => {
  const request = { ...shell('head -c 300000 /dev/zero; exit 4'), stdoutBytesMax: 100_000, dropsLongOutput: true };
  const { exitCode, stdout } = await runner.run(request);
  assert.equal(exitCode, 4);
  assert.ok(stdout.byteLength <= 100_000);
});

test('run() leaves no program behind when the peer is killed', { skip: process.platform !== 'linux' }, async () => {
  const fixture = path.join(import.meta.dirname, '../fixtures/run-program.ts');
  const peer = spawn(process.execPath, [fixture, '/bin/sh', '-c', 'echo $$; exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(peer.stdout, 'data')) as [Buffer];
  const pid = Number(line.toString());
  peer.kill('SIGKILL');
  // The program holds the pipe's other end: it closes when the program has gone.
  await once(peer, 'close');
  while (
    existsSync(`/proc/${pid}`) &&
    !(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z')).includes(') Z')
  ) {
    await wait(10);
  }
});

test('run() keeps only the end of a long standard error', async () => {
  const result = await runner.run(shell('head -c 200000 /dev/zero | tr "\\0" a >&2; echo end >&2'));
  assert.equal(result.stderr.length, 64 * 1024);
  assert.ok(result.stderr.endsWith('aend\n'));
});

test('run() tells a missing program, a missing folder and a file that is no program apart', async () => {
  await assert.rejects(runner.run({ program: 'parley-no-such-program', arguments: [] }), { code: 'program-missing' });
  await assert.rejects(runner.run({ program: 'true', arguments: [], cwd: path.join(folder, 'none') }), {
    code: 'program-failed-to-start',
    message: /working folder .* does not exist/,
  });
  const plain = path.join(folder, 'plain');
  await writeFile(plain, 'text');
  await assert.rejects(runner.run({ program: plain, arguments: [] }), { code: 'program-failed-to-start' });
});

test('run() rejects with the error of a listener that throws', async () => {
  const thrown = new Error('listener');
  const run = runner.run({
    ...shell('echo line; sleep 30'),
    onStdoutLine: () => {
      throw thrown;
    },
  });
  await assert.rejects(run, thrown);
});
