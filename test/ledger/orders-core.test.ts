// The rules about orders, what devices report, aborting, rolling back, and what is kept.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ranClosuresMax } from '../../protocols/ledger-state.ts';
import {
  adoptPolicy,
  commit,
  createLedgerScript,
  deployToPlan,
  hash,
  type LedgerScript,
  order,
  peerIdOf,
  report,
  storePath,
} from '../helpers/ledger-script.ts';

function ordered(...hosts: string[]): { script: LedgerScript; task: string } {
  const script = createLedgerScript();
  for (const host of hosts) script.join(host);
  commit(script, 'one');
  return { script, task: deployAndOrder(script, hosts) };
}

function deployAndOrder(script: LedgerScript, hosts: readonly string[]): string {
  const { task, plan } = deployToPlan(script, hosts);
  if (script.state().tasks[task]?.stage === 'approval')
    script.accept('approval-given', { task, plan, verdict: 'approve' });
  for (const host of hosts) order(script, task, host);
  return task;
}

const taskOf = (script: LedgerScript, id: string) => script.state().tasks[id] ?? assert.fail(`no task ${id}`);

test('applyEntry() takes reports with rising numbers only, and from a new incarnation anew', () => {
  const { script } = ordered('web1');
  const said = { peer: peerIdOf('web1'), running: storePath('a'), booted: null };
  script.accept('device-reported', { ...said, incarnation: 1, sequence: 5 });
  script.refuse('report-stale', 'device-reported', { ...said, incarnation: 1, sequence: 5 });
  script.refuse('report-stale', 'device-reported', { ...said, incarnation: 1, sequence: 4 });
  script.accept('device-reported', { ...said, incarnation: 2, sequence: 1 });
  script.refuse('report-stale', 'device-reported', { ...said, incarnation: 1, sequence: 9 });
  script.refuse('member-unknown', 'device-reported', { ...said, peer: peerIdOf('x'), incarnation: 1, sequence: 1 });
  assert.equal(script.state().devices.web1?.running, storePath('a'));
});

test('applyEntry() tells people of an alarm once, and remembers it while the journal goes on', () => {
  const { script } = ordered('web1');
  const said = { peer: peerIdOf('web1'), running: null, booted: null, incarnation: 1 };
  const alarms = () => script.state().notices.filter(({ text }) => /web1 accepts no orders any more: twice/.test(text));
  script.accept('device-reported', { ...said, sequence: 1, alarm: 'twice' });
  script.accept('device-reported', { ...said, sequence: 2, alarm: 'twice' });
  script.accept('device-reported', { ...said, sequence: 3 });
  assert.deepEqual(
    alarms().map(({ level }) => level),
    ['failure'],
  );
  assert.equal(script.state().devices.web1?.alarm, 'twice');
  script.accept('device-reported', { ...said, incarnation: 2, sequence: 1 });
  assert.equal(script.state().devices.web1?.alarm, undefined);
});

test('applyEntry() ends an order once', () => {
  const { script, task } = ordered('web1', 'web2');
  report(script, 'web1', 'rolled-back', { reason: 'health' });
  const child = taskOf(script, `${task}/web1`);
  report(script, 'web1', 'succeeded');
  assert.equal(taskOf(script, `${task}/web1`), child);
  assert.deepEqual(script.state().devices.web1?.ran, []);
  assert.equal(script.state().orders.web1?.outcome, 'rolled-back');
});

test('applyEntry() supersedes the child of an older order and closes its parent', () => {
  const { script, task } = ordered('web1', 'web2');
  report(script, 'web1', 'succeeded');
  const second = deployAndOrder(script, ['web2']);
  assert.equal(taskOf(script, `${task}/web2`).outcome, 'superseded');
  assert.equal(taskOf(script, task).outcome, 'succeeded');
  assert.match(taskOf(script, task).reason?.text ?? '', /web2 got a newer order/);
  assert.equal(script.state().orders.web2?.task, second);
});

test('applyEntry() closes a deploy as superseded when all its hosts got newer orders', () => {
  const { script, task } = ordered('web1');
  deployAndOrder(script, ['web1']);
  assert.equal(taskOf(script, task).outcome, 'superseded');
});

test('applyEntry() puts the truth in the place of a superseded child when its device reports late', () => {
  const { script, task } = ordered('web1');
  const number = script.state().orders.web1?.number ?? 0;
  const second = deployAndOrder(script, ['web1']);
  report(script, 'web1', 'succeeded', { order: number });
  assert.equal(taskOf(script, `${task}/web1`).outcome, 'succeeded');
  assert.equal(taskOf(script, `${second}/web1`).status, 'running');
  assert.equal(script.state().orders.web1?.outcome, null);
  assert.equal(script.state().devices.web1?.ran.length, 1);
});

test("applyEntry() aborts a deploy: what has no order ends, what has one is the device's to say", () => {
  const script = createLedgerScript();
  for (const host of ['web1', 'web2', 'web3']) script.join(host);
  commit(script, 'one');
  const { task, plan } = deployToPlan(script, ['web1', 'web2', 'web3']);
  script.accept('approval-given', { task, plan, verdict: 'approve' });
  const number = order(script, task, 'web1');
  const other = order(script, task, 'web2');
  script.accept('task-aborted', { task }, { actor: 'alice' });
  assert.equal(taskOf(script, `${task}/web3`).outcome, 'cancelled');
  assert.equal(taskOf(script, task).status, 'running');
  assert.equal(taskOf(script, task).abortedBy, 'alice');
  assert.match(taskOf(script, task).reason?.text ?? '', /already ordered: web1, web2/);
  script.refuse('already-aborted', 'task-aborted', { task });
  const given = { task, host: 'web3', slot: 'system' as const, plan, closure: storePath('x'), manifest: hash('x') };
  script.refuse('task-aborted', 'order-given', given);
  script.accept('order-cancelled', { task, host: 'web1', order: number });
  assert.equal(script.state().orders.web1?.cancelled, true);
  assert.equal(taskOf(script, `${task}/web1`).status, 'running');
  report(script, 'web1', 'cancelled');
  script.accept('order-cancelled', { task, host: 'web2', order: other });
  report(script, 'web2', 'succeeded');
  assert.equal(taskOf(script, task).outcome, 'cancelled');
  assert.match(
    taskOf(script, task).reason?.text ?? '',
    /aborted by alice; past the point of no return: web2 succeeded/,
  );
});

test('applyEntry() lets the controller write off a cancelled order of an offline device, until the device says otherwise', () => {
  const { script, task } = ordered('web1');
  const number = script.state().orders.web1?.number ?? 0;
  const child = `${task}/web1`;
  script.refuse('orders-open', 'task-finished', { task: child, attempt: 1, outcome: 'cancelled', reason: null });
  script.refuse('orders-open', 'task-finished', { task, attempt: 1, outcome: 'cancelled', reason: null });
  script.refuse('order-unknown', 'order-cancelled', { task, host: 'web1', order: number - 1 });
  script.accept('task-aborted', { task });
  script.accept('order-cancelled', { task, host: 'web1', order: number });
  script.accept('task-finished', { task: child, attempt: 1, outcome: 'cancelled', reason: 'offline' });
  assert.equal(taskOf(script, task).outcome, 'cancelled');
  assert.equal(script.state().orders.web1?.outcome, 'cancelled');
  script.refuse('order-ended', 'order-cancelled', { task, host: 'web1', order: number });
  report(script, 'web1', 'succeeded');
  assert.equal(taskOf(script, child).outcome, 'succeeded');
  assert.equal(script.state().orders.web1?.outcome, 'succeeded');
  assert.equal(taskOf(script, task).outcome, 'cancelled');
  assert.equal(script.state().devices.web1?.ran.length, 1);
});

test('applyEntry() aborts one host of a deploy', () => {
  const script = createLedgerScript();
  for (const host of ['web1', 'web2']) script.join(host);
  commit(script, 'one');
  const { task, plan } = deployToPlan(script, ['web1', 'web2']);
  script.accept('task-aborted', { task: `${task}/web1` });
  script.accept('approval-given', { task, plan, verdict: 'approve' });
  order(script, task, 'web2');
  script.accept('task-aborted', { task: `${task}/web2` }, { actor: 'alice' });
  assert.equal(taskOf(script, `${task}/web2`).abortedBy, 'alice');
});

test('applyEntry() remembers each closure once, newest first, at most so many', () => {
  const script = createLedgerScript();
  script.join('web1');
  for (let number = 0; number < ranClosuresMax + 3; number += 1) {
    commit(script, `commit ${number}`);
    deployAndOrder(script, ['web1']);
    report(script, 'web1', 'succeeded');
  }
  const ran = script.state().devices.web1?.ran ?? [];
  assert.equal(ran.length, ranClosuresMax);
  assert.equal(ran[0]?.closure, script.state().orders.web1?.closure);
  assert.equal(new Set(ran.map(({ closure }) => closure)).size, ranClosuresMax);
});

test('applyEntry() rolls a host back to what it ran, without a second person', () => {
  const script = createLedgerScript();
  script.join('web1');
  commit(script, 'one');
  deployAndOrder(script, ['web1']);
  report(script, 'web1', 'succeeded');
  const old = script.state().devices.web1?.ran[0] ?? assert.fail();
  commit(script, 'two');
  deployAndOrder(script, ['web1']);
  report(script, 'web1', 'succeeded');
  adoptPolicy(script);
  const wanted = { host: 'web1', closure: old.closure, manifest: old.manifest, plan: hash('rollback') };
  script.refuse('role-missing', 'rollback-requested', wanted, { actor: 'carol' });
  script.refuse('closure-unknown', 'rollback-requested', { ...wanted, closure: storePath('never') }, { actor: 'dave' });
  const task = script.accept('rollback-requested', wanted, { actor: 'dave' });
  script.refuse('rollback-running', 'rollback-requested', { ...wanted, plan: hash('again') }, { actor: 'dave' });
  assert.equal(taskOf(script, task).stage, 'order');
  const given = {
    task,
    host: 'web1',
    slot: 'system' as const,
    plan: hash('rollback'),
    ...{ closure: old.closure, manifest: old.manifest },
  };
  script.accept('order-given', given);
  report(script, 'web1', 'succeeded');
  assert.equal(taskOf(script, task).outcome, 'succeeded');
  assert.equal(script.state().devices.web1?.ran[0]?.closure, old.closure);
  assert.equal(script.state().devices.web1?.ran.length, 2);
  script.refuse('nothing-to-do', 'rollback-requested', { ...wanted, plan: hash('third') }, { actor: 'dave' });
});

test('applyEntry() ends a rollback as its one device ended', () => {
  const script = createLedgerScript();
  script.join('web1');
  for (const name of ['one', 'two']) {
    commit(script, name);
    deployAndOrder(script, ['web1']);
    report(script, 'web1', 'succeeded');
  }
  const old = script.state().devices.web1?.ran[1] ?? assert.fail();
  const wanted = { host: 'web1', closure: old.closure, manifest: old.manifest, plan: hash('rollback') };
  const task = script.accept('rollback-requested', wanted, { actor: 'root@web1' });
  const { closure, manifest } = old;
  script.accept('order-given', { task, host: 'web1', slot: 'system', plan: hash('rollback'), closure, manifest });
  report(script, 'web1', 'rolled-back', { reason: 'health' });
  assert.equal(taskOf(script, task).outcome, 'rolled-back');
  script.accept('task-retried', { task });
  assert.equal(taskOf(script, `${task}/web1`).status, 'pending');
});

test('applyEntry() keeps a bounded number of tasks, plans, notices, and the running ones', () => {
  const script = createLedgerScript();
  script.join('web1');
  commit(script, 'one');
  const running = script.accept('update-requested', { inputs: [] });
  for (let number = 0; number < 520; number += 1) {
    const task = script.accept('deploy-requested', {
      revision: script.state().head ?? '',
      selector: 'web1',
      hosts: ['web1'],
      keepGoing: true,
    });
    script.accept('plan-made', {
      task,
      attempt: 1,
      plan: hash(`plan ${number}`),
      revision: script.state().head ?? '',
      hosts: [],
      unchanged: ['web1'],
      changesPolicy: false,
    });
  }
  const { tasks, plans, notices } = script.state();
  assert.equal(Object.keys(tasks).length, 500);
  assert.equal(Object.keys(plans).length, 100);
  assert.equal(notices.length, 200);
  assert.equal(tasks[running]?.status, 'running');
});

test('applyEntry() records deliveries of notices once each', () => {
  const { script } = ordered('web1');
  const number = script.state().notices.at(-1)?.number ?? 0;
  script.accept('notice-delivered', { notice: number, sink: 'console' });
  script.accept('notice-delivered', { notice: number, sink: 'console' });
  assert.deepEqual(script.state().notices.at(-1)?.deliveredTo, ['console']);
  script.refuse('notice-unknown', 'notice-delivered', { notice: 9_999, sink: 'console' });
});
