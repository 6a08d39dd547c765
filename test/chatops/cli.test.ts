// Shows the command line as a person or a script meets it: the real program, its two outputs and its exit status.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { answering, endEvent, startFakePeer, statusView } from './fixtures.ts';

const program = path.resolve(import.meta.dirname, '../../scripts/parley');

interface Run {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

function parley(words: readonly string[], options: { cwd?: string; input?: string } = {}): Promise<Run> {
  return new Promise((resolve) => {
    const child = execFile(program, words, { ...(options.cwd && { cwd: options.cwd }) }, (error, stdout, stderr) => {
      resolve({ status: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
    });
    child.stdin?.end(options.input ?? '');
  });
}

async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-cli-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test('parley without a command shows how it is used', async () => {
  const bare = await parley([]);
  assert.equal(bare.status, 2);
  assert.match(bare.stdout, /^Usage: parley/);
  assert.match(bare.stdout, /--work DIR[\s\S]*--as NAME/);
  assert.equal((await parley(['--help'])).status, 0);
  assert.match((await parley(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('parley help lists commands and options', async () => {
  const { status, stdout } = await parley(['help']);
  assert.equal(status, 0);
  assert.match(stdout, /deploy +build hosts/);
  assert.match(stdout, /--state DIR/);
  assert.match(stdout, /Exit status\n {2}0 {2}succeeded[\s\S]*3 {2}nobody could tell/);
});

test('parley ends quietly when its reader has left', async () => {
  const child = spawn(program, ['help'], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const [status] = await once(child, 'close');
  assert.deepEqual([status, said], [141, '']);
});

test('parley refuses what it does not understand with status 2', async () => {
  assert.deepEqual(await parley(['stauts']), {
    status: 2,
    stdout: '',
    stderr: "Error: no such command: 'stauts'\n  Did you mean status?\n",
  });
  assert.equal((await parley(['--stat', 'x', 'status'])).status, 2);
  assert.equal((await parley(['--state'])).status, 2);
});

test('parley says with status 3 that no peer is there', async (t) => {
  const { status, stderr } = await parley(['--state', await temporaryFolder(t), 'status']);
  assert.equal(status, 3);
  assert.match(stderr, /no peer answers[\s\S]*Start one with `parley run/);
});

test('parley prints the view alone with --json, before or after the command', async (t) => {
  const view = statusView();
  const peer = await startFakePeer(t, answering({ kind: 'view', view: 'status', data: view }, endEvent()));
  for (const words of [
    ['--json', 'status'],
    ['status', '--json'],
  ]) {
    const { status, stdout, stderr } = await parley(['--state', peer.stateFolder, ...words]);
    assert.deepEqual([status, stderr, JSON.parse(stdout)], [0, '', view]);
  }
  const fromConfig = await parley(['--config', path.join(peer.stateFolder, 'config.json'), 'status']);
  assert.match(fromConfig.stdout, /controller home-gate/);
});

test('parley prints a document with --json for what it does not understand or cannot do, too', async (t) => {
  const stateFolder = await temporaryFolder(t);
  const lines: readonly [words: string, status: number, code: string][] = [
    ['--json voters add', 2, 'usage'],
    ['voters add --json', 2, 'usage'],
    ['--json --stat x status', 2, 'usage'],
    ['help nothing --json', 2, 'usage'],
    ['recover --json', 2, 'usage'],
    ['trust abc --json', 2, 'usage'],
    [`recover --show --json --state ${stateFolder}`, 1, 'not-enrolled'],
    [`--state ${stateFolder} trust ${'ab'.repeat(32)} --json`, 1, 'not-enrolled'],
    ['doctor --json --bogus', 2, 'usage'],
  ];
  for (const [line, status, code] of lines) {
    const run = await parley(line.split(' '));
    assert.equal(run.status, status, line);
    const { version, error } = JSON.parse(run.stdout);
    assert.deepEqual([version, error.code, error.retryable], [1, code, false], line);
    assert.ok(run.stderr.includes(error.message), line);
  }
});

test('parley sends only a checkout that the fleet knows, or the one that was named', async (t) => {
  const peer = await startFakePeer(t, answering(endEvent()));
  const unrelated = await temporaryFolder(t);
  await mkdir(path.join(unrelated, '.git'));
  const known = await temporaryFolder(t);
  await mkdir(path.join(known, '.git/refs/parley'), { recursive: true });
  await mkdir(path.join(known, 'hosts'));
  await writeFile(path.join(known, '.git/refs/parley/draft'), `${'0'.repeat(40)}\n`);
  const state = ['--state', peer.stateFolder];
  await parley([...state, 'diff'], { cwd: unrelated });
  await parley([...state, 'diff'], { cwd: path.join(known, 'hosts') });
  await parley([...state, '--work', '.', 'diff'], { cwd: unrelated });
  assert.deepEqual(
    peer.requests.map(({ workFolder }) => workFolder),
    [undefined, known, unrelated],
  );
});

test('parley console --run - runs lines from standard input', async (t) => {
  const peer = await startFakePeer(t, answering(endEvent({ text: 'done' })));
  const words = ['--state', peer.stateFolder, 'console', '--run', '-'];
  const { status, stdout } = await parley(words, { input: 'status\n!echo from the shell\n!exit 4\nstatus\n' });
  assert.equal(status, 4);
  assert.equal(stdout, '> status\ndone\n> !echo from the shell\nfrom the shell\n> !exit 4\n');
});
