// Shows that a running deploy survives its controller, that a mesh killed as a whole remembers everything, and that a member
// that was away gets the current target, not the ones it missed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StatusView, TaskDetail, TasksView } from '../../protocols/views.ts';
import { keptFolder, runDemo } from './demo-runner.ts';

const five = ['--peers', '5'];

test('a deploy goes on and is done once when the controller is killed in the middle', async (t) => {
  const run = await runDemo(
    t,
    [
      'status --json',
      'deploy @all',
      'as bob approve t2 --no-wait',
      'demo kill controller',
      'watch t2',
      'tasks --all --json',
      'demo start all',
      'watch t2',
      'task t2 --json',
      'status --json',
    ],
    five,
  );
  assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`);
  const before: StatusView = JSON.parse(run.outputOf('status --json'));
  const after: StatusView = JSON.parse(run.lines.at(-1)?.output ?? '');
  assert.notEqual(after.controller, before.controller);
  assert.ok(after.term > before.term);
  assert.deepEqual(
    after.peers.map(({ running, desired }) => running !== null && running === desired),
    [true, true, true, true, true],
  );
  const { task, children }: TaskDetail = JSON.parse(run.outputOf('task t2 --json'));
  assert.equal(task.outcome, 'succeeded');
  assert.equal(children.filter(({ type }) => type === 'deploy-device').length, 5);
  assert.equal(children.filter(({ type }) => type === 'build').length, 5);
  const { tasks }: TasksView = JSON.parse(run.outputOf('tasks --all --json'));
  assert.deepEqual(
    tasks.filter(({ parent }) => parent === null).map(({ id }) => id),
    ['t2', 't1'],
  );
});

test('everything is still there after all peers were killed, and one that was away gets the current target', async (t) => {
  const keep = ['--keep', await keptFolder(t)];
  const first = await runDemo(
    t,
    [
      'deploy @all',
      'as bob approve t2',
      'demo stop shop-sign',
      `!sed -i 's/message = .*/message = "first";/' hosts/shop-sign.nix`,
      'deploy @all --commit first',
      'as bob approve t4 --no-wait',
      `!sed -i 's/message = .*/message = "second";/' hosts/shop-sign.nix`,
      'deploy @all --commit second',
      'as bob approve t6 --no-wait',
      'demo kill all',
      'demo start all',
      'watch t6',
      'task t4 --json',
      'task t6 --json',
    ],
    ['--peers', '4', ...keep],
  );
  assert.equal(first.status, 0, `${first.stdout}\n${first.stderr}`);
  const childOf = (line: string) => {
    const { children }: TaskDetail = JSON.parse(first.outputOf(line));
    return children.find(({ host }) => host === 'shop-sign')?.outcome;
  };
  assert.equal(childOf('task t4 --json'), 'superseded');
  assert.equal(childOf('task t6 --json'), 'succeeded');

  const second = await runDemo(t, ['tasks --all --json', 'history', 'status --json'], keep);
  assert.equal(second.status, 0, second.stderr);
  const { tasks }: TasksView = JSON.parse(second.outputOf('tasks'));
  assert.ok(['t1', 't2', 't4', 't6'].every((id) => tasks.some((task) => task.id === id && task.endedAtMs !== null)));
  assert.match(second.outputOf('history'), /second[^\n]*shop-sign/);
});
