// Shows exit statuses, JSON, progress, and that a command survives the death of the peer that it was given to.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLine } from '../../chatops/grammar.ts';
import { type ExitStatus, runParsed } from '../../chatops/run-command.ts';
import type { CommandEvent, CommandRequest } from '../../protocols/control.ts';
import {
  type Answer,
  answering,
  attachTo,
  collectOutput,
  endEvent,
  planView,
  runContextOf,
  startFakePeer,
  statusView,
  taskDetail,
} from './fixtures.ts';

const errorEvent = (code: string, retryable = false): CommandEvent => ({
  kind: 'error',
  error: { code, message: `'t9' is unknown: no such task`, hint: "'tasks' lists them.", retryable },
});

function parsed(line: string) {
  const result = parseLine(line);
  assert.equal(result.kind, 'command');
  if (result.kind !== 'command') throw new Error('unreachable');
  return result;
}

const endings: readonly [string, CommandEvent, ExitStatus][] = [
  ['succeeded', endEvent(), 0],
  ['a task that waits for a person', endEvent({ waitsFor: 'approval by bob', task: 't3' }), 0],
  ['a wait after a failure', endEvent({ outcome: 'rolled-back', waitsFor: 'the return of till' }), 1],
  ['degraded', endEvent({ outcome: 'degraded' }), 1],
  ['rolled-back', endEvent({ outcome: 'rolled-back' }), 1],
  ['unknown', endEvent({ outcome: 'unknown' }), 3],
  ['a refusal', errorEvent('unknown-task'), 1],
  ['an unknown outcome', errorEvent('outcome-unknown', true), 3],
];

for (const [name, event, status] of endings) {
  test(`runParsed() gives exit status ${status} for ${name}`, async (t) => {
    const peer = await startFakePeer(t, answering(event));
    const output = collectOutput();
    assert.equal(await runParsed(parsed('deploy @all'), runContextOf(attachTo([peer.socket]), output)), status);
  });
}

test('runParsed() prints an error and its hint on standard error', async (t) => {
  const peer = await startFakePeer(t, answering(errorEvent('unknown-task')));
  const output = collectOutput();
  await runParsed(parsed('task t9'), runContextOf(attachTo([peer.socket]), output));
  assert.deepEqual(output.errLines, ["Error: 't9' is unknown: no such task", "  'tasks' lists them."]);
  assert.deepEqual(output.outLines, []);
});

test('runParsed() says that no peer is there with status 3', async () => {
  const output = collectOutput();
  assert.equal(await runParsed(parsed('status'), runContextOf(attachTo(['/nonexistent/control.sock']), output)), 3);
  assert.match(output.errLines.join('\n'), /no peer answers/);
});

test('runParsed() draws the last card of a followed task once, and progress on the live line', async (t) => {
  const events: CommandEvent[] = [
    { kind: 'progress', text: 'building', done: 1, total: 4 },
    { kind: 'view', view: 'task', data: taskDetail() },
    { kind: 'view', view: 'task', data: taskDetail({ plan: planView() }) },
    endEvent({ waitsFor: 'approval by bob', text: 't3 waits for approval by bob' }),
  ];
  const peer = await startFakePeer(t, answering(...events));
  const output = collectOutput();
  assert.equal(await runParsed(parsed('deploy @all'), runContextOf(attachTo([peer.socket]), output)), 0);
  assert.deepEqual(output.progress, ['building (1 of 4)']);
  assert.equal(output.outLines.filter((line) => line.startsWith('t3 deploy')).length, 1);
  assert.ok(output.outLines.includes('    approve t3'));
  assert.ok(!output.outLines.includes('t3 waits for approval by bob'));
});

test('runParsed() with --json prints exactly the view as one document', async (t) => {
  const view = statusView();
  const peer = await startFakePeer(t, answering({ kind: 'view', view: 'status', data: view }, endEvent({ text: 'x' })));
  const output = collectOutput();
  await runParsed(parsed('status --json'), runContextOf(attachTo([peer.socket]), output));
  assert.deepEqual(JSON.parse(output.outLines.join('\n')), view);
});

test('runParsed() with --json prints the end of a command without a view, the lines of logs, and errors', async (t) => {
  const log = { atMs: 1, peer: 'gate', task: 't3', stream: 'nix', level: 'info', text: 'x' } as const;
  const answer: Answer = async function* ({ command }) {
    if (command.name === 'logs') yield { kind: 'log', line: log };
    yield command.name === 'retry' ? errorEvent('unknown-task') : endEvent({ task: 't3', text: 'aborted' });
  };
  const peer = await startFakePeer(t, answer);
  const documentOf = async (line: string) => {
    const output = collectOutput();
    await runParsed(parsed(line), runContextOf(attachTo([peer.socket]), output));
    return JSON.parse(output.outLines.join('\n'));
  };
  assert.equal((await documentOf('abort t3 --json')).task, 't3');
  assert.deepEqual(await documentOf('logs t3 --json'), { version: 1, lines: [log] });
  assert.equal((await documentOf('retry t3 --json')).error.code, 'unknown-task');
});

test('runParsed() asks the next peer with the same id when the attached one dies in the middle', async (t) => {
  const dying = await startFakePeer(t, async function* () {
    yield { kind: 'progress', text: 'building' };
    await dying.stop();
  });
  const living = await startFakePeer(t, answering(endEvent({ task: 't3' })));
  const output = collectOutput();
  const attachment = attachTo([dying.socket, living.socket]);
  assert.equal(await runParsed(parsed('deploy @all'), runContextOf(attachment, output)), 0);
  assert.equal(living.requests[0]?.id, dying.requests[0]?.id);
  assert.equal(await runParsed(parsed('deploy @all'), runContextOf(attachment, output)), 0);
  assert.equal(dying.requests.length, 1);
});

test('runParsed() asks the next peer where the attached one has no vote any more, and says so where none has', async (t) => {
  const member = await startFakePeer(t, async function* ({ command }) {
    yield command.name === 'tasks' ? endEvent() : errorEvent('not-a-voter');
  });
  const voter = await startFakePeer(t, answering(endEvent({ task: 't3' })));
  const attachment = attachTo([member.socket, voter.socket], 60_000);
  assert.equal(await runParsed(parsed('deploy @all'), runContextOf(attachment, collectOutput())), 0);
  assert.equal(await runParsed(parsed('deploy @all'), runContextOf(attachment, collectOutput())), 0);
  assert.deepEqual([member.requests.length, voter.requests.length], [1, 2]);
  const alone = collectOutput();
  const asked = member.requests.length;
  const lonely = attachTo([member.socket], 60_000);
  assert.equal(await runParsed(parsed('deploy @all'), runContextOf(lonely, alone)), 1);
  assert.equal(member.requests.length, asked + 1, 'nothing is gained by asking again');
});

test('runParsed() asks again with the same id while the outcome is unknown', async (t) => {
  const requests: CommandRequest[] = [];
  const peer = await startFakePeer(t, async function* (request) {
    requests.push(request);
    yield requests.length < 3 ? errorEvent('outcome-unknown', true) : endEvent();
  });
  const output = collectOutput();
  assert.equal(await runParsed(parsed('retry t3'), runContextOf(attachTo([peer.socket], 60_000), output)), 0);
  assert.equal(new Set(requests.map(({ id }) => id)).size, 1);
});

test('runParsed() leaves what it follows when its signal aborts, and says how to come back', async (t) => {
  const leave = new AbortController();
  const peer = await startFakePeer(t, async function* (_request, signal) {
    yield { kind: 'view', view: 'task', data: taskDetail() };
    leave.abort();
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  });
  const output = collectOutput();
  const context = runContextOf(attachTo([peer.socket], 60_000), output, { signal: leave.signal });
  assert.equal(await runParsed(parsed('watch t3'), context), 3);
  assert.deepEqual(output.errLines, ["Left; it goes on. 'watch t3' follows it."]);
});

test('runParsed() hands over who speaks, and the work folder only with commands about the draft', async (t) => {
  const peer = await startFakePeer(t, answering(endEvent()));
  const context = runContextOf(attachTo([peer.socket]), collectOutput(), {
    speakAs: 'bob',
    workFolder: '/srv/project',
  });
  await runParsed(parsed('commit now'), context);
  await runParsed(parsed('approve t3'), context);
  assert.deepEqual(
    peer.requests.map(({ speakAs, workFolder }) => [speakAs, workFolder]),
    [
      ['bob', '/srv/project'],
      ['bob', undefined],
    ],
  );
});
