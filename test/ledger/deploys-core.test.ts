// The rules about deploys, builds, plans, approvals and retries, one entry after another.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstLine } from '../../node/ledger/state-core.ts';
import { approversOf, mayApprove } from '../../protocols/ledger-rules.ts';
import {
  adoptPolicy,
  buildAndPlan,
  built,
  commit,
  createLedgerScript,
  deployToPlan,
  hash,
  type LedgerScript,
  order,
  peerIdOf,
  report,
  revision,
  storePath,
} from '../helpers/ledger-script.ts';

function fleetOf(...hosts: string[]): LedgerScript {
  const script = createLedgerScript();
  for (const host of hosts) script.join(host);
  commit(script, 'one');
  return script;
}

const taskOf = (script: LedgerScript, id: string) => script.state().tasks[id] ?? assert.fail(`no task ${id}`);
const lastNotice = (script: LedgerScript) => script.state().notices.at(-1);

test('applyEntry() carries a deploy from request to success and closes the parent with its last child', () => {
  const script = fleetOf('web1', 'web2');
  const { task, plan } = deployToPlan(script, ['web1', 'web2']);
  assert.equal(taskOf(script, task).reason?.kind, 'approval');
  assert.equal(lastNotice(script)?.level, 'approval');
  assert.match(lastNotice(script)?.text ?? '', /waits for approval by root@n1/);
  script.accept('approval-given', { task, plan, verdict: 'approve' });
  const first = order(script, task, 'web1');
  assert.equal(taskOf(script, task).stage, 'order');
  order(script, task, 'web2');
  assert.equal(taskOf(script, task).stage, 'switch');
  assert.equal(script.state().orders.web1?.number, first);
  report(script, 'web1', 'succeeded');
  assert.equal(taskOf(script, task).status, 'running');
  report(script, 'web2', 'succeeded');
  assert.equal(taskOf(script, task).outcome, 'succeeded');
  assert.equal(taskOf(script, task).stage, 'ended');
  const ran = script.state().devices.web1?.ran;
  assert.deepEqual(
    ran?.map(({ closure, order: number }) => [closure, number]),
    [[built(script, task, 'web1').closure, first]],
  );
  assert.deepEqual(taskOf(script, task).children, [
    `${task}/build-1`,
    `${task}/build-2`,
    `${task}/web1`,
    `${task}/web2`,
  ]);
});

test('applyEntry() refuses deploys to nobody, strangers, monitored hosts and other commits than the head', () => {
  const script = fleetOf('web1');
  script.join('mac', ['monitor']);
  const request = { revision: revision('one'), selector: '@all', keepGoing: false };
  script.refuse('no-hosts', 'deploy-requested', { ...request, hosts: [] });
  script.refuse('host-unknown', 'deploy-requested', { ...request, hosts: ['nobody'] });
  script.refuse('host-unknown', 'deploy-requested', { ...request, hosts: ['mac'] });
  script.refuse('hosts-repeated', 'deploy-requested', { ...request, hosts: ['web1', 'web1'] });
  script.refuse('head-moved', 'deploy-requested', { ...request, revision: revision('old'), hosts: ['web1'] });
});

test('applyEntry() needs no approval where every host approves itself and the policy stays', () => {
  const script = fleetOf('web1', 'web2');
  adoptPolicy(script, { auto: ['web1'] });
  const auto = deployToPlan(script, ['web1']);
  assert.equal(taskOf(script, auto.task).stage, 'order');
  script.refuse('already-decided', 'approval-given', { ...auto, verdict: 'approve' }, { actor: 'bob' });
  const manual = deployToPlan(script, ['web1', 'web2']);
  assert.equal(taskOf(script, manual.task).stage, 'approval');
  const changing = deployToPlan(script, ['web1'], { changesPolicy: true });
  assert.equal(taskOf(script, changing.task).stage, 'approval');
});

test('applyEntry() refuses orders before approval, of another plan, for other hosts, and twice', () => {
  const script = fleetOf('web1', 'web2');
  const { task, plan } = deployToPlan(script, ['web1']);
  const given = { task, host: 'web1', slot: 'system' as const, plan, ...built(script, task, 'web1') };
  script.refuse('not-approved', 'order-given', given);
  script.accept('approval-given', { task, plan, verdict: 'approve' });
  script.refuse('not-approved', 'order-given', { ...given, plan: hash('forged') });
  script.refuse('host-unknown', 'order-given', { ...given, host: 'web2' });
  script.refuse('host-unknown', 'order-given', { ...given, host: 'stranger' });
  script.accept('order-given', given);
  script.refuse('already-ordered', 'order-given', given);
});

test('applyEntry() holds the two-person rule', () => {
  const script = fleetOf('web1');
  adoptPolicy(script);
  const { task, plan } = deployToPlan(script, ['web1'], { actor: 'alice' });
  const approve = { task, plan, verdict: 'approve' as const };
  script.refuse('author-may-not-approve', 'approval-given', approve, { actor: 'alice' });
  script.refuse('role-missing', 'approval-given', approve, { actor: 'carol' });
  script.refuse('role-missing', 'approval-given', approve, { actor: 'root@web1' });
  script.refuse('role-missing', 'approval-given', approve, { actor: 'stranger' });
  script.refuse('plan-stale', 'approval-given', { ...approve, plan: hash('seen before') }, { actor: 'bob' });
  assert.match(script.state().notices.at(-1)?.text ?? '', /waits for approval by bob/);
  script.accept('approval-given', approve, { actor: 'bob' });
  const text = script.refuse('already-decided', 'approval-given', approve, { actor: 'bob' });
  assert.match(text, /bob said yes/);
});

test('mayApprove() takes all roots for one person who is not the other approver of an operator', () => {
  const script = fleetOf('web1');
  script.join('n2', ['voter']);
  adoptPolicy(script);
  assert.equal(mayApprove(script.state(), { author: 'root@n1' }, 'root@n2'), false);
  assert.equal(mayApprove(script.state(), { author: 'alice' }, 'root@n2'), true);
  assert.deepEqual(approversOf(script.state(), { author: 'alice' }), ['bob']);
  assert.deepEqual(approversOf(script.state(), { author: 'root@n1' }), ['alice', 'bob']);
});

test('applyEntry() lets a lone approver approve an own plan and says so', () => {
  const script = fleetOf('web1');
  adoptPolicy(script, { approvers: ['alice'] });
  const { task, plan } = deployToPlan(script, ['web1'], { actor: 'alice' });
  script.accept('approval-given', { task, plan, verdict: 'approve' }, { actor: 'alice' });
  assert.match(lastNotice(script)?.text ?? '', /as its author, nobody else being an approver/);
});

test('applyEntry() ends a rejected deploy as refused', () => {
  const script = fleetOf('web1');
  adoptPolicy(script);
  const { task, plan } = deployToPlan(script, ['web1'], { actor: 'alice' });
  script.refuse('role-missing', 'approval-given', { task, plan, verdict: 'reject' }, { actor: 'dave' });
  script.accept('approval-given', { task, plan, verdict: 'reject', reason: 'not today' }, { actor: 'bob' });
  assert.equal(taskOf(script, task).outcome, 'refused');
  assert.match(taskOf(script, task).reason?.text ?? '', /rejected by bob: not today/);
  assert.equal(taskOf(script, `${task}/web1`).outcome, 'cancelled');
  script.refuse('already-decided', 'approval-given', { task, plan, verdict: 'approve' }, { actor: 'bob' });
});

test('applyEntry() ends a deploy at its first failed host without keepGoing', () => {
  const script = fleetOf('web1', 'web2');
  const hosts = ['web1', 'web2'];
  const task = script.accept('deploy-requested', {
    revision: revision('one'),
    selector: '@all',
    hosts,
    keepGoing: false,
  });
  script.accept('host-failed', { task, attempt: 1, host: 'web1', stage: 'evaluate', reason: 'undefined variable' });
  assert.equal(taskOf(script, task).outcome, 'failed');
  assert.match(taskOf(script, task).reason?.text ?? '', /web1 failed to evaluate: undefined variable/);
  assert.equal(lastNotice(script)?.level, 'failure');
});

test('applyEntry() tells the first line of a long reason; the task that failed keeps all of it', () => {
  const script = fleetOf('web1', 'web2');
  const hosts = ['web1', 'web2'];
  const task = script.accept('deploy-requested', {
    revision: revision('one'),
    selector: '@all',
    hosts,
    keepGoing: false,
  });
  const builder = peerIdOf('n1');
  script.accept('evaluation-finished', { task, attempt: 1, evaluation: hash('e'), builder });
  const drvPath = `${storePath('web1')}.drv`;
  const reason = `building '${drvPath}' failed:\nstep 1 of 4: done\nstep 2`;
  const child = script.accept('build-started', { task, attempt: 1, drvPath, hosts: ['web1'], builder });
  script.accept('build-failed', { task, attempt: 1, drvPath, reason });
  assert.equal(taskOf(script, child).reason?.text, reason);
  assert.equal(taskOf(script, task).reason?.text, `build for web1 failed: building '${drvPath}' failed`);
  assert.doesNotMatch(script.state().notices.at(-1)?.text ?? '', /step|\n/);
});

test('firstLine() cuts a long line at a word', () => {
  assert.equal(firstLine('short: and whole\nmore'), 'short: and whole');
  const cut = firstLine('word '.repeat(100));
  assert.match(cut, /word…$/);
  assert.ok(cut.length <= 300);
  assert.equal(firstLine('x'.repeat(400)).length, 300);
});

test('applyEntry() lets hosts fail alone with keepGoing and counts them in the outcome', () => {
  const script = fleetOf('web1', 'web2', 'web3');
  const hosts = ['web1', 'web2', 'web3'];
  const task = script.accept('deploy-requested', {
    revision: revision('one'),
    selector: '@all',
    hosts,
    keepGoing: true,
  });
  const builder = peerIdOf('n1');
  script.accept('host-failed', { task, attempt: 1, host: 'web1', stage: 'evaluate', reason: 'broken' });
  script.accept('evaluation-finished', { task, attempt: 1, evaluation: hash('e'), builder });
  const drv = (host: string) => `${storePath(host)}.drv`;
  script.accept('build-started', { task, attempt: 1, drvPath: drv('web2'), hosts: ['web2'], builder });
  script.accept('build-failed', { task, attempt: 1, drvPath: drv('web2'), reason: 'exit 1' });
  script.accept('build-started', { task, attempt: 1, drvPath: drv('web3'), hosts: ['web3'], builder });
  assert.equal(taskOf(script, task).stage, 'build');
  script.accept('build-finished', { task, attempt: 1, drvPath: drv('web3'), ...built(script, task, 'web3') });
  assert.equal(taskOf(script, task).stage, 'plan');
  const plan = hash('plan');
  const made = {
    task,
    attempt: 1,
    plan,
    revision: revision('one'),
    hosts: ['web3'],
    unchanged: [],
    changesPolicy: false,
  };
  script.accept('plan-made', made);
  script.accept('approval-given', { task, plan, verdict: 'approve' });
  order(script, task, 'web3');
  report(script, 'web3', 'succeeded');
  assert.equal(taskOf(script, task).outcome, 'failed');
  assert.match(taskOf(script, task).reason?.text ?? '', /web1 failed: failed to evaluate: broken; web2 failed/);
  assert.equal(taskOf(script, `${task}/web3`).outcome, 'succeeded');
});

test('applyEntry() ends a deploy whose hosts have all failed', () => {
  const script = fleetOf('web1');
  const task = script.accept('deploy-requested', {
    revision: revision('one'),
    selector: 'web1',
    hosts: ['web1'],
    keepGoing: true,
  });
  script.accept('host-failed', { task, attempt: 1, host: 'web1', stage: 'evaluate', reason: 'broken' });
  assert.equal(taskOf(script, task).outcome, 'failed');
});

test('applyEntry() ends a plan without hosts at once, and a policy change without hosts after its approval', () => {
  const script = fleetOf('web1');
  adoptPolicy(script, { auto: ['web1'] });
  const request = { revision: revision('one'), selector: 'web1', hosts: ['web1'], keepGoing: false };
  const made = { attempt: 1, revision: revision('one'), hosts: [], unchanged: ['web1'] };
  const idle = script.accept('deploy-requested', request);
  script.accept('plan-made', { ...made, task: idle, plan: hash('p1'), changesPolicy: false });
  assert.equal(taskOf(script, idle).outcome, 'succeeded');
  assert.equal(taskOf(script, idle).reason?.text, 'nothing to do');
  const task = script.accept('deploy-requested', request, { actor: 'alice' });
  script.accept('plan-made', { ...made, task, plan: hash('p2'), changesPolicy: true });
  assert.equal(taskOf(script, task).status, 'running');
  script.accept('approval-given', { task, plan: hash('p2'), verdict: 'approve' }, { actor: 'bob' });
  assert.equal(taskOf(script, task).outcome, 'succeeded');
});

test('applyEntry() adopts a later policy only after an approved deploy of its commit completed', () => {
  const script = fleetOf('web1');
  adoptPolicy(script, { auto: ['web1'] });
  commit(script, 'two');
  const policy = { revision: revision('two'), hosts: {}, operators: {} };
  script.refuse('policy-not-deployed', 'policy-adopted', policy);
  const { task, plan } = deployToPlan(script, ['web1'], { actor: 'alice', changesPolicy: true });
  script.accept('approval-given', { task, plan, verdict: 'approve' }, { actor: 'bob' });
  order(script, task, 'web1');
  script.refuse('policy-not-deployed', 'policy-adopted', policy);
  report(script, 'web1', 'succeeded');
  script.accept('policy-adopted', policy);
  assert.equal(script.state().policy?.revision, revision('two'));
});

test('applyEntry() refuses late results of an earlier attempt', () => {
  const script = fleetOf('web1');
  const request = { revision: revision('one'), selector: 'web1', hosts: ['web1'], keepGoing: false };
  const task = script.accept('deploy-requested', request);
  script.accept('task-aborted', { task });
  script.refuse('task-ended', 'evaluation-finished', {
    task,
    attempt: 1,
    evaluation: hash('e'),
    builder: peerIdOf('n1'),
  });
  script.accept('task-retried', { task });
  script.refuse('late-result', 'evaluation-finished', {
    task,
    attempt: 1,
    evaluation: hash('e'),
    builder: peerIdOf('n1'),
  });
  script.refuse('late-result', 'task-finished', { task, attempt: 1, outcome: 'failed', reason: null });
  script.accept('evaluation-finished', { task, attempt: 2, evaluation: hash('e'), builder: peerIdOf('n1') });
  script.refuse('late-result', 'evaluation-finished', {
    task,
    attempt: 2,
    evaluation: hash('f'),
    builder: peerIdOf('n1'),
  });
});

test('applyEntry() takes over a build that another builder had started', () => {
  const script = fleetOf('web1');
  const request = { revision: revision('one'), selector: 'web1', hosts: ['web1'], keepGoing: false };
  const task = script.accept('deploy-requested', request);
  const started = { task, attempt: 1, drvPath: `${storePath('web1')}.drv`, hosts: ['web1'], builder: peerIdOf('n1') };
  script.accept('build-started', started);
  script.accept('build-started', { ...started, builder: peerIdOf('web1') });
  assert.deepEqual(taskOf(script, task).children, [`${task}/build-1`]);
  assert.equal(taskOf(script, `${task}/build-1`).builder, peerIdOf('web1'));
});

test('applyEntry() closes a build task when every host is covered', () => {
  const script = fleetOf('web1', 'web2', 'web3');
  const hosts = ['web1', 'web2', 'web3'];
  const task = script.accept('build-requested', { revision: revision('one'), selector: '@all', hosts });
  const builder = peerIdOf('n1');
  const drvPath = `${storePath('shared')}.drv`;
  script.accept('host-failed', { task, attempt: 1, host: 'web3', stage: 'evaluate', reason: 'broken' });
  script.accept('build-started', { task, attempt: 1, drvPath, hosts: ['web1', 'web2'], builder });
  script.accept('build-finished', { task, attempt: 1, drvPath, ...built(script, task, 'web1') });
  assert.equal(taskOf(script, task).outcome, 'failed');
  assert.match(taskOf(script, task).reason?.text ?? '', /^web3 failed/);
  script.accept('task-retried', { task });
  assert.deepEqual(taskOf(script, task).children, [`${task}/build-1`]);
  const other = `${storePath('web3')}.drv`;
  script.accept('build-started', { task, attempt: 2, drvPath: other, hosts: ['web3'], builder });
  script.accept('build-finished', { task, attempt: 2, drvPath: other, ...built(script, task, 'web3') });
  assert.equal(taskOf(script, task).outcome, 'succeeded');
});

test('applyEntry() retries only the hosts that failed, under the approval that was given', () => {
  const script = fleetOf('web1', 'web2');
  const { task, plan } = deployToPlan(script, ['web1', 'web2']);
  script.accept('approval-given', { task, plan, verdict: 'approve' });
  const first = order(script, task, 'web1');
  order(script, task, 'web2');
  report(script, 'web1', 'succeeded');
  report(script, 'web2', 'rolled-back', { reason: 'unit x failed' });
  assert.equal(taskOf(script, task).outcome, 'failed');
  assert.match(taskOf(script, task).reason?.text ?? '', /web2 was rolled back: unit x failed/);
  script.accept('task-retried', { task });
  assert.equal(taskOf(script, task).stage, 'order');
  assert.equal(taskOf(script, `${task}/web1`).outcome, 'succeeded');
  assert.equal(taskOf(script, `${task}/web2`).status, 'pending');
  order(script, task, 'web2');
  report(script, 'web2', 'succeeded');
  assert.equal(taskOf(script, task).outcome, 'succeeded');
  assert.equal(script.state().orders.web1?.number, first);
  script.refuse('nothing-to-retry', 'task-retried', { task });
});

test('applyEntry() plans anew at a retry where a host is not covered by the approved plan', () => {
  const script = fleetOf('web1', 'web2');
  const hosts = ['web1', 'web2'];
  const task = script.accept('deploy-requested', {
    revision: revision('one'),
    selector: '@all',
    hosts,
    keepGoing: true,
  });
  script.accept('host-failed', { task, attempt: 1, host: 'web2', stage: 'evaluate', reason: 'network' });
  const plan = buildAndPlan(script, task, ['web1']);
  script.accept('approval-given', { task, plan, verdict: 'approve' });
  order(script, task, 'web1');
  report(script, 'web1', 'succeeded');
  script.accept('task-retried', { task });
  assert.equal(taskOf(script, task).stage, 'evaluate');
  assert.equal(taskOf(script, task).plan, null);
  const second = buildAndPlan(script, task, ['web2']);
  assert.equal(taskOf(script, task).stage, 'approval');
  script.accept('approval-given', { task, plan: second, verdict: 'approve' });
  order(script, task, 'web2');
  report(script, 'web2', 'degraded', { failedUnits: ['nginx.service'] });
  assert.equal(taskOf(script, task).outcome, 'degraded');
  assert.match(taskOf(script, task).reason?.text ?? '', /web2 is degraded: failed units: nginx.service/);
});

test('applyEntry() refuses to retry running tasks, children, and deploys of an older commit', () => {
  const script = fleetOf('web1');
  const { task } = deployToPlan(script, ['web1']);
  script.refuse('task-running', 'task-retried', { task });
  script.refuse('not-retriable', 'task-retried', { task: `${task}/web1` });
  script.accept('task-aborted', { task });
  commit(script, 'two');
  script.refuse('head-moved', 'task-retried', { task });
  script.refuse('task-unknown', 'task-retried', { task: 't99' });
});

test('applyEntry() adds a notice for each failing host up to a limit and one for the end', () => {
  const hosts = Array.from({ length: 15 }, (_, number) => `w${number}`);
  const script = fleetOf(...hosts);
  const { task, plan } = deployToPlan(script, hosts);
  script.accept('approval-given', { task, plan, verdict: 'approve' });
  for (const host of hosts) order(script, task, host);
  for (const host of hosts) report(script, host, 'failed', { reason: 'no space' });
  const failures = script.state().notices.filter((notice) => notice.task === task && notice.level === 'failure');
  assert.equal(failures.length, 11);
  assert.match(failures.at(-1)?.text ?? '', /w0 failed: no space.* and w5, w6/);
});
