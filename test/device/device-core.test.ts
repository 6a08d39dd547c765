// The rules of activation by themselves: the floor, and that an order must follow from its plan. The device's loop sees only
// the newest order, so that some of these cases would hardly ever reach them there.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { acceptedSlot, judgeOrder, planMismatch, whyWithdrawn } from '../../node/device/device-core.ts';
import type { Order } from '../../protocols/ledger-state.ts';
import type { Plan } from '../../protocols/plan.ts';
import { self, system } from './world.ts';

const order: Order = {
  ...{ generation: 0, number: 7, peer: self, host: 'web1', task: 't1', plan: 'a'.repeat(64), closure: system('new') },
  ...{ manifest: 'b'.repeat(64), revision: null, givenAtMs: 0, cancelled: false, outcome: null, reason: null },
};

const certified = 100;

test('judgeOrder() accepts the first order and higher ones', () => {
  assert.equal(judgeOrder(undefined, order, self, certified), 'accept');
  assert.equal(judgeOrder(acceptedSlot(order), { ...order, number: 8 }, self, certified), 'accept');
});

test('judgeOrder() takes nothing below the floor, whatever it says', () => {
  const slot = acceptedSlot(order);
  for (const closure of [order.closure, system('other')]) {
    assert.equal(judgeOrder(slot, { ...order, number: 6, closure }, self, certified), 'ignore');
  }
});

test('judgeOrder() takes nothing that no certificate covers yet', () => {
  assert.equal(judgeOrder(undefined, order, self, 6), 'ignore');
  assert.equal(judgeOrder(undefined, order, self, 7), 'accept');
});

test('judgeOrder() keeps its floor by generation first', () => {
  const slot = acceptedSlot({ ...order, generation: 1 });
  assert.equal(
    judgeOrder(slot, { ...order, number: 9 }, self, certified),
    'ignore',
    'a later number of a lost generation',
  );
  assert.equal(judgeOrder(slot, { ...order, closure: system('other') }, self, certified), 'ignore');
  assert.equal(judgeOrder(slot, { ...order, generation: 2, number: 3 }, self, certified), 'accept');
  assert.equal(judgeOrder(slot, { ...order, generation: 1 }, self, certified), 'same');
});

test('judgeOrder() resumes the same order, and stops at another one under its number', () => {
  const slot = acceptedSlot(order);
  assert.equal(judgeOrder(slot, order, self, certified), 'same');
  assert.equal(judgeOrder(slot, { ...order, cancelled: true, outcome: 'cancelled' }, self, certified), 'same');
  for (const rival of [{ closure: system('other') }, { manifest: 'c'.repeat(64) }, { plan: 'c'.repeat(64) }]) {
    assert.equal(judgeOrder(slot, { ...order, ...rival }, self, certified), 'conflict', JSON.stringify(rival));
  }
});

test('whyWithdrawn() lets an order be armed only while the ledger has it for this peer', () => {
  const record = acceptedSlot(order);
  const device = { self, host: 'web1' };
  const ledger = (given: Order | undefined, index = 9, generation = 0) => ({
    ...{ index, generation, orders: given === undefined ? {} : { web1: given } },
  });
  const codeOf = (...given: Parameters<typeof ledger>) => whyWithdrawn(record, ledger(...given), device)?.code;
  assert.equal(codeOf(order), undefined);
  assert.equal(codeOf(order, 9, 1), undefined, 'a new generation that keeps it');
  assert.equal(codeOf({ ...order, cancelled: true }), 'order-cancelled');
  assert.equal(codeOf({ ...order, number: 8 }), 'order-superseded');
  assert.equal(codeOf({ ...order, generation: 1, number: 3 }), 'order-superseded');
  assert.equal(codeOf({ ...order, number: 5 }, 6), undefined, 'a ledger that has not come to it');
  assert.equal(codeOf(undefined, 6), undefined);
  assert.equal(codeOf({ ...order, number: 5 }, 7), 'order-superseded');
  assert.equal(codeOf(undefined, 6, 1), 'order-superseded', 'a new generation that began before it');
  assert.equal(codeOf({ ...order, peer: 'another' }), 'order-superseded');
  assert.equal(whyWithdrawn(record, ledger(order), { ...device, frozen: 'two records' })?.code, 'order-refused');
});

test('judgeOrder() declines what was cancelled before it came', () => {
  for (const slot of [undefined, acceptedSlot({ ...order, number: 3 })]) {
    assert.equal(judgeOrder(slot, { ...order, cancelled: true }, self, certified), 'decline');
  }
});

test('judgeOrder() ignores what has ended or is for another peer', () => {
  for (const change of [
    { outcome: 'superseded' as const },
    { cancelled: true, outcome: 'cancelled' as const },
    { peer: '12D3KooWother' },
  ]) {
    for (const slot of [undefined, acceptedSlot({ ...order, number: 3 })]) {
      assert.equal(judgeOrder(slot, { ...order, ...change }, self, certified), 'ignore', JSON.stringify(change));
    }
  }
  assert.equal(judgeOrder(undefined, undefined, self, certified), 'ignore');
});

test('planMismatch() names what the plan says otherwise', () => {
  const slot = acceptedSlot(order);
  const row = { host: 'web1', closure: order.closure, manifest: order.manifest, before: null };
  const plan: Plan = {
    ...{ version: 1, task: 't1', attempt: 1, revision: 'd'.repeat(40), hosts: [row], closures: [], leftOut: [] },
    ...{ policy: null, changesPolicy: false },
  };
  assert.equal(planMismatch(slot, plan, 'web1'), undefined);
  assert.match(planMismatch(slot, plan, 'web2') ?? '', /does not name host 'web2'/);
  const closure = system('other');
  assert.match(planMismatch(slot, { ...plan, hosts: [{ ...row, closure }] }, 'web1') ?? '', /has closure '.*-other'/);
  const manifest = 'e'.repeat(64);
  assert.match(planMismatch(slot, { ...plan, hosts: [{ ...row, manifest }] }, 'web1') ?? '', /has manifest 'eee/);
});
