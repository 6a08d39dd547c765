// Tests the pure rules: who is in charge of what, in which order a path is tried, and for how long.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assignmentWeight, stallTimeoutMs, takeoverOrder } from '../../node/closure/assignment-core.ts';
import { nextStep, type StepFacts, stepKey } from '../../node/closure/step-plan.ts';
import { fromBitmap, toBitmap } from '../../protocols/closure-exchange.ts';

const peers = Array.from({ length: 8 }, (_, index) => `peer-${index}`);
const units = Array.from({ length: 2_000 }, (_, index) => `sha256:${index}`);

test('takeoverOrder() depends on the set of peers and the unit only', () => {
  const order = takeoverOrder('unit', peers);
  assert.deepEqual(takeoverOrder('unit', [...peers].reverse().concat(peers)), order);
  assert.deepEqual(order.toSorted(), peers.toSorted());
  assert.notDeepEqual(takeoverOrder('other', peers), order);
});

test('takeoverOrder() moves only what a dead peer was in charge of', () => {
  for (const unit of units.slice(0, 200)) {
    const [leader, ...rest] = takeoverOrder(unit, peers);
    const others = peers.filter((peer) => peer !== leader);
    assert.deepEqual(takeoverOrder(unit, others), rest);
  }
});

test('takeoverOrder() spreads units over peers within a tenth', () => {
  const counts = new Map<string, number>();
  for (const unit of units) {
    const leader = takeoverOrder(unit, peers)[0] ?? '';
    counts.set(leader, (counts.get(leader) ?? 0) + 1);
  }
  const most = Math.max(...counts.values());
  assert.ok(most / (units.length / peers.length) < 1.15, `the busiest peer has ${most}`);
});

test('assignmentWeight() has the value that every release must agree on', () => {
  assert.equal(
    assignmentWeight('sha256:unit', 'peer'),
    'c43d59639b0bc11b6a51e508f66e006cf88d0844a4bb37f279e9e1fbfa5c90c0',
  );
});

const facts: StepFacts = {
  self: 'b',
  order: ['a', 'b', 'c'],
  asked: false,
  holders: [],
  receivers: [],
  partialHolders: [],
  sources: ['far'],
  tried: new Set(),
};

function allSteps(start: StepFacts): string[] {
  const tried = new Set<string>();
  for (;;) {
    const step = nextStep({ ...start, tried });
    if (step === undefined) return [...tried];
    tried.add(stepKey(step));
  }
}

test('nextStep() stays inside the site while anybody there has or receives the path', () => {
  assert.deepEqual(allSteps({ ...facts, holders: ['c'], receivers: ['a'] }), [
    'copy c',
    'follow a',
    'gather a',
    'cross far',
    'resign b',
    'gather c',
  ]);
});

test('nextStep() crosses first only for the peer in charge or the one that was asked', () => {
  assert.deepEqual(allSteps(facts)[0], 'gather a');
  assert.deepEqual(allSteps({ ...facts, self: 'a' })[0], 'cross far');
  assert.deepEqual(allSteps({ ...facts, asked: true, partialHolders: ['c'] }), [
    'adopt c',
    'cross far',
    'resign b',
    'gather a',
    'gather c',
  ]);
});

test('stallTimeoutMs() is patient with slow uplinks and bounded', () => {
  assert.equal(stallTimeoutMs(0, false), 2_000);
  assert.equal(stallTimeoutMs(1_500, false), 4_500);
  assert.equal(stallTimeoutMs(0, true), 10_000);
  assert.equal(stallTimeoutMs(1_000_000, true), 30_000);
});

test('fromBitmap() is the inverse of toBitmap() and ignores what lies beyond the count', () => {
  const ordinals = [0, 7, 8, 63, 64, 99];
  assert.deepEqual(fromBitmap(toBitmap(ordinals, 100), 100), ordinals);
  assert.deepEqual(fromBitmap(toBitmap(ordinals, 100), 64), [0, 7, 8, 63]);
  assert.deepEqual(fromBitmap(new Uint8Array(), 100), []);
});
