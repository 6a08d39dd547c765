import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide, type Volatile } from '../../node/control/coordinator-core.ts';
import type { Evaluation } from '../../protocols/build-job.ts';
import type { LedgerState, Task } from '../../protocols/ledger-state.ts';
import type { Plan } from '../../protocols/plan.ts';
import { buildState, buildTask, drvPath, hash, memberOf, peerId, revision, storePath } from './helpers.ts';

const members = [memberOf('hub', ['voter', 'builder']), memberOf('web1', ['member']), memberOf('web2', ['member'])];
const evaluationHash = hash('evaluation');
const planHash = hash('plan');

const evaluated = (name: string, closure = name) => ({
  name,
  toplevel: { drvPath: drvPath(closure), storePath: storePath(closure), system: 'x86_64-linux' },
  error: null,
});
const failing = (name: string) => ({
  name,
  toplevel: null,
  error: { code: 'x', message: `${name} is bad`, retryable: false },
});

function evaluation(...hosts: Evaluation['hosts']): Evaluation {
  return { revision: revision('head'), parley: null, hostNames: hosts.map((host) => host.name), hosts };
}

function known(fields: Partial<Volatile> = {}): Volatile {
  return {
    evaluations: new Map(),
    plans: new Map(),
    isOnline: () => true,
    withoutPolicy: new Set(),
    checkpoint: undefined,
    voters: null,
    ...fields,
  };
}

function stateWith(tasks: Task[], fields: Partial<LedgerState> = {}): LedgerState {
  return { ...buildState({ members, operators: { dan: ['deployer'] }, tasks }), ...fields };
}

const keys = (state: LedgerState, volatile = known()) => decide(state, volatile).map((action) => action.key);

function deploy(fields: Partial<Task>): Task {
  return buildTask({ id: 't1', type: 'deploy', hosts: ['web1', 'web2'], revision: revision('head'), ...fields });
}

test('decide() has nothing to do for a state without open tasks', () => {
  assert.deepEqual(keys(stateWith([])), []);
  const over = deploy({ status: 'completed', outcome: 'succeeded', stage: 'ended' });
  assert.deepEqual(keys(stateWith([over])), []);
});

test('decide() starts commits, updates and evaluations by task and attempt', () => {
  assert.deepEqual(keys(stateWith([buildTask({ id: 't1', type: 'commit' })])), ['commit:t1:1']);
  assert.deepEqual(keys(stateWith([buildTask({ id: 't2', type: 'update-inputs', attempt: 3 })])), ['update:t2:3']);
  assert.deepEqual(keys(stateWith([deploy({ stage: 'evaluate' })])), ['evaluate:t1:1']);
});

test('decide() reads the evaluation before it builds, and builds each derivation once for all hosts that share it', () => {
  const state = stateWith([deploy({ stage: 'build', evaluation: evaluationHash })]);
  assert.deepEqual(keys(state), [`read:${evaluationHash}`]);
  const evaluations = new Map([[evaluationHash, evaluation(evaluated('web1', 'same'), evaluated('web2', 'same'))]]);
  const [action, ...more] = decide(state, known({ evaluations }));
  assert.ok(action?.kind === 'build');
  assert.deepEqual(action.build, { drvPath: drvPath('same'), system: 'x86_64-linux', hosts: ['web1', 'web2'] });
  assert.deepEqual(more, []);
});

test('decide() does not build again what was built, and does what failed in an earlier attempt', () => {
  const evaluations = new Map([[evaluationHash, evaluation(evaluated('web1'), evaluated('web2'))]]);
  const parent = deploy({
    stage: 'build',
    evaluation: evaluationHash,
    attempt: 2,
    children: ['t1/build-1', 't1/build-2'],
  });
  const built = buildTask({
    id: 't1/build-1',
    type: 'build',
    parent: 't1',
    drvPath: drvPath('web1'),
    hosts: ['web1'],
    status: 'completed',
    outcome: 'succeeded',
  });
  const failed = {
    ...built,
    id: 't1/build-2',
    drvPath: drvPath('web2'),
    status: 'failed' as const,
    outcome: 'failed' as const,
  };
  assert.deepEqual(keys(stateWith([parent, built, failed]), known({ evaluations })), [`build:${drvPath('web2')}:t1:2`]);
  const now = { ...failed, attempt: 2 };
  assert.deepEqual(keys(stateWith([parent, built, now]), known({ evaluations })), []);
});

test('decide() tells one failed host and builds nothing without keepGoing, all of them and the rest with it', () => {
  const evaluations = new Map([[evaluationHash, evaluation(failing('web1'), evaluated('web2'))]]);
  const task = deploy({ stage: 'build', evaluation: evaluationHash });
  assert.deepEqual(keys(stateWith([task]), known({ evaluations })), ['evaluation-failed:web1:t1:1']);
  const going = { ...task, keepGoing: true };
  assert.deepEqual(keys(stateWith([going]), known({ evaluations })), [
    'evaluation-failed:web1:t1:1',
    `build:${drvPath('web2')}:t1:1`,
  ]);
  const told = buildTask({
    id: 't1/web1',
    type: 'deploy-device',
    parent: 't1',
    host: 'web1',
    status: 'failed',
    outcome: 'failed',
  });
  const state = stateWith([{ ...going, children: ['t1/web1'] }, told]);
  assert.deepEqual(keys(state, known({ evaluations })), [`build:${drvPath('web2')}:t1:1`]);
});

test('decide() says which host the flake does not have', () => {
  const evaluations = new Map([[evaluationHash, evaluation(evaluated('web1'))]]);
  const [action] = decide(stateWith([deploy({ stage: 'build', evaluation: evaluationHash })]), known({ evaluations }));
  assert.ok(action?.kind === 'propose' && action.draft.kind === 'host-failed');
  assert.equal(action.draft.body.reason, 'the flake has no nixosConfigurations.web2');
});

test('decide() plans once everything is built, and waits for approval', () => {
  const evaluations = new Map([[evaluationHash, evaluation(evaluated('web1'), evaluated('web2'))]]);
  const planning = stateWith([deploy({ stage: 'plan', evaluation: evaluationHash })]);
  assert.deepEqual(keys(planning, known({ evaluations })), ['plan:t1:1']);
  assert.deepEqual(keys(stateWith([deploy({ stage: 'approval', plan: planHash })])), []);
});

const row = (host: string) => ({ host, closure: storePath(host), manifest: hash(host), before: null });
const plan: Plan = {
  version: 1,
  task: 't1',
  attempt: 1,
  revision: revision('head'),
  hosts: [row('web1'), row('web2')],
  closures: [],
  leftOut: [],
  policy: { revision: revision('head'), hosts: {}, operators: {} },
  changesPolicy: true,
};
const record = {
  task: 't1',
  attempt: 1,
  revision: revision('head'),
  author: 'dan',
  hosts: ['web1', 'web2'],
  changesPolicy: true,
  needsApproval: true,
  approved: true,
  rejected: false,
  approvals: [],
};
const plans = new Map([[planHash, plan]]);
const child = (host: string, fields: Partial<Task> = {}) =>
  buildTask({ id: `t1/${host}`, type: 'deploy-device', parent: 't1', host, status: 'pending', ...fields });

test('decide() gives an order to each pending host of an approved plan, once', () => {
  const task = deploy({ stage: 'order', plan: planHash, children: ['t1/web1', 't1/web2'] });
  const ordered = child('web1', { status: 'running', order: 7 });
  const state = stateWith([task, ordered, child('web2')], { plans: { [planHash]: record } });
  assert.deepEqual(keys(state), [`read:${planHash}`]);
  const [action, ...more] = decide(state, known({ plans }));
  assert.ok(action?.kind === 'propose' && action.draft.kind === 'order-given');
  assert.deepEqual(action.draft.body, {
    task: 't1',
    host: 'web2',
    slot: 'system',
    plan: planHash,
    closure: storePath('web2'),
    manifest: hash('web2'),
  });
  assert.deepEqual(more, []);
  const unapproved = { ...state, plans: { [planHash]: { ...record, approved: false } } };
  assert.deepEqual(keys(unapproved, known({ plans })), []);
});

test('decide() cancels the orders of an aborted deploy and ends the children of devices that are away', () => {
  const task = deploy({ stage: 'switch', plan: planHash, abortedBy: 'dan', children: ['t1/web1'] });
  const order = {
    generation: 0,
    number: 7,
    peer: peerId('web1'),
    host: 'web1',
    task: 't1',
    plan: planHash,
    closure: storePath('web1'),
    manifest: hash('web1'),
    revision: null,
    givenAtMs: 1,
    cancelled: false,
    outcome: null,
    reason: null,
  };
  const running = child('web1', { status: 'running', order: 7 });
  const state = stateWith([task, running], { orders: { web1: order } });
  assert.deepEqual(keys(state), ['cancel:7']);
  const cancelled = { ...state, orders: { web1: { ...order, cancelled: true } } };
  assert.deepEqual(keys(cancelled), []);
  assert.deepEqual(keys(cancelled, known({ isOnline: () => false })), ['cancelled:7']);
  const alone = stateWith(
    [
      { ...task, abortedBy: null },
      { ...running, abortedBy: 'dan' },
    ],
    { orders: { web1: order } },
  );
  assert.deepEqual(keys(alone).includes('cancel:7'), true);
});

test('decide() adopts a policy once its deploy completed with an approved plan, the newest deploy only', () => {
  const done = deploy({ status: 'completed', outcome: 'succeeded', stage: 'ended', plan: planHash, endedAtMs: 5 });
  const state = stateWith([done], { plans: { [planHash]: record } });
  assert.deepEqual(keys(state, known({ plans })), [`policy:${revision('head')}`]);
  const inForce = { ...state, policy: plan.policy };
  assert.deepEqual(keys(inForce, known({ plans })), []);
  const rejected = { ...state, plans: { [planHash]: { ...record, approved: false } } };
  assert.deepEqual(keys(rejected, known({ plans })), []);
  const failed = stateWith([{ ...done, status: 'failed', outcome: 'failed' }], { plans: { [planHash]: record } });
  assert.deepEqual(keys(failed, known({ plans })), []);
});

test('decide() brings the first policy into force with the first commit, and gives up on one without', () => {
  const state = stateWith([], { policy: null, head: revision('head') });
  assert.deepEqual(keys(state), [`first-policy:${revision('head')}`]);
  assert.deepEqual(keys(state, known({ withoutPolicy: new Set([revision('head')]) })), []);
});
