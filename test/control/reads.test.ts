// What people read at a controller: as a majority of the voters knows it, never as one that may be deposed remembers it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { check } from '../../protocols/codec.ts';
import type { Command } from '../../protocols/control.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { statusViewSchema, votersViewSchema } from '../../protocols/views.ts';
import { peerId } from './helpers.ts';
import { endOf, startRig, viewOf } from './rig.ts';

const noMajority = () => new ParleyError('not-controller', 'a majority did not confirm', { retryable: true });

/** All that the controller answers and that changes nothing. */
const reads: readonly Command[] = [
  { name: 'status' },
  { name: 'peers' },
  { name: 'whoami' },
  { name: 'voters' },
  { name: 'tasks', all: false },
  { name: 'diff' },
  { name: 'history', limit: 5 },
];

test('createControl() has a majority confirm that it leads before it answers any read', async (t) => {
  const rig = await startRig(t);
  for (const command of reads) {
    rig.fleet.asked.length = 0;
    endOf(await rig.ask('web1', command));
    const confirmed = rig.fleet.asked.filter((what) => what.endsWith(' confirm'));
    assert.deepEqual(confirmed, ['hub confirm'], command.name);
  }
});

test('createControl() shows what was committed until a majority has confirmed that it leads', async (t) => {
  const rig = await startRig(t);
  rig.fleet.faults = (what) => {
    if (what === 'confirm') rig.fleet.join({ name: 'late', roles: ['member'] });
    return 'go';
  };
  const status = check(statusViewSchema, viewOf(await rig.ask('web1', { name: 'status' }), 'status'));
  assert.equal(status.current, true);
  assert.ok(status.peers.some(({ name }) => name === 'late'));
});

test('createControl() answers no read as the controller where no majority confirms that it leads', async (t) => {
  const rig = await startRig(t, { times: 20 });
  rig.fleet.vote('hub', 'v2', 'v3');
  rig.fleet.faults = (what) => {
    if (what === 'confirm') throw noMajority();
    return 'go';
  };
  for (const peer of ['hub', 'web1']) {
    const status = check(statusViewSchema, viewOf(await rig.ask(peer, { name: 'status' }), 'status'));
    assert.equal(status.current, false, peer);
    assert.equal(check(votersViewSchema, viewOf(await rig.ask(peer, { name: 'voters' }), 'voters')).current, false);
  }
});

test('createControl() has the next controller answer a read that the one before could not', async (t) => {
  const rig = await startRig(t);
  rig.fleet.faults = (what, peer) => {
    if (what !== 'confirm' || peer !== peerId('hub')) return 'go';
    rig.fleet.lead('v2');
    throw noMajority();
  };
  const status = check(statusViewSchema, viewOf(await rig.ask('web1', { name: 'status' }), 'status'));
  assert.deepEqual([status.current, status.controller], [true, 'v2']);
});
