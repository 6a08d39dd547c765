import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostsOf, selectKnown, withoutPeer } from '../../node/control/hosts-core.ts';
import { reportEntries } from '../../node/control/reports-core.ts';
import { type BuiltClosure, isSamePolicy, makePlan, policyOf } from '../../node/control/rollout-plan.ts';
import { encode, hashOf } from '../../protocols/codec.ts';
import type { Report } from '../../protocols/journal.ts';
import type { Device, LedgerState } from '../../protocols/ledger-state.ts';
import { buildState, buildTask, hash, memberOf, peerId, revision, storePath } from './helpers.ts';

const members = ['web1', 'web2', 'db1'].map((name) => memberOf(name, ['member']));

function built(name: string): BuiltClosure {
  return {
    drvPath: null,
    closure: storePath(name),
    manifest: hash(name),
    builder: 'hub',
    pathCount: 1,
    narBytes: 10,
    changes: [],
    changesLeftOut: 0,
  };
}

function deviceRunning(name: string, fields: Partial<Device> = {}): Device {
  const ran = { closure: storePath(name), manifest: hash(name), plan: hash('p'), revision: null, order: 3, atMs: 1 };
  return {
    incarnation: 1,
    sequence: 1,
    running: storePath(name),
    booted: null,
    outcome: 'succeeded',
    reportedAtMs: 1,
    ran: [ran],
    ...fields,
  };
}

function planFor(state: LedgerState, closures: Record<string, BuiltClosure>) {
  return makePlan({
    task: { id: 't9', attempt: 1, hosts: ['web1', 'web2', 'db1'] },
    revision: revision('head'),
    built: new Map(Object.entries(closures)),
    leftOut: [{ host: 'zed', reason: 'no peer runs on it yet' }],
    policy: null,
    state,
  });
}

test('makePlan() lists each closure once, sorts its lists, and comes out the same from the same facts', () => {
  const state = buildState({ members });
  const closures = { web2: built('shared'), web1: built('shared'), db1: built('db') };
  const { plan, unchanged } = planFor(state, closures);
  assert.deepEqual(
    plan.hosts.map((row) => row.host),
    ['db1', 'web1', 'web2'],
  );
  assert.deepEqual(plan.closures.map((row) => row.closure).sort(), [storePath('shared'), storePath('db')].sort());
  assert.deepEqual(unchanged, []);
  const again = planFor(state, { db1: built('db'), web1: built('shared'), web2: built('shared') });
  assert.equal(hashOf(again.plan), hashOf(plan));
});

test('makePlan() leaves out hosts that run the closure, unless the last switch went wrong or another order is out', () => {
  const unchangedFor = (device: Device, fields: Partial<LedgerState> = {}) =>
    planFor({ ...buildState({ members }), devices: { web1: device }, ...fields }, { web1: built('same') }).unchanged;
  assert.deepEqual(unchangedFor(deviceRunning('same')), ['web1']);
  assert.deepEqual(unchangedFor(deviceRunning('other')), []);
  assert.deepEqual(unchangedFor(deviceRunning('same', { outcome: 'degraded' })), []);
  assert.deepEqual(unchangedFor(deviceRunning('same', { running: storePath('by-hand') })), []);
  const order = {
    generation: 0,
    number: 4,
    peer: peerId('web1'),
    host: 'web1',
    task: 't8',
    plan: hash('p'),
    closure: storePath('other'),
    manifest: hash('other'),
    revision: null,
    givenAtMs: 1,
    cancelled: false,
    outcome: null,
    reason: null,
  };
  const tasks = { t8: buildTask({ id: 't8', type: 'deploy' }) };
  assert.deepEqual(unchangedFor(deviceRunning('same'), { orders: { web1: order }, tasks }), []);
});

test('policyOf() checks the output and isSamePolicy() looks at the rules only', () => {
  assert.equal(policyOf(revision('a'), null), null);
  assert.throws(() => policyOf(revision('a'), { operators: { ann: { roles: ['king'] } } }), {
    code: 'malformed',
    message: /output 'parley' does not fit its schema at 'operators\.ann\.roles\.0'/,
  });
  const one = policyOf(revision('a'), { operators: { ann: { roles: ['approver'] } } });
  const same = policyOf(revision('b'), { operators: { ann: { roles: ['approver'] } }, future: 1 });
  const other = policyOf(revision('b'), { operators: { ann: { roles: ['admin'] } } });
  assert.ok(one && same && other);
  assert.equal(isSamePolicy(one, same), true);
  assert.equal(isSamePolicy(one, other), false);
  assert.equal(isSamePolicy(one, null), false);
});

test('hostsOf() joins flake, policy and members, and says why a host cannot be deployed to', () => {
  const monitor = memberOf('imac0', ['monitor']);
  const state = buildState({ members: [...members, monitor], hosts: { web1: ['old'], gone: ['old'] } });
  const parley = { hosts: { web1: { tags: ['new'] }, extra: { monitor: true } } };
  const hosts = hostsOf(state, { hostNames: ['web1', 'web2', 'fresh'], parley });
  assert.deepEqual(
    hosts.map(({ name, unreachable }) => `${name}: ${unreachable}`),
    [
      'db1: the flake has no such host',
      'extra: only monitored',
      'fresh: no peer runs on it yet',
      'gone: no peer runs on it yet',
      'imac0: only monitored',
      'web1: null',
      'web2: null',
    ],
  );
  assert.deepEqual(selectKnown('@new', hosts), { hosts: ['web1'], leftOut: [] });
  assert.deepEqual(withoutPeer('@all & (fresh, web1)', hosts), [{ host: 'fresh', reason: 'no peer runs on it yet' }]);
  assert.deepEqual(withoutPeer('((', hosts), []);
  const unread = hostsOf(state, { hostNames: ['web1'], parley: { hosts: 'nonsense' } });
  assert.deepEqual(unread.find((host) => host.name === 'web1')?.tags, ['old']);
});

test('hostsOf() takes every member as a target while the commit was never read', () => {
  const hosts = hostsOf(buildState({ members }), undefined);
  assert.deepEqual(
    hosts.map((host) => host.unreachable),
    [null, null, null],
  );
});

function report(sequence: number, running: string | null, order?: number): Report {
  const header = {
    version: 1 as const,
    peer: peerId('web1'),
    incarnation: 1,
    sequence,
    previous: hash('x'),
    timeMs: 1,
    running,
    booted: null,
    signature: new Uint8Array(64),
  };
  if (order === undefined) return { ...header, kind: 'order-step', body: { order: 1, state: 'armed' } };
  const body = { order, outcome: 'succeeded' as const, reason: null, failedUnits: [], simulated: false };
  return { ...header, kind: 'order-ended', body };
}

test('reportEntries() takes ends of orders and changes of what runs, and leaves steps in the journal', () => {
  const told = { running: storePath('a'), booted: null };
  const numbers = (reports: Report[], known: typeof told | undefined) =>
    reportEntries(reports, known).map((entry) => `${entry.sequence}${entry.ended === undefined ? '' : '!'}`);
  assert.deepEqual(numbers([report(1, storePath('a')), report(2, storePath('a'))], told), []);
  assert.deepEqual(numbers([report(1, storePath('a')), report(2, storePath('b'))], told), ['2']);
  assert.deepEqual(numbers([report(1, null), report(2, storePath('b'), 7), report(3, storePath('b'))], told), ['2!']);
  assert.deepEqual(numbers([report(1, storePath('b'), 7), report(2, storePath('c'), 8)], told), ['1!', '2!']);
  assert.deepEqual(numbers([report(1, null)], undefined), ['1']);
  const alarmed: Report = { ...report(1, storePath('a')), kind: 'device-alarmed', body: { text: 'look' } };
  assert.deepEqual(
    reportEntries([alarmed, report(2, storePath('a'))], told).map(({ alarm }) => alarm),
    ['look'],
  );
  for (const entry of reportEntries([report(1, storePath('b'), 7)], told)) assert.ok(encode(entry).byteLength < 1_000);
});
