import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createCatalogue } from '../../node/control/catalogue.ts';
import { createCoordinator } from '../../node/control/coordinator.ts';
import { createReports } from '../../node/control/reports.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { FlakeSpec } from './builders.ts';
import { FakeFleet } from './fleet.ts';
import { drvPath, hash, peerId, revision, storePath } from './helpers.ts';

const head = revision('commit of tree');
const policy = {
  hosts: { web1: { tags: ['web'] }, web2: { tags: ['web'] }, db1: {} },
  operators: { dan: { roles: ['deployer'] }, ann: { roles: ['approver'] } },
};
const flake: FlakeSpec = { hosts: ['web1', 'web2', 'db1'], shared: ['web1', 'web2'], parley: policy };

/** Three voters, three devices, and a first commit that waits to be made. */
function buildFleet(spec: FlakeSpec = flake): FakeFleet {
  const fleet = new FakeFleet([
    { name: 'hub', roles: ['member', 'voter', 'builder'] },
    { name: 'v2', roles: ['member', 'voter', 'builder'] },
    { name: 'v3', roles: ['member', 'voter'] },
    ...['web1', 'web2', 'db1'].map((name) => ({ name, roles: ['member' as const] })),
  ]);
  fleet.builders.flakes.set(head, spec);
  return fleet;
}

/** Starts what a controller runs at these peers. */
function startControllers(t: TestContext, fleet: FakeFleet, names: readonly string[]): void {
  for (const name of names) {
    const components = fleet.componentsOf(name);
    const isOnline = (peer: string) => components.presence.of(peer).online;
    const catalogue = createCatalogue({ ...components, isOnline });
    const coordinator = createCoordinator({ ...components, catalogue });
    const reports = createReports(components);
    coordinator.start();
    reports.start();
    t.after(() => {
      void coordinator.stop();
      void reports.stop();
    });
  }
}

function commit(fleet: FakeFleet): void {
  const draft = {
    base: null,
    previous: null,
    tree: revision('tree').slice(0, 40),
    pack: hash('pack'),
    files: [],
    fileCount: 1,
  };
  fleet.apply({
    kind: 'draft-staged',
    actor: 'root@hub',
    body: { ...draft, tree: 'tree'.padEnd(40, '0').replace(/[^0-9a-f]/g, 'a') },
  });
  const staged = fleet.state().draft;
  assert.ok(staged);
  fleet.builders.flakes.set(revision(`commit of ${staged.tree}`), fleet.builders.flakes.get(head) ?? flake);
  fleet.apply({ kind: 'commit-intended', actor: 'root@hub', body: { draft: staged.hash, message: 'first' } });
}

async function committed(fleet: FakeFleet): Promise<string> {
  commit(fleet);
  const state = await fleet.until('the first policy is in force', ({ policy }) => policy !== null);
  assert.ok(state.head);
  return state.head;
}

function requestDeploy(fleet: FakeFleet, hosts: string[], keepGoing = false): string {
  const revision = fleet.state().head;
  assert.ok(revision);
  const body = { revision, selector: hosts.join(','), hosts, keepGoing };
  const { result } = fleet.apply({ kind: 'deploy-requested', actor: 'dan', body });
  assert.ok(result.task);
  return result.task;
}

async function approve(fleet: FakeFleet, task: string): Promise<void> {
  const state = await fleet.until(`${task} waits for approval`, ({ tasks }) => tasks[task]?.stage === 'approval');
  const plan = state.tasks[task]?.plan;
  assert.ok(plan);
  fleet.apply({ kind: 'approval-given', actor: 'ann', body: { task, plan, verdict: 'approve' } });
}

const ended = (task: string) => (state: LedgerState) => state.tasks[task]?.outcome != null;

test('createCoordinator() carries a commit and a deploy through to their ends', async (t) => {
  const fleet = buildFleet();
  startControllers(t, fleet, ['hub']);
  fleet.lead('hub');
  await committed(fleet);
  const task = requestDeploy(fleet, ['db1', 'web1', 'web2']);
  await approve(fleet, task);
  const state = await fleet.until('the deploy ends', ended(task));
  assert.equal(state.tasks[task]?.outcome, 'succeeded', state.tasks[task]?.reason?.text);
  assert.equal(state.devices.web1?.running, storePath('system-shared-1.0'));
  const builds = fleet.asked.filter((what) => what.includes(' build '));
  assert.deepEqual(
    builds.sort(),
    [`hub build ${drvPath('system-db1-1.0')} on hub`, `hub build ${drvPath('system-shared-1.0')} on hub`].sort(),
  );
});

test('createCoordinator() gives no order to a host that runs the planned closure', async (t) => {
  const fleet = buildFleet();
  startControllers(t, fleet, ['hub']);
  fleet.lead('hub');
  await committed(fleet);
  const first = requestDeploy(fleet, ['web1']);
  await approve(fleet, first);
  await fleet.until('the first deploy ends', ended(first));
  const second = requestDeploy(fleet, ['web1']);
  const state = await fleet.until('the second plan is made', ({ tasks }) => tasks[second]?.plan != null);
  const plan = state.plans[state.tasks[second]?.plan ?? ''];
  assert.deepEqual(plan?.hosts, []);
  assert.equal(fleet.entriesOf('order-given').length, 1);
});

test('createCoordinator() fails the deploy before anything is built when a host cannot be evaluated', async (t) => {
  const fleet = buildFleet({ ...flake, fails: ['db1', 'web2'] });
  startControllers(t, fleet, ['hub']);
  fleet.lead('hub');
  await committed(fleet);
  const task = requestDeploy(fleet, ['db1', 'web1', 'web2']);
  const state = await fleet.until('the deploy ends', ended(task));
  assert.equal(state.tasks[task]?.outcome, 'failed');
  assert.match(state.tasks[task]?.reason?.text ?? '', /db1 failed to evaluate: db1 is broken \(as do web2\)/);
  assert.deepEqual(
    fleet.asked.filter((what) => what.includes(' build ')),
    [],
  );
});

test('createCoordinator() lets a failing host fail alone with keepGoing', async (t) => {
  const fleet = buildFleet({ ...flake, fails: ['db1'] });
  fleet.builders.broken.add(drvPath('system-web2-1.0'));
  fleet.builders.flakes.set(head, { ...flake, fails: ['db1'], shared: [] });
  startControllers(t, fleet, ['hub']);
  fleet.lead('hub');
  await committed(fleet);
  const task = requestDeploy(fleet, ['db1', 'web1', 'web2'], true);
  await approve(fleet, task);
  const state = await fleet.until('the deploy ends', ended(task));
  assert.equal(state.tasks[`${task}/db1`]?.outcome, 'failed');
  assert.equal(state.tasks[`${task}/web2`]?.outcome, 'failed');
  assert.equal(state.tasks[`${task}/web1`]?.outcome, 'succeeded');
  assert.equal(state.tasks[task]?.outcome, 'failed');
});

test('createCoordinator() waits for a builder and says so', async (t) => {
  const fleet = buildFleet();
  startControllers(t, fleet, ['v3']);
  fleet.lead('v3');
  await committed(fleet);
  fleet.setOnline('hub', false);
  fleet.setOnline('v2', false);
  const task = requestDeploy(fleet, ['web1']);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(fleet.state().tasks[task]?.stage, 'evaluate');
  fleet.setOnline('v2', true);
  await fleet.until('the deploy waits for approval', ({ tasks }) => tasks[task]?.stage === 'approval');
  assert.ok(fleet.asked.includes('v3 evaluate web1 on v2'));
});

test('createCoordinator() ends an aborted deploy whose devices are away', async (t) => {
  const fleet = buildFleet();
  startControllers(t, fleet, ['hub']);
  fleet.lead('hub');
  await committed(fleet);
  fleet.setOnline('web1', false);
  const task = requestDeploy(fleet, ['web1']);
  await approve(fleet, task);
  await fleet.until('the order is out', ({ orders }) => orders.web1 !== undefined);
  fleet.apply({ kind: 'task-aborted', actor: 'dan', body: { task } });
  const state = await fleet.until('the deploy ends', ended(task));
  assert.equal(state.tasks[task]?.outcome, 'cancelled');
  assert.equal(state.orders.web1?.cancelled, true);
});

test('createCoordinator() ends the builds of a task that was aborted, and all of them when leadership is lost', async (t) => {
  const fleet = buildFleet();
  fleet.builders.hanging.add(drvPath('system-shared-1.0'));
  startControllers(t, fleet, ['hub']);
  fleet.lead('hub');
  await committed(fleet);
  const first = requestDeploy(fleet, ['web1']);
  const isBuilding = (task: string) => (state: LedgerState) => state.tasks[`${task}/build-1`] !== undefined;
  await fleet.until('the build runs', isBuilding(first));
  fleet.apply({ kind: 'task-aborted', actor: 'dan', body: { task: first } });
  while (fleet.builders.aborted.length < 1) await new Promise((resolve) => setImmediate(resolve));
  const second = requestDeploy(fleet, ['web2']);
  await fleet.until('the build runs', isBuilding(second));
  fleet.lead(null);
  while (fleet.builders.aborted.length < 2) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(fleet.state().tasks[second]?.outcome, null);
  assert.equal(fleet.entriesOf('build-failed').length, 0);
});

test('createCoordinator() refreshes inputs into a draft and says what changed', async (t) => {
  const fleet = buildFleet();
  startControllers(t, fleet, ['hub']);
  fleet.lead('hub');
  await committed(fleet);
  const { result } = fleet.apply({ kind: 'update-requested', actor: 'dan', body: { inputs: [] } });
  const state = await fleet.until('the update ends', ended(result.task ?? ''));
  assert.equal(state.tasks[result.task ?? '']?.outcome, 'succeeded');
  assert.match(state.tasks[result.task ?? '']?.reason?.text ?? '', /nixpkgs: 24.05 → 24.11/);
  assert.equal(state.draft?.tree, revision('updated tree'));
});

test('createCoordinator() finishes with every closure built and ordered once wherever the controller is killed', async (t) => {
  const effects = await runWithDeath(t, undefined);
  assert.ok(effects > 15, `only ${effects} effects`);
  for (let at = 0; at < effects; at += 1) {
    for (const fate of ['die-before', 'die-after'] as const) await runWithDeath(t, { at, fate });
  }
});

/** A commit and a deploy, with the first controller dying at one of its effects; returns how many effects there were. */
async function runWithDeath(
  t: TestContext,
  death: { readonly at: number; readonly fate: 'die-before' | 'die-after' } | undefined,
): Promise<number> {
  const where = death === undefined ? 'no death' : `${death.fate} effect ${death.at}`;
  const fleet = buildFleet();
  let effects = 0;
  fleet.faults = (what, peer) => {
    if (peer !== peerId('hub')) return 'go';
    const at = effects;
    effects += 1;
    if (death === undefined || at !== death.at) return 'go';
    queueMicrotask(() => setImmediate(() => fleet.lead('v2')));
    void what;
    return death.fate;
  };
  startControllers(t, fleet, ['hub', 'v2']);
  fleet.lead('hub');
  await committed(fleet);
  const task = requestDeploy(fleet, ['db1', 'web1', 'web2']);
  await approve(fleet, task);
  const state = await fleet.until(`the deploy ends (${where})`, ended(task));
  assert.equal(state.tasks[task]?.outcome, 'succeeded', where);
  const count = (kind: 'commit-recorded' | 'evaluation-finished' | 'build-finished' | 'plan-made' | 'order-given') =>
    fleet.entriesOf(kind).length;
  assert.deepEqual(
    [
      count('commit-recorded'),
      count('evaluation-finished'),
      count('build-finished'),
      count('plan-made'),
      count('order-given'),
    ],
    [1, 1, 2, 1, 3],
    where,
  );
  assert.equal(Object.keys(state.tasks).filter((id) => id.includes('/build-')).length, 2, where);
  return effects;
}
