// Proofs of changes of voters that a snapshot left out: gathered from others, and nobody is led past them before.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { decode, encode } from '../../protocols/codec.ts';
import { entryPullAnswerSchema, entryPullProtocol } from '../../protocols/entry-pull.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import { createLedgerFleet, type LedgerPeer, letGo, patient } from '../helpers/ledger-peers.ts';

const connect = (from: LedgerPeer, to: LedgerPeer): Promise<unknown> =>
  from.mesh.open(to.peer, '/hello', { signal: patient() }).catch(() => undefined);

const changesOf = async ({ store }: LedgerPeer): Promise<string[]> =>
  (await store.range({ gte: 'configuration/', lt: 'configuration0' })).map(([key]) => key);

/** Resolves once a peer has so many proofs of changes of voters. */
async function hasChanges(peer: LedgerPeer, count: number): Promise<void> {
  const giveUp = patient();
  while ((await changesOf(peer)).length < count) {
    giveUp.throwIfAborted();
    await nextTurn();
  }
}

/** A voter that a snapshot led over changes of voters, with a certified one after them or not, and a member that was away before. */
async function overAGap(t: Parameters<typeof createLedgerFleet>[0], endsWithChange = true) {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1');
  for (const name of ['n2', 'n3']) await fleet.enrol(name, ['voter']);
  await fleet.change([1, 2, 3]);
  const n2 = await fleet.add('n2', 'consensus');
  const { index } = n1.ledger.state();
  await web1.ledger.waitFor((state) => state.index >= index, patient());
  await web1.stop();
  await n2.stop();
  await fleet.change([2, 3]);
  await fleet.change([1, 2]);
  await fleet.fill(1);
  // Consensus sends it a snapshot where the log of the leader begins later.
  await n2.ledger.start();
  await n2.ledger.restore(await n1.ledger.snapshot());
  await n2.ledger.stop();
  fleet.network.refuseDials(n1.peer);
  await n2.start();
  if (endsWithChange) await fleet.change([1, 2, 3]);
  return { fleet, n1, n2, web1 };
}

test('gatherProofs() gets a restored voter every proof, and a member that was away follows it alone', async (t) => {
  const { fleet, n1, n2, web1 } = await overAGap(t);
  assert.equal((await changesOf(n2)).length, 2, 'only those of its own log');
  // The gap is remembered.
  await n2.stop();
  await n2.start();
  fleet.network.revive(n1.peer);
  await connect(n2, n1);
  const all = await changesOf(n1);
  await hasChanges(n2, all.length);
  assert.deepEqual(await changesOf(n2), all);
  await letGo(fleet, n1);
  await n2.ledger.snapshot();
  fleet.network.kill(n1.peer);
  await web1.start();
  await connect(web1, n2);
  const { index } = n2.ledger.state();
  await web1.ledger.waitFor((state) => state.index >= index, AbortSignal.timeout(5_000));
  assert.deepEqual(await changesOf(web1), all);
  assert.deepEqual(web1.complaints, []);
});

test('gatherProofs() gets a restored voter every proof although no later change shows what is missing', async (t) => {
  const { fleet, n1, n2 } = await overAGap(t, false);
  fleet.network.revive(n1.peer);
  await connect(n2, n1);
  const all = await changesOf(n1);
  await hasChanges(n2, all.length);
  assert.deepEqual(await changesOf(n2), all);
});

test('gatherProofs() gets a voter the proof that passed it by', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  for (const name of ['n2', 'n3']) await fleet.enrol(name, ['voter']);
  await fleet.change([1, 2, 3]);
  const n2 = await fleet.add('n2', 'consensus');
  await n2.stop();
  await fleet.change([1, 2]);
  fleet.consensus.certifies = false;
  await n2.start();
  fleet.consensus.certifies = true;
  await fleet.change([1, 2, 3]);
  await connect(n2, n1);
  const all = await changesOf(n1);
  await hasChanges(n2, all.length);
  assert.deepEqual(await changesOf(n2), all);
});

test('kept() of a voter counts proofs that are missing, and tells when they have come', async (t) => {
  const { fleet, n1, n2 } = await overAGap(t);
  let told = 0;
  n2.ledger.onKept(() => {
    told += 1;
  });
  const until = async (lacking: number): Promise<void> => {
    const giveUp = patient();
    while (told === 0 || n2.ledger.kept()?.lacking !== lacking) {
      giveUp.throwIfAborted();
      await nextTurn();
    }
  };
  await until(1);
  told = 0;
  fleet.network.revive(n1.peer);
  await connect(n2, n1);
  await until(0);
});

test('serveEntries() leads nobody over changes of voters that it cannot prove, and says so', async (t) => {
  const { fleet, n1, n2, web1 } = await overAGap(t);
  await letGo(fleet, n1);
  await n2.ledger.snapshot();
  const { index, chainHash } = fleet.consensus.entries.find(({ type }) => type === 'configuration') ?? assert.fail();
  await web1.mesh.start();
  const stream = await web1.mesh.open(n2.peer, entryPullProtocol, { signal: patient() });
  const previous = new Uint8Array(Buffer.from(chainHash, 'hex'));
  await stream.send(encode({ version: 1, from: index + 1, previous }));
  const answers: string[] = [];
  for (let bytes = await stream.receive(); bytes !== undefined; bytes = await stream.receive()) {
    const answer = decode(entryPullAnswerSchema, bytes, messageBytesMax, 'answer');
    answers.push(answer.kind === 'refused' ? answer.error.code : answer.kind);
  }
  assert.deepEqual(answers, ['behind']);
});
