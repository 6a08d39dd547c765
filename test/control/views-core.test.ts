import assert from 'node:assert/strict';
import { test } from 'node:test';
import { standingOf } from '../../node/control/standing-core.ts';
import { tasksView, taskView } from '../../node/control/task-views-core.ts';
import { statusView, type ViewFacts } from '../../node/control/views-core.ts';
import { check } from '../../protocols/codec.ts';
import type { LedgerState, Order, Task } from '../../protocols/ledger-state.ts';
import { statusViewSchema, taskViewSchema } from '../../protocols/views.ts';
import { buildState, buildTask, hash, memberOf, peerId, revision, storePath } from './helpers.ts';

const members = [memberOf('hub', ['voter']), memberOf('web1', ['member']), memberOf('web2', ['member'])];

const quietBeat = {
  version: 1 as const,
  atMs: 1,
  release: '0',
  incarnation: 1,
  journalSequence: 0,
  ledgerIndex: 1,
  running: null,
  booted: null,
  activity: null,
  traffic: {},
};

function factsFor(online: readonly string[], fields: Partial<ViewFacts> = {}): ViewFacts {
  const peers = new Set(online.map(peerId));
  return {
    controller: peerId('hub'),
    current: true,
    presence: (peer) => ({ online: peers.has(peer), lastSeenMs: 0, beat: null }),
    waits: () => undefined,
    progress: () => undefined,
    ...fields,
  };
}

function orderFor(host: string, fields: Partial<Order> = {}): Order {
  return {
    generation: 0,
    number: 7,
    peer: peerId(host),
    host,
    task: 't1',
    plan: hash('plan'),
    closure: storePath('new'),
    manifest: hash('new'),
    revision: revision('new'),
    givenAtMs: 1,
    cancelled: false,
    outcome: null,
    reason: null,
    ...fields,
  };
}

function switching(...outcomes: readonly (Task['outcome'] | 'open')[]): LedgerState {
  const children = outcomes.map((outcome, at) => {
    const host = `web${at + 1}`;
    const ended = outcome === 'open' ? {} : { status: 'completed' as const, outcome };
    return buildTask({ id: `t1/${host}`, type: 'deploy-device', parent: 't1', host, order: 7, ...ended });
  });
  const hosts = children.map((child) => child.host ?? '');
  const parent = buildTask({
    id: 't1',
    type: 'deploy',
    stage: 'switch',
    hosts,
    children: children.map((child) => child.id),
  });
  return buildState({ members, tasks: [parent, ...children] });
}

function standing(state: LedgerState, facts: ViewFacts) {
  const task = state.tasks.t1;
  assert.ok(task);
  return standingOf(task, state, facts);
}

test('statusView() shows the target of a host, and none where its order was cancelled in time', () => {
  const desired = (order: Partial<Order>) => {
    const state = { ...buildState({ members }), orders: { web1: orderFor('web1', order) } };
    const view = check(statusViewSchema, statusView(state, factsFor(['hub'])));
    return view.peers.find((peer) => peer.name === 'web1')?.desired;
  };
  assert.equal(desired({}), storePath('new'));
  assert.equal(desired({ cancelled: true }), null);
  assert.equal(desired({ cancelled: true, outcome: 'cancelled' }), null);
  assert.equal(desired({ cancelled: true, outcome: 'succeeded' }), storePath('new'));
});

test('statusView() shows no activity of an order that has ended', () => {
  const activity = { order: 7, state: 'undoing', text: 'going back', bytesDone: 0, bytesTotal: 0 };
  const presence = () => ({ online: true, lastSeenMs: 1, beat: { ...quietBeat, activity } });
  const shown = (order: Partial<Order>) => {
    const state = { ...buildState({ members }), orders: { web1: orderFor('web1', order) } };
    return statusView(state, factsFor(['hub'], { presence })).peers.find(({ name }) => name === 'web1')?.activity;
  };
  assert.equal(shown({}), 'undoing: going back');
  assert.equal(shown({ outcome: 'rolled-back' }), null);
  assert.equal(shown({ number: 6, outcome: 'rolled-back' }), 'undoing: going back');
});

test('standingOf() goes on while a device that is there has work to do', () => {
  const state = switching('succeeded', 'open');
  const running = standing(state, factsFor(['hub', 'web1', 'web2']));
  assert.equal(running.kind, 'runs');
  assert.match(running.text, /switching web2/);
});

test('standingOf() waits for devices that are away with the worst outcome so far', () => {
  const fine = standing(switching('succeeded', 'open'), factsFor(['hub', 'web1']));
  assert.ok(fine.kind === 'waits');
  assert.deepEqual([fine.outcome, fine.waitsFor], ['succeeded', 'the return of web2']);
  const bad = standing(switching('rolled-back', 'open'), factsFor(['hub', 'web1']));
  assert.ok(bad.kind === 'waits');
  assert.equal(bad.outcome, 'rolled-back');
});

test('standingOf() names what a job waits for', () => {
  const task = buildTask({ id: 't1', type: 'deploy', stage: 'evaluate', hosts: ['web1'] });
  const waits = () => ({ kind: 'builder' as const, text: 'no builder is online: hub is offline' });
  const running = standing(buildState({ members, tasks: [task] }), factsFor(['hub'], { waits }));
  assert.equal(running.text, 't1 deploy to web1: no builder is online: hub is offline');
});

test('taskView() shows bytes while a device fetches, and the parts of its parent', () => {
  const state = switching('succeeded', 'open');
  const activity = { order: 7, state: 'checked', text: 'fetching the closure', bytesDone: 5, bytesTotal: 20 };
  const beat = { ...quietBeat, activity };
  const facts = factsFor(['hub', 'web2'], { presence: () => ({ online: true, lastSeenMs: 1, beat }) });
  const view = (id: string) => {
    const task = state.tasks[id];
    assert.ok(task);
    return check(taskViewSchema, taskView(task, state, facts)).progress;
  };
  assert.deepEqual(view('t1/web2'), { done: 5, total: 20, unit: 'bytes', text: 'fetching the closure' });
  assert.deepEqual(view('t1'), { done: 1, total: 2, unit: 'parts', text: 'hosts done' });
});

test('tasksView() lists the newest first with their children, old ended ones only when asked', () => {
  const ended = Array.from({ length: 30 }, (_, at) =>
    buildTask({ id: `t${at + 1}`, type: 'commit', status: 'completed', outcome: 'succeeded' }),
  );
  const open = buildTask({ id: 't31', type: 'deploy', children: ['t31/web1'] });
  const child = buildTask({ id: 't31/web1', type: 'deploy-device', parent: 't31' });
  const state = buildState({ members, tasks: [...ended, open, child] });
  const ids = (all: boolean) => tasksView(state, factsFor([]), all).tasks.map((task) => task.id);
  assert.deepEqual(ids(false).slice(0, 3), ['t31', 't31/web1', 't30']);
  assert.equal(ids(false).length, 22);
  assert.equal(ids(true).length, 32);
});
