// What becomes of those who wait for the state machine when the voter stops: each gets an answer, so that the stop ends.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppendThread } from '../../node/consensus/append-thread.ts';
import { ApplyThread } from '../../node/consensus/apply-thread.ts';
import { appendThread, makeMessage } from '../../node/consensus/core/message.ts';
import { bootstrapLog, openLogStore } from '../../node/consensus/log-store.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { genesisHash, noLearners } from './fleet.ts';
import { ListMachine } from './list-machine.ts';
import { MemoryStore } from './memory-store.ts';
import { MemoryWitness } from './memory-witness.ts';

const configuration = { voters: [1, 2, 3], ...noLearners };

async function start() {
  const disk = { store: new MemoryStore(), witness: new MemoryWitness() };
  await bootstrapLog(disk, { index: 1, term: 1, chainHash: genesisHash, configuration });
  const store = await openLogStore(disk, () => undefined);
  const machine = new ListMachine();
  const failures: unknown[] = [];
  const common = {
    ...{ store, clock: createManualClock(), deliver: () => {} },
    ...{ onFailure: (error: unknown) => failures.push(error), onRecovery: () => {} },
  };
  const calls = { onApplied: () => {}, onConfiguration: () => {} };
  const applies = new ApplyThread({ ...common, ...calls, stateMachine: machine });
  const restore: ApplyThread['restore'] = (metadata, body) => applies.restore(metadata, body);
  const appends = new AppendThread({ ...common, restore, onWritten: () => {} });
  return { disk, store, machine, applies, appends, failures };
}

test('stop() ends while a snapshot that was received is being written, and the body waits for the next start', async () => {
  const { disk, machine, applies, appends, failures } = await start();
  const { entered, open } = disk.store.gate.shut();
  const snapshot = { index: 9, term: 1, chainHash: genesisHash, configuration };
  const body = Buffer.from('["one"]');
  appends.receive(9, body, () =>
    appends.push(makeMessage('storage-append', appendThread, { term: 1, commit: 9, snapshot })),
  );
  await entered;
  const stopped = Promise.all([appends.stop(), applies.stop()]);
  open();
  await stopped;
  assert.equal(machine.restores, 0);
  assert.deepEqual(
    failures.map((error) => error instanceof ParleyError && error.code),
    ['stopped'],
  );
  const reopened = await openLogStore(disk, () => undefined);
  assert.equal(reopened.base().index, 9);
  assert.deepEqual(await reopened.pendingBody(), new Uint8Array(body));
});

test('between() refuses at once after stop(), and whoever waited when it came', async () => {
  const { machine, applies } = await start();
  const { open } = machine.gate.shut();
  const held = applies.between(() => machine.gate.pass());
  const behind = applies.between(async () => assert.fail('it runs after the stop'));
  const refused = [held, behind].map((call) => assert.rejects(call, { code: 'stopped' }));
  const stopped = applies.stop();
  await Promise.all(refused);
  open();
  await stopped;
  await assert.rejects(
    applies.between(async () => 1),
    { code: 'stopped' },
  );
});
