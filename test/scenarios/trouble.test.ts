// Shows what people meet when things go wrong: hosts that fail alone, plans that not everybody may approve, words that name
// nothing. Each says what is the matter, and nothing is lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StatusView, TaskDetail } from '../../protocols/views.ts';
import { runDemo } from './demo-runner.ts';

const set = (host: string, option: string) =>
  `!sed -i '$d' hosts/${host}.nix && echo '  ${option}; }' >> hosts/${host}.nix`;

test('a failed switch is rolled back, a failed unit is degraded, what cannot be built fails alone', async (t) => {
  const run = await runDemo(t, [
    'deploy @all',
    'as bob approve t2',
    'status --json',
    set('home-desk', 'failActivation = true'),
    set('home-media', 'failUnits = [ "player" ]'),
    set('shop-sign', 'failBuild = true'),
    set('shop-cam', 'failEvaluation = true'),
    `!sed -i 's/message = .*/message = "new";/' hosts/shop-till.nix`,
    '-deploy @all --commit "break four"',
    'deploy @all --keep-going',
    '-as bob approve t5',
    'task t5 --json',
    'status --json',
    '-logs t5',
  ]);
  assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`);
  assert.match(run.outputOf('-deploy @all --commit'), /failed/);
  const { task, children }: TaskDetail = JSON.parse(run.outputOf('task t5 --json'));
  const outcomes = Object.fromEntries(
    children.filter(({ type }) => type === 'deploy-device').map((child) => [child.host, child.outcome]),
  );
  assert.equal(outcomes['home-desk'], 'rolled-back');
  assert.equal(outcomes['home-media'], 'degraded');
  assert.equal(outcomes['shop-sign'], 'failed');
  assert.equal(outcomes['shop-cam'], 'failed');
  assert.equal(outcomes['shop-till'], 'succeeded');
  assert.notEqual(task.outcome, 'succeeded');
  const degraded = children.find(({ host, type }) => host === 'home-media' && type === 'deploy-device');
  assert.ok(degraded?.failedUnits.some((unit) => unit.includes('player')));
  const before: StatusView = JSON.parse(run.outputOf('status --json'));
  const after: StatusView = JSON.parse(run.lines.at(-2)?.output ?? '');
  const running = (view: StatusView, host: string) => view.peers.find(({ name }) => name === host)?.running;
  assert.equal(running(after, 'home-desk'), running(before, 'home-desk'));
  assert.notEqual(running(after, 'shop-till'), running(before, 'shop-till'));
});

const refusals: readonly [line: string, message: RegExp][] = [
  ['deploy nowhere', /nowhere/],
  ['deploy @nobody', /nobody/],
  ['deploy "home-*&shop-*"', /home-\*&shop-\*/],
  ['build nowhere', /nowhere/],
  ['rollback nowhere', /nowhere/],
  ['rollback home-gate', /home-gate/],
  ['commit nothing', /nothing to commit/],
  ['task t99', /t99/],
  ['retry t99', /t99/],
  ['as alice approve t2', /alice/],
  ['as carol approve t2', /carol/],
  ['as nobody approve t2', /nobody/],
  ['as carol deploy @all', /carol/],
  [`approve t2 --plan ${'0'.repeat(64)}`, /plan/],
];

test('what is refused says why with status 1, and the fleet goes on', async (t) => {
  const run = await runDemo(
    t,
    ['as alice deploy @all', ...refusals.map(([line]) => `-${line}`), 'as bob approve t2', '-as bob approve t2'],
    ['--peers', '3'],
  );
  assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`);
  const errors = run.stderr.split('\n').filter((line) => line.startsWith('Error: '));
  assert.equal(errors.length, refusals.length + 1, run.stderr);
  for (const [index, [line, message]] of refusals.entries()) assert.match(errors[index] ?? '', message, line);
});
