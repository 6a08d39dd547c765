// Shows what the console adds to the grammar: scripts, prefixes, local commands, notices, completion, the live line.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { complete } from '../../chatops/completion.ts';
import { runConsoleScript } from '../../chatops/console.ts';
import { createConsoleLine, runShell } from '../../chatops/console-line.ts';
import { createLiveLine } from '../../chatops/live-line.ts';
import { followNotices } from '../../chatops/notice-feed.ts';
import { readScript, runScript } from '../../chatops/script.ts';
import type { CommandEvent } from '../../protocols/control.ts';
import type { Notice } from '../../protocols/ledger-state.ts';
import {
  type Answer,
  answering,
  attachTo,
  collectOutput,
  endEvent,
  nowMs,
  runContextOf,
  startFakePeer,
} from './fixtures.ts';

const refusal: CommandEvent = {
  kind: 'error',
  error: { code: 'refused', message: 'no', retryable: false },
};

const refusesRetry: Answer = async function* ({ command }) {
  yield command.name === 'retry' ? refusal : endEvent({ text: `${command.name} done` });
};

const line = createConsoleLine({
  localCommands: [
    {
      name: 'demo',
      help: ['demo WORD'],
      run: async (words) => (words[0] === 'fail' ? 1 : 0),
      complete: () => ['fail'],
    },
  ],
  shell: async (command) => (command === 'true' ? 0 : 7),
});

async function* linesOf(script: string) {
  yield* script.split('\n');
}

async function run(t: Parameters<typeof startFakePeer>[0], script: string) {
  const peer = await startFakePeer(t, refusesRetry);
  const output = collectOutput();
  const context = runContextOf(attachTo([peer.socket]), output);
  const status = await runScript(linesOf(script), line, context);
  return { status, peer, output };
}

test('runScript() echoes lines, skips comments and stops at the first failure with its status', async (t) => {
  const { status, output } = await run(t, '# a comment\n\nstatus # trailing\nretry t1\npeers\n');
  assert.equal(status, 1);
  assert.deepEqual(output.outLines, ['> # a comment', '> status # trailing', 'status done', '> retry t1']);
  assert.match(output.errLines.at(-1) ?? '', /Line 4 failed with status 1: retry t1/);
});

test('runScript() goes on after a line with - that failed', async (t) => {
  const { status, peer } = await run(t, '-retry t1\n- !false\n-demo fail\npeers\n');
  assert.equal(status, 0);
  assert.deepEqual(
    peer.requests.map(({ command }) => command.name),
    ['retry', 'peers'],
  );
});

test('runScript() gives the status of shell lines, local commands and lines that are not understood', async (t) => {
  assert.equal((await run(t, '!true\n!false\n')).status, 7);
  assert.equal((await run(t, 'demo fail\n')).status, 1);
  assert.equal((await run(t, 'nonsense\n')).status, 2);
  assert.equal((await run(t, 'exit\nnonsense\n')).status, 0);
});

test('runScript() keeps # inside words and quotes', async (t) => {
  const { peer } = await run(t, 'commit fix #12\ncommit "a # b"\n');
  assert.deepEqual(
    peer.requests.map(({ command }) => command),
    [
      { name: 'commit', message: 'fix #12' },
      { name: 'commit', message: 'a # b' },
    ],
  );
});

test('runScript() rejects when the file cannot be read', async () => {
  const context = runContextOf(attachTo([]), collectOutput());
  await assert.rejects(runScript(readScript('/nonexistent/script'), line, context), { code: 'script-unreadable' });
});

test('a line with --json that is not understood is answered by a document', async (t) => {
  const { status, output } = await run(t, 'as bob voters add --json\n');
  assert.equal(status, 2);
  assert.equal(JSON.parse(output.outLines[1] ?? '').error.code, 'usage');
  assert.match(output.errLines[0] ?? '', /'voters add' needs HOST/);
});

test('as NAME speaks as that operator for one line', async (t) => {
  const { peer, status } = await run(t, 'as bob approve t3\nstatus\n');
  assert.equal(status, 0);
  assert.deepEqual(
    peer.requests.map(({ speakAs }) => speakAs),
    ['bob', undefined],
  );
  assert.equal((await run(t, 'as bob\n')).status, 2);
});

test('help lists the table and what this console adds', async (t) => {
  const { output } = await run(t, 'help\nhelp demo\nhelp deploy\n');
  const text = output.outLines.join('\n');
  assert.match(text, /as NAME COMMAND/);
  assert.match(text, /demo WORD/);
  assert.match(text, /deploy SELECTOR \[--keep-going\]/);
  assert.equal((await run(t, 'help deplyo\n')).status, 2);
});

test('runShell() runs in the work folder and gives the exit status', async () => {
  assert.equal(await runShell('test "$PWD" = /usr && exit 5', '/usr', 'ignore'), 5);
  await assert.rejects(runShell('true', '/nonexistent', 'ignore'), { code: 'shell-failed' });
});

const notice = (number: number): Notice => {
  return { number, atMs: nowMs, level: 'info', task: null, text: `notice ${number}`, deliveredTo: [] };
};

const noticesView = (...numbers: number[]): CommandEvent => {
  return { kind: 'view', view: 'notices', data: { version: 1, notices: numbers.map(notice) } };
};

test('followNotices() tells new notices once, also after a peer died', async (t) => {
  const first = await startFakePeer(t, async function* ({ command }) {
    yield noticesView(1, 2);
    if (command.name === 'notices' && command.follow) {
      yield noticesView(3);
      await first.stop();
    } else yield endEvent();
  });
  const second = await startFakePeer(t, answering(noticesView(2, 3, 4), endEvent()));
  const stop = new AbortController();
  const heard: number[] = [];
  await followNotices(
    attachTo([first.socket, second.socket]),
    ({ number }) => {
      heard.push(number);
      if (number === 4) stop.abort();
    },
    stop.signal,
  );
  assert.deepEqual(heard, [3, 4]);
});

test('runConsoleScript() keeps notices out of the answers', async (t) => {
  const told = Promise.withResolvers<void>();
  const peer = await startFakePeer(t, async function* ({ command }, signal) {
    if (command.name !== 'notices') {
      await told.promise;
      yield endEvent({ text: 'the answer' });
      return;
    }
    yield noticesView(1);
    if (!command.follow) return yield endEvent();
    yield noticesView(2);
    if (!signal.aborted) await once(signal, 'abort');
  });
  const output = collectOutput();
  const err = (text: string) => {
    output.err(text);
    if (text.includes('notice 2')) told.resolve();
  };
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-script-'));
  t.after(() => rm(folder, { recursive: true }));
  const script = path.join(folder, 'script');
  await writeFile(script, 'status\n');
  const context = runContextOf(attachTo([peer.socket]), { ...output, err });
  assert.equal(await runConsoleScript(script, line, context), 0);
  assert.deepEqual(output.outLines, ['> status', 'the answer']);
});

const names = { hosts: ['gate', 'till'], tags: ['home'], tasks: ['t1', 't1/gate'], operators: ['alice'] };
const candidates = (text: string) => complete(text, names, ['demo']).candidates;

test('complete() offers commands, hosts, tags, tasks, operators and options', () => {
  assert.deepEqual(candidates('de'), ['deploy', 'demo']);
  assert.deepEqual(candidates('deploy ga'), ['gate']);
  assert.deepEqual(candidates('deploy gate,!@ho'), ['gate,!@home']);
  assert.deepEqual(candidates('deploy @'), ['@all', '@home']);
  assert.deepEqual(candidates('rollback '), ['gate', 'till']);
  assert.deepEqual(candidates('watch t1/'), ['t1/gate']);
  assert.deepEqual(candidates('as al'), ['alice']);
  assert.deepEqual(candidates('as alice rollb'), ['rollback']);
  assert.deepEqual(candidates('deploy gate --k'), ['--keep-going']);
  assert.deepEqual(candidates('help dep'), ['deploy']);
  assert.deepEqual(candidates('vot'), ['voters']);
  assert.deepEqual(candidates('voters re'), ['remove', 'replace']);
  assert.deepEqual(candidates('voters add '), ['gate', 'till']);
  assert.deepEqual(candidates('help voters a'), ['add']);
  assert.deepEqual(candidates('nonsense x'), []);
});

function liveLine(isTTY: boolean) {
  let timeMs = 0;
  const written: string[] = [];
  const live = createLiveLine({
    write: (text) => void written.push(text),
    isTTY,
    columns: () => 20,
    clock: { monotonicMs: () => timeMs },
  });
  const advance = (byMs: number) => {
    timeMs += byMs;
  };
  return { live, written, advance };
}

test('the live line is redrawn in place on a terminal, cut to its columns, and cleared', () => {
  const { live, written, advance } = liveLine(true);
  live.update('one');
  advance(200);
  live.update('a text that is far too long');
  live.clear();
  live.clear();
  assert.deepEqual(written, ['\r\u001b[2Kone', '\r\u001b[2Ka text that is far…', '\r\u001b[2K']);
});

test('the live line is plain lines elsewhere, at most one each two seconds, none twice', () => {
  const { live, written, advance } = liveLine(false);
  live.update('one');
  live.update('two');
  advance(2_000);
  live.update('one');
  live.update('three');
  assert.deepEqual(written, ['  … one\n', '  … three\n']);
});
