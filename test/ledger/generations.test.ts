// What a new generation does to a ledger that was begun in an older one: what came after its base is gone, from the disk too, and
// only the new voters' word counts from there on.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../node/host/clock.ts';
import type { Logger } from '../../node/interfaces.ts';
import { createCertificates } from '../../node/ledger/certificates.ts';
import { createLedger, type Ledger, readGenesis } from '../../node/ledger/index.ts';
import { countedVoter } from '../../node/ledger/voters-core.ts';
import { verifySignature } from '../../node/mesh/identity.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import { encodeEntry } from '../../protocols/ledger-entries.ts';
import {
  caughtUp,
  checkpointMade,
  createLedgerFleet,
  createTestLogger,
  type LedgerFleet,
  type LedgerPeer,
  letGo,
} from '../helpers/ledger-peers.ts';
import { createLedgerScript, peerIdOf, voterKeyOf } from '../helpers/ledger-script.ts';

const voters = (raftId: number) => [{ raftId, peer: peerIdOf('web1'), key: voterKeyOf('web1') }];

function recordAt(fleet: string, base: { index: number; term: number; chainHash: string }): GenerationRecord {
  const { index, term, chainHash } = base;
  const place = { baseIndex: index, baseTerm: term, baseHash: chainHash };
  return { version: 1, fleet, number: 1, ...place, voters: voters(1_000_000), signature: null };
}

/** The ledger of a peer that was stopped, opened again with what it has accepted. */
function reopened(
  { peer, store, blobs, mesh }: LedgerPeer,
  genesis: Uint8Array,
  generations: readonly GenerationRecord[],
  onInfo: (fields: object) => void = () => undefined,
): Ledger {
  const logger: Logger = { ...createTestLogger([]), info: onInfo };
  const contacts = [{ peer: peerIdOf('n2'), raftId: 1_000_000, addresses: [] }];
  return createLedger({ self: peer, source: 'voters', genesis, generations, contacts })({
    ...{ store, blobs, mesh, clock: systemClock, logger, verifySignature },
  });
}

test('createLedger() goes back to a place before the base of a new generation, and keeps nothing beyond', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1');
  await fleet.fill(3);
  await caughtUp(web1, n1);
  const base = web1.ledger.state();
  await fleet.enrol('n2', ['voter']);
  await fleet.fill(3);
  await caughtUp(web1, n1);
  assert.ok(web1.ledger.state().index > base.index + 3);
  await web1.stop();
  const ledger = reopened(web1, fleet.genesis, [recordAt(base.fleet, base)]);
  await ledger.start();
  const { index, generation, members } = ledger.state();
  assert.equal(index, base.index, 'what the record vouches for is kept');
  assert.deepEqual([generation, members[peerIdOf('n2')]], [0, undefined]);
  assert.ok(ledger.certification().certifiedIndex() <= base.index);
  assert.equal(ledger.certification().certificateAt(base.index + 3), undefined);
  await ledger.stop();
  const rest = await web1.store.range({ gte: `entry/${String(base.index + 1).padStart(16, '0')}`, lt: 'entry0' });
  assert.deepEqual(rest, []);
});

for (const what of ['an entry', 'a change of voters'] as const) {
  test(`createLedger() takes ${what} of an older generation after the base of its own from nobody`, async (t) => {
    const fleet = await createLedgerFleet(t);
    const n1 = await fleet.add('n1', 'consensus');
    const web1 = await fleet.add('web1', 'voters');
    await fleet.enrol('web1');
    await fleet.enrol('n2', ['voter']);
    await fleet.fill(3);
    await caughtUp(web1, n1);
    const base = web1.ledger.state();
    await web1.stop();
    if (what === 'an entry') await fleet.fill(1);
    else await fleet.change([1, 2]);
    const told = Promise.withResolvers<void>();
    const ledger = reopened(web1, fleet.genesis, [recordAt(base.fleet, base)], (fields) => {
      if (JSON.stringify(fields).includes('generation 0, which ended before it')) told.resolve();
    });
    await ledger.start();
    await web1.mesh.start();
    await told.promise;
    assert.deepEqual([ledger.state().index, ledger.state().generation], [base.index, 0]);
    await ledger.stop();
    await web1.mesh.stop();
  });
}

test('createCertificates() deletes and serves no proofs of what a new generation went on without', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1');
  await fleet.enrol('n2', ['voter']);
  await caughtUp(web1, n1);
  const base = web1.ledger.state();
  await fleet.enrol('n3', ['voter']);
  await fleet.fill(2);
  await caughtUp(web1, n1);
  await web1.stop();
  const certificatesOf = (generations: readonly GenerationRecord[]) =>
    createCertificates({
      ...{ store: web1.store, logger: createTestLogger([]), verifySignature, generations },
      genesis: readGenesis(fleet.genesis),
      certifiedOf: async () => undefined,
      keeps: () => new Set(),
      onCertified: () => undefined,
    });
  const served = async (generations: readonly GenerationRecord[]): Promise<number[]> => {
    const certificates = certificatesOf(generations);
    await certificates.load();
    assert.ok((await certificates.proofs(2)).length > 0);
    return (await certificates.proofs(2)).map(({ entry }) => entry.index).filter((index) => index > base.index);
  };
  assert.equal((await served([])).length, 1);
  assert.deepEqual(await served([recordAt(base.fleet, base)]), []);
  assert.deepEqual(await served([]), [], 'it is gone from the disk');
});

test('createLedger() goes back to the foundation where nothing older is kept, and a second start changes nothing', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1');
  await caughtUp(web1, n1);
  const base = web1.ledger.state();
  await letGo(fleet, n1);
  await fleet.fill(3);
  await caughtUp(web1, n1);
  await web1.stop();
  const record = recordAt(base.fleet, base);
  for (let start = 0; start < 2; start += 1) {
    const ledger = reopened(web1, fleet.genesis, [record]);
    await ledger.start();
    assert.ok(ledger.state().index <= base.index);
    await ledger.stop();
  }
});

test('generationBegun() leaves the vote to those of its record alone, and numbers that nobody had', () => {
  const script = createLedgerScript();
  for (const name of ['n2', 'n3']) script.join(name, ['voter']);
  script.join('web1');
  script.configure({ voters: [1, 2], votersOutgoing: [1, 2, 3] });
  const record = recordAt(script.state().fleet, script.state());
  script.refuse('generation-misplaced', 'generation-begun', { ...record, baseIndex: record.baseIndex - 1 });
  script.refuse('generation-unknown', 'generation-begun', recordAt(script.state().fleet, script.state()));
  const placed = recordAt(script.state().fleet, script.state());
  script.generations.push(placed);
  script.accept('generation-begun', placed);
  const { generation, generationIndex, voterSet, joint, members, nextRaftId } = script.state();
  assert.deepEqual([generation, generationIndex, joint], [1, placed.baseIndex + 1, null]);
  assert.deepEqual(voterSet, {
    generation: 1,
    index: placed.baseIndex + 1,
    voters: voters(1_000_000),
    votersOutgoing: [],
  });
  assert.deepEqual(
    Object.values(members).map(({ name, raftId, roles }) => [name, raftId, roles.includes('voter')]),
    [
      ['n1', 0, false],
      ['n2', 0, false],
      ['n3', 0, false],
      ['web1', 1_000_000, true],
    ],
  );
  assert.ok(nextRaftId > 1_000_000);
  script.accept('voter-added', { peer: peerIdOf('n2'), replaces: null });
  const facts = { peer: peerIdOf('n2'), addresses: [], system: 'x86_64-linux' };
  script.accept('member-updated', { ...facts, voterKey: voterKeyOf('n2') });
  script.configure({ voters: [nextRaftId], learners: [1_000_000] });
  assert.equal(
    countedVoter(script.state(), peerIdOf('web1'))?.raftId,
    1_000_000,
    'it may have to sign that it votes no more',
  );
  script.refuse('generation-misplaced', 'generation-begun', recordAt(script.state().fleet, script.state()));
});

test('createLedger() begins no generation that it has not accepted, whoever proposes and signs it', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1');
  await caughtUp(web1, n1);
  await fleet.propose('generation-begun', recordAt(n1.ledger.state().fleet, n1.ledger.state())).catch(() => undefined);
  await fleet.fill(2);
  await caughtUp(web1, n1);
  for (const { ledger } of [n1, web1]) {
    assert.deepEqual([ledger.state().generation, ledger.state().voterSet.generation], [0, 0]);
  }
});

/** The fleet goes on from n1's last entry in a generation of which web9's key is the only voter's; n2 is its peer. */
async function successor(
  fleet: LedgerFleet,
  n1: LedgerPeer,
  number: number,
): Promise<{ n2: LedgerPeer; record: GenerationRecord }> {
  const base = n1.ledger.state();
  const key = voterKeyOf('web9');
  const record = {
    ...recordAt(base.fleet, base),
    number,
    voters: [{ raftId: number * 1_000_000, peer: peerIdOf('web9'), key }],
  };
  await n1.stop();
  const n2 = await fleet.add('n2', 'consensus', { generations: [record] });
  const first = {
    version: 1,
    kind: 'generation-begun',
    timeMs: base.timeMs,
    actor: 'controller',
    body: record,
  } as const;
  fleet.consensus.certifies = false;
  await fleet.consensus.append('normal', encodeEntry(first));
  fleet.consensus.certifies = true;
  return { n2, record };
}

const signal = AbortSignal.timeout(60_000);

for (const branch of ['the same', 'another'] as const) {
  test(`createLedger() comes to a generation's beginning from ${branch} branch behind its base, and obeys nothing before`, async (t) => {
    const theirs = await createLedgerFleet(t);
    const others = await theirs.add('n1', 'consensus');
    await theirs.enrol('web1');
    const ours = branch === 'the same' ? theirs : await createLedgerFleet(t);
    const n1 = ours === theirs ? others : await ours.add('n1', 'consensus');
    const web1 = await ours.add('web1', 'voters');
    if (ours !== theirs) {
      await ours.enrol('web1');
      await ours.enrol('n3', ['voter']);
      await ours.change([1]);
    }
    await caughtUp(web1, n1);
    const before = web1.ledger.state();
    await web1.stop();
    // Of the same branch the peer is behind the base; of another one it is just there.
    if (branch === 'the same') await theirs.enrol('n4', ['voter']);
    else await theirs.fill(before.index - others.ledger.state().index);
    const { index: changedAt } = others.ledger.state().voterSet;
    const number = branch === 'the same' ? 2 : 1;
    const { n2, record } = await successor(theirs, others, number);
    if (changedAt > 1) await theirs.consensus.certify(changedAt);
    assert.ok(branch === 'the same' ? before.index < record.baseIndex : before.index === record.baseIndex);
    // One that the newer one does not follow on, as of two that were rivals.
    const settled = number === 2 ? [recordAt(before.fleet, before)] : [];

    const mesh = ours === theirs ? web1.mesh : theirs.network.join(web1.peer);
    const ledger = reopened({ ...web1, mesh }, theirs.genesis, [...settled, record]);
    await ledger.start();
    assert.deepEqual([ledger.state().index, ledger.certification().certifiedIndex()], [before.index, 0]);
    await mesh.start();
    const { propose } = n2.ledger;
    const { index } = await propose({ kind: 'checkpoint-begun', actor: 'controller', body: {} }, { signal });
    await propose(await checkpointMade(n2.ledger), { signal });
    await ledger.waitFor((state) => state.index > index, signal);
    assert.equal(ledger.stateHash(), n2.ledger.stateHash());
    assert.deepEqual([ledger.state().generation, ledger.state().members[peerIdOf('n3')]], [number, undefined]);
    assert.ok(ledger.certification().certifiedIndex() > index);
    await ledger.stop();
    await mesh.stop();
    const stale = await web1.store.range({ gte: 'configuration/', lt: 'configuration0' });
    assert.deepEqual(stale, [], 'nothing is kept of another branch');
  });
}
