// What becomes of those who wait for a voter whose core has broken a rule: it must not guess, so each is told at once.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Engine } from '../../node/consensus/engine.ts';
import { bootstrapLog, openLogStore } from '../../node/consensus/log-store.ts';
import { readIndex, running } from '../../node/consensus/requests.ts';
import { createSnapshotShelf } from '../../node/consensus/snapshot-shelf.ts';
import type { ParleyError } from '../../protocols/errors.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { genesisHash, noLearners, peerName, silentLogger } from './fleet.ts';
import { ListMachine } from './list-machine.ts';
import { MemoryNetwork } from './memory-mesh.ts';
import { MemoryStore } from './memory-store.ts';
import { MemoryWitness } from './memory-witness.ts';

async function start() {
  const disk = { store: new MemoryStore(), witness: new MemoryWitness() };
  const configuration = { voters: [1, 2, 3], ...noLearners };
  await bootstrapLog(disk, { index: 1, term: 1, chainHash: genesisHash, configuration });
  const store = await openLogStore(disk, () => undefined);
  const [stateMachine, clock, network] = [new ListMachine(), createManualClock(), new MemoryNetwork()];
  const prepare = () => Promise.reject(new Error('nobody needs one'));
  const shelf = createSnapshotShelf({ prepare, onFailure: () => {}, clock });
  const raftIds = [1, 2, 3];
  const members = {
    peerOf: (raftId: number) => peerName(raftId),
    raftIdOf: (peer: string) => raftIds.find((raftId) => peerName(raftId) === peer),
    voters: () => raftIds,
  };
  const engine = new Engine(
    { raftId: 1, heartbeatMs: 100, electionMinMs: 500 },
    {
      ...{
        mesh: network.mesh(peerName(1)),
        clock,
        logger: silentLogger,
        randomBytes,
        members,
        stateMachine,
        store,
        shelf,
      },
      ...{ onRoleChange: () => {}, onApplied: () => {} },
    },
  );
  engine.start();
  return { engine, clock, parts: running({ engine, store, stateMachine, shelf, certifier: undefined }) };
}

const breakRule = (): never => {
  throw new Error('a rule is broken');
};

test('a voter whose core breaks a rule answers everybody who waits, and whoever asks later', async (t) => {
  const { engine, parts } = await start();
  t.after(() => engine.stop());
  const { signal } = new AbortController();
  const waiting = [
    assert.rejects(readIndex(parts, { signal }), { code: 'stopped' }),
    assert.rejects(engine.proposals.add({ index: 2, term: 1 }, signal), { code: 'outcome-unknown' }),
  ];
  const receive = ({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<undefined> =>
    new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  const stream = { peer: peerName(2), receive, send: async () => {}, close: async () => {}, abort: () => {} };
  waiting.push(assert.rejects(engine.links.receive(stream), { code: 'stopped' }));
  waiting.push(assert.rejects(engine.snapshots.receive(stream), { code: 'stopped' }));
  assert.throws(() => engine.act(breakRule), /a rule is broken/);
  await Promise.all(waiting);
  assert.throws(() => readIndex(parts, { signal }), { code: 'held-up', message: /^cannot read: .*a rule is broken/ });
});

test('readIndex() answers when it breaks a rule itself', async (t) => {
  const { engine, parts } = await start();
  t.after(() => engine.stop());
  t.mock.method(engine.raw, 'readIndex', breakRule);
  await assert.rejects(readIndex(parts, { signal: new AbortController().signal }), { code: 'stopped' });
});

test('who waits for an entry of a leader that was deposed is told after four election times without word', async (t) => {
  const { engine, clock } = await start();
  t.after(() => engine.stop());
  const told: unknown[] = [];
  engine.proposals
    .add({ index: 2, term: 1 }, new AbortController().signal)
    .catch(({ code, message }: ParleyError) => told.push(code, message));
  clock.advance(1_900);
  await nextTurn();
  assert.deepEqual(told, []);
  clock.advance(100);
  await nextTurn();
  assert.equal(told[0], 'outcome-unknown');
  assert.match(String(told[1]), /does not lead any more/);
});
