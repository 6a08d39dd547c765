// Random entries, valid and not, against the core: its invariants hold after each, and the same entries always give the
// same state. SEED repeats a run.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyNext, beginBatch } from '../../node/ledger/ledger-core.ts';
import { decodeStateInSteps } from '../../node/ledger/state-decoding-core.ts';
import { encodeState } from '../../node/ledger/state-encoding-core.ts';
import { check, encode, hashOf } from '../../protocols/codec.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import type { EntryBody, EntryKind } from '../../protocols/ledger-entries.ts';
import { entryBodySchemas } from '../../protocols/ledger-entries.ts';
import { isOpen } from '../../protocols/ledger-rules.ts';
import { type LedgerState, ledgerStateSchema } from '../../protocols/ledger-state.ts';
import { outcomeSchema, statusOf } from '../../protocols/outcome.ts';
import { applyEntry } from '../helpers/apply-entry.ts';
import { inviteHash, joining } from '../helpers/invites.ts';
import {
  createLedgerScript,
  hash,
  type LedgerScript,
  peerIdOf,
  revision,
  storePath,
} from '../helpers/ledger-script.ts';
import { seededRandom } from '../helpers/random.ts';
import { allSteps } from '../helpers/steps.ts';

const seeds = 8;
const steps = 400;
const hosts = ['web1', 'web2', 'web3', 'mac'];
const kinds = Object.keys(entryBodySchemas).filter((kind) => kind !== 'fleet-founded') as EntryKind[];
/** Kinds that lead somewhere come more often, so that deploys get to their end. */
const likely: readonly EntryKind[] = [
  'draft-staged',
  'commit-intended',
  'commit-recorded',
  'deploy-requested',
  'evaluation-finished',
  'build-started',
  'build-finished',
  'plan-made',
  'approval-given',
  'order-given',
  'order-given',
  'device-reported',
  'device-reported',
  'device-reported',
];

type Bodies = { [K in EntryKind]?: () => EntryBody<K> };

/** Bodies that fit the state, but for a field now and then that comes from somewhere else. */
function createBodies(script: LedgerScript, random: () => number): Bodies {
  const pick = <T>(values: readonly T[], otherwise: T): T => values[Math.floor(random() * values.length)] ?? otherwise;
  const chance = (share: number) => random() < share;
  const number = (below: number) => Math.floor(random() * below);
  const some = () => hosts.filter(() => chance(0.5));
  const tasks = () => Object.values(script.state().tasks);
  const task = () => {
    const open = tasks().filter((each) => each.parent === null && isOpen(each));
    return pick(chance(0.85) ? open : tasks(), undefined);
  };
  const at = () => {
    const found = task();
    return { task: found?.id ?? 't99', attempt: (found?.attempt ?? 1) - (chance(0.05) ? 1 : 0), found };
  };
  const drv = () => `${storePath(`drv ${number(3)}`.replace(' ', '-'))}.drv`;
  const closure = () => storePath(`closure-${number(4)}`);
  const manifest = () => hash(`manifest ${number(4)}`);
  const attempt = () => {
    const { task: id, attempt: of } = at();
    return { task: id, attempt: of };
  };
  const host = () => pick([...hosts, 'nobody'], 'web1');
  const head = () => (chance(0.9) ? (script.state().head ?? revision('none')) : revision('other'));

  return {
    'invite-opened': () => ({
      keyHash: inviteHash(`invite ${number(20)}`),
      name: pick(['w1', 'w2', 'w3', 'n2', 'n3'], 'w1'),
      site: 'home',
      roles: [pick(['member', 'voter', 'builder', 'monitor'] as const, 'member')],
      expiresAtMs: script.state().timeMs + number(30_000) - 1_000,
    }),
    'member-joined': () => {
      const facts = { peer: peerIdOf(`p${number(8)}`), addresses: [], system: 'x86_64-linux' };
      return joining(script.state().fleet, `invite ${number(20)}`, facts);
    },
    'member-updated': () => ({
      ...{ peer: peerIdOf(`p${number(8)}`), addresses: [], system: 'aarch64-linux' },
      ...(chance(0.5) ? { voterKey: peerIdOf(`key ${number(4)}`) } : {}),
    }),
    'draft-staged': () => ({
      base: chance(0.9) ? script.state().head : revision('other'),
      previous: chance(0.9) ? (script.state().draft?.hash ?? null) : null,
      tree: revision(`tree ${number(5)}`),
      pack: hash(`pack ${number(5)}`),
      files: [],
      fileCount: number(3),
    }),
    'draft-discarded': () => ({}),
    'commit-intended': () => ({ draft: script.state().draft?.hash ?? hash('none'), message: 'm'.repeat(number(10)) }),
    'commit-recorded': () => ({ task: at().task, revision: revision(`commit ${number(1_000)}`) }),
    'update-requested': () => ({ inputs: [] }),
    'build-requested': () => ({ revision: head(), selector: '@all', hosts: some() }),
    'deploy-requested': () => ({ revision: head(), selector: '@all', hosts: some(), keepGoing: chance(0.5) }),
    'rollback-requested': () => {
      const name = host();
      const ran = script.state().devices[name]?.ran.at(-1);
      return {
        host: name,
        closure: ran?.closure ?? closure(),
        manifest: ran?.manifest ?? manifest(),
        plan: hash(`plan ${number(1e6)}`),
      };
    },
    'evaluation-finished': () => ({ ...attempt(), evaluation: hash('e'), builder: peerIdOf('n1') }),
    'host-failed': () => ({
      ...attempt(),
      host: host(),
      stage: pick(['evaluate', 'build'] as const, 'build'),
      reason: 'r',
    }),
    'build-started': () => {
      const { task: id, attempt: of, found } = at();
      const among = (found?.hosts ?? hosts).filter(() => chance(0.7));
      return { task: id, attempt: of, drvPath: drv(), hosts: among, builder: peerIdOf('n1') };
    },
    'build-finished': () => ({ ...attempt(), drvPath: drv(), closure: closure(), manifest: manifest() }),
    'build-failed': () => ({ ...attempt(), drvPath: drv(), reason: 'exit 1' }),
    'plan-made': () => {
      const { task: id, attempt: of, found } = at();
      return {
        task: id,
        attempt: of,
        plan: hash(`plan ${number(1e6)}`),
        revision: found?.revision ?? head(),
        hosts: (found?.hosts ?? hosts).filter(() => chance(0.8)),
        unchanged: (found?.hosts ?? []).filter(() => chance(0.2)),
        changesPolicy: chance(0.2),
      };
    },
    'approval-given': () => {
      const { task: id, found } = at();
      return {
        task: id,
        plan: chance(0.9) ? (found?.plan ?? hash('none')) : hash('stale'),
        verdict: chance(0.85) ? 'approve' : 'reject',
      };
    },
    'order-given': () => {
      const ready = tasks().filter((each) => each.stage === 'order');
      const found = pick(chance(0.9) ? ready : tasks(), undefined);
      const pending = (found?.hosts ?? hosts).filter(() => chance(0.7));
      return {
        task: found?.id ?? 't1',
        host: pick(pending, host()),
        slot: 'system',
        plan: found?.plan ?? hash('none'),
        closure: closure(),
        manifest: manifest(),
      };
    },
    'order-cancelled': () => {
      const order = script.state().orders[host()];
      return { task: order?.task ?? 't1', host: order?.host ?? 'web1', order: order?.number ?? 1 };
    },
    'device-reported': () => {
      const name = pick(hosts, 'web1');
      const order = script.state().orders[name];
      const device = script.state().devices[name];
      const ended = {
        order: chance(0.85) ? (order?.number ?? 1) : number(script.state().index + 1),
        outcome: chance(0.5) ? ('succeeded' as const) : pick(outcomeSchema.options, 'failed'),
        reason: chance(0.5) ? 'because' : null,
        failedUnits: chance(0.2) ? ['x.service'] : [],
        simulated: false,
      };
      const facts = {
        peer: peerIdOf(name),
        incarnation: (device?.incarnation ?? 1) + (chance(0.05) ? 1 : 0),
        sequence: (device?.sequence ?? 0) + number(3),
        running: chance(0.8) ? closure() : null,
        booted: null,
      };
      return chance(0.8) ? { ...facts, ended } : facts;
    },
    'policy-adopted': () => ({
      revision: head(),
      hosts: {
        web1: { tags: [], approval: 'auto', monitor: false },
        web2: { tags: [], approval: 'manual', monitor: false },
      },
      operators: {
        alice: { roles: ['deployer', 'approver'] },
        bob: { roles: ['approver'] },
        carol: { roles: ['admin'] },
      },
    }),
    'task-finished': () => ({
      ...(chance(0.5) ? attempt() : { task: pick(tasks(), undefined)?.id ?? 't1', attempt: 1 }),
      outcome: pick(outcomeSchema.options, 'failed'),
      reason: null,
    }),
    'task-aborted': () => ({ task: pick(tasks(), undefined)?.id ?? 't1' }),
    'task-retried': () => ({ task: pick(tasks(), undefined)?.id ?? 't1' }),
    'level-raised': () => ({ level: 1 }),
    'voter-added': () => ({
      peer: peerIdOf(`p${number(8)}`),
      replaces: chance(0.5) ? null : peerIdOf(`p${number(8)}`),
    }),
    'voter-removed': () => ({ peer: peerIdOf(`p${number(8)}`) }),
    'member-removed': () => ({ peer: peerIdOf(`p${number(30)}`) }),
    'checkpoint-begun': () => ({}),
    'checkpoint-made': () => ({ index: script.state().checkpointBegun, stateHash: hash('state') }),
    'generation-begun': () => {
      const record: GenerationRecord = {
        ...{ version: 1, fleet: hash('fleet'), number: 1 + number(2), baseIndex: script.state().index, baseTerm: 1 },
        ...{ baseHash: hash('base'), voters: [{ raftId: 1_000_000, peer: peerIdOf('n1'), key: peerIdOf('key') }] },
        signature: null,
      };
      if (chance(0.5)) script.generations.push(record);
      return record;
    },
    'notice-delivered': () => ({ notice: number(50), sink: pick(['console', 'discord'], 'console') }),
  };
}

function checkInvariants(state: LedgerState): void {
  const names = Object.values(state.members).map(({ name }) => name);
  assert.equal(new Set(names).size, names.length, 'names are unique');
  const raftIds = Object.values(state.members).flatMap(({ raftId }) => (raftId > 0 ? [raftId] : []));
  assert.equal(new Set(raftIds).size, raftIds.length, 'numbers of voters are unique');
  assert.ok(raftIds.every((raftId) => raftId < state.nextRaftId));
  for (const task of Object.values(state.tasks)) {
    const open = isOpen(task);
    assert.equal(task.outcome === null, open, `${task.id}: open tasks alone have no outcome`);
    assert.equal(task.endedAtMs === null, open, `${task.id}: ended tasks have their time`);
    if (task.outcome !== null) assert.equal(task.status, statusOf(task.outcome));
    for (const child of task.children) assert.equal(state.tasks[child]?.parent, task.id, `${child} is there`);
    if (task.parent !== null) {
      const parent = state.tasks[task.parent];
      assert.ok(parent?.children.includes(task.id), `${task.id} is a child of its parent`);
      assert.ok(!open || (parent !== undefined && isOpen(parent)), `${task.id} runs in an ended parent`);
      if (open && task.order !== null && task.host !== null) {
        assert.equal(state.orders[task.host]?.number, task.order, `${task.id} runs on the host's newest order`);
      }
    }
    if (task.plan !== null && open) assert.equal(state.plans[task.plan]?.task, task.id, `${task.id} has its plan`);
  }
  for (const plan of Object.values(state.plans)) {
    assert.ok(!(plan.approved && plan.rejected));
    const said = plan.approvals.filter(({ verdict }) => verdict === 'approve').length;
    assert.equal(said, plan.approved && plan.needsApproval ? 1 : 0, 'approved by one, or needs nobody');
  }
  for (const order of Object.values(state.orders)) {
    const child = state.tasks[`${order.task}/${order.host}`];
    if (child !== undefined && child.order === order.number) {
      assert.equal(order.outcome === null, isOpen(child), `order ${order.number} ends with ${child.id}`);
    }
  }
}

const decodeWhole = (bytes: Uint8Array): LedgerState => allSteps(decodeStateInSteps(bytes)).result;

function runSeed(seed: number): { readonly accepted: number; readonly ended: number } {
  const random = seededRandom(seed);
  const script = createLedgerScript();
  for (const host of hosts) script.join(host, host === 'mac' ? ['monitor'] : ['member']);
  const bodies = createBodies(script, random);
  const actors = ['root@n1', 'alice', 'bob', 'carol', 'root@web1', 'nobody', 'controller'];
  let accepted = 0;
  let middle: Uint8Array | undefined;
  for (let step = 0; step < steps; step += 1) {
    const all = random() < 0.8 ? likely : kinds;
    const kind = all[Math.floor(random() * all.length)] ?? 'draft-discarded';
    const body = bodies[kind]?.() ?? assert.fail(`no body for ${kind}`);
    const actor = actors[Math.floor(random() * actors.length)] ?? 'root@n1';
    const commandId = random() < 0.2 ? { commandId: `command-${Math.floor(random() * 200)}` } : {};
    const result = script.apply(kind, body as never, { actor, afterMs: Math.floor(random() * 5_000), ...commandId });
    if (result.error === null) accepted += 1;
    checkInvariants(script.state());
    if (step % 50 === 0) {
      check(ledgerStateSchema, script.state(), 'state');
      assert.deepEqual(allSteps(encodeState(script.state())).result, encode(script.state()));
    }
    if (step === steps / 2) middle = encode(script.state());
  }
  replay(script, middle ?? assert.fail());
  const ended = Object.values(script.state().tasks).filter((task) => task.parent === null && !isOpen(task));
  return { accepted, ended: ended.length };
}

/** The same entries give the same state: from the start, and from a snapshot on the way. */
function replay(script: LedgerScript, middle: Uint8Array): void {
  const last = hashOf(script.state());
  assert.equal(hashOf(decodeWhole(encode(script.state()))), last, 'a snapshot keeps the state');
  const rules = { levelMax: 1, generations: script.generations };
  for (const start of [script.genesis.state, decodeWhole(middle)]) {
    let state = start;
    for (const entry of script.entries) if (entry.index > state.index) state = applyEntry(state, entry, rules).state;
    assert.equal(hashOf(state), last, `replay from ${start.index} gives the same state`);
  }
  const before = hashOf(script.genesis.state);
  let batched = script.genesis.state;
  beginBatch();
  for (const entry of script.entries) batched = applyNext(batched, entry, rules).state;
  assert.equal(hashOf(batched), last, 'one batch gives the same state');
  assert.equal(hashOf(script.genesis.state), before, 'a batch leaves the state that it began with alone');
}

test('applyEntry() keeps its invariants and is deterministic for random entries', (t) => {
  const first = Number(process.env.SEED ?? 1);
  let ended = 0;
  for (let seed = first; seed < first + seeds; seed += 1) {
    try {
      ended += runSeed(seed).ended;
    } catch (error) {
      t.diagnostic(`SEED=${seed}`);
      throw error;
    }
  }
  assert.ok(ended > seeds * 5, `random entries brought only ${ended} tasks to an end`);
});
