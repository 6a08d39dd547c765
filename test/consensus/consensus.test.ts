// Whole voters over an in-memory mesh: elections, proposals, restarts, catching up and what callers are told.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Consensus } from '../../node/consensus/index.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { Fleet, type FleetOptions, genesisHash, peerName, until } from './fleet.ts';
import type { MemoryStore } from './memory-store.ts';

async function withFleet(options: FleetOptions, run: (fleet: Fleet) => Promise<void>): Promise<void> {
  const fleet = new Fleet(options);
  try {
    await fleet.start();
    await run(fleet);
  } finally {
    await fleet.stop();
  }
}

const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(5_000) });
const code =
  (expected: string) =>
  (error: unknown): boolean =>
    error instanceof ParleyError && error.code === expected;
const contextOf = (): Uint8Array => new Uint8Array();

test('propose() resolves once applied, on a lone voter', () =>
  withFleet({ voters: 1 }, async (fleet) => {
    const voter = fleet.voter(1);
    assert.equal((await fleet.leader()).raftId, 1);
    assert.equal(await fleet.propose(voter, 'one'), 3);
    assert.deepEqual(voter.machine.words, ['one']);
    assert.equal(voter.machine.entries[0]?.data.byteLength, 0, "the leader's own empty entry is delivered too");
  }));

test('propose() does not resolve on a lone voter before its disk has the entry', () =>
  withFleet({ voters: 1 }, async (fleet) => {
    const voter = fleet.voter(1);
    await fleet.leader();
    await until(() => voter.machine.applied === 2);
    const store = voter.store as MemoryStore;
    const { entered, open } = store.gate.shut();
    let resolved = false;
    const proposed = fleet.propose(voter, 'one').then(() => {
      resolved = true;
    });
    await entered;
    // Whatever does not wait for the disk has happened a turn later.
    await nextTurn();
    assert.equal(resolved, false);
    assert.deepEqual(voter.machine.words, []);
    open();
    await proposed;
    store.crash();
    assert.ok(store.keys().includes('entry/0000000000000003'));
  }));

test('propose() takes no more at one moment than may wait', () =>
  withFleet({ voters: 1 }, async (fleet) => {
    const voter = await fleet.leader();
    const calls = Array.from({ length: 4_100 }, (_, count) => fleet.propose(voter, `w${count}`));
    const ends = await Promise.allSettled(calls);
    const refused = ends.filter((end) => end.status === 'rejected');
    assert.equal(refused.length, 4);
    for (const { reason } of refused) assert.ok(code('busy')(reason), String(reason));
    await fleet.propose(voter, 'later');
  }));

test('three voters elect one leader and replicate the same chain', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    for (const word of ['a', 'b', 'c']) await fleet.propose(leader, word);
    await until(() => fleet.voters.every(({ machine }) => machine.words.length === 3));
    const last = leader.machine.applied;
    for (const { machine } of fleet.voters) {
      assert.deepEqual(machine.words, ['a', 'b', 'c']);
      assert.equal(machine.hashes.get(last), leader.machine.hashes.get(last));
    }
    const follower = fleet.voters.find((voter) => voter !== leader);
    assert.ok(follower);
    await assert.rejects(fleet.propose(follower, 'd'), code('not-controller'));
  }));

test('killing the leader elects another and loses no acknowledged entry', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const words: string[] = [];
    for (let round = 0; round < 4; round += 1) {
      const leader = await fleet.leader();
      for (let count = 0; count < 5; count += 1) {
        await fleet.propose(leader, `${round}.${count}`);
        words.push(`${round}.${count}`);
      }
      await fleet.unplug(leader.raftId);
      const others = [1, 2, 3].filter((raftId) => raftId !== leader.raftId);
      const next = await fleet.leader(others);
      await fleet.propose(next, `after ${round}`);
      words.push(`after ${round}`);
      await fleet.restart(leader.raftId);
    }
    await until(() => fleet.voters.every(({ machine }) => machine.words.length === words.length));
    for (const { machine } of fleet.voters) assert.deepEqual(machine.words, words);
  }));

test('a fleet that was stopped and started again has everything', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    await fleet.propose(await fleet.leader(), 'kept');
    await Promise.all([1, 2, 3].map((raftId) => fleet.unplug(raftId)));
    await Promise.all([1, 2, 3].map((raftId) => fleet.restart(raftId)));
    await fleet.propose(await fleet.leader(), 'more');
    await until(() => fleet.voters.every(({ machine }) => machine.words.length === 2));
    assert.deepEqual(fleet.voter(1).machine.words, ['kept', 'more']);
  }));

test('entries after appliedIndex() are delivered again after a restart', () =>
  withFleet({ voters: 1 }, async (fleet) => {
    const voter = fleet.voter(1);
    await fleet.leader();
    for (const word of ['a', 'b', 'c']) await fleet.propose(voter, word);
    await fleet.unplug(1);
    voter.machine.applied = 4;
    voter.machine.words = ['a', 'b'];
    await fleet.restart(1);
    await until(() => voter.machine.words.length === 3);
    assert.deepEqual(voter.machine.words, ['a', 'b', 'c']);
  }));

test('a voter that is far behind catches up by snapshot and then by entries', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const behind = fleet.voters.find((voter) => voter !== leader);
    assert.ok(behind);
    await fleet.unplug(behind.raftId);
    for (let count = 0; count < 20; count += 1) await fleet.propose(leader, `w${count}`);
    await leader.consensus.compact(leader.machine.applied);
    assert.equal(leader.consensus.status().firstIndex, leader.machine.applied + 1);
    await fleet.propose(leader, 'after');
    await fleet.restart(behind.raftId);
    await until(() => behind.machine.words.length === 21);
    assert.equal(behind.machine.restores, 1);
    assert.deepEqual(behind.machine.words, leader.machine.words);
    await fleet.propose(leader, 'live');
    await until(() => behind.machine.words.at(-1) === 'live');
    const last = behind.machine.applied;
    assert.equal(behind.machine.hashes.get(last), leader.machine.hashes.get(last));
    await fleet.unplug(behind.raftId);
    await fleet.restart(behind.raftId);
    await until(() => behind.consensus.status().leader === leader.raftId);
  }));

test('a voter added after a snapshot was made gets one that names it', () =>
  withFleet({ voters: 2, others: 2 }, async (fleet) => {
    const leader = await fleet.leader([1, 2]);
    await fleet.propose(leader, 'one');
    await leader.consensus.compact(leader.machine.applied);
    for (const raftId of [3, 4]) {
      const steps = [{ kind: 'add-learner' as const, raftId }];
      await leader.consensus.changeVoters({ transition: 'automatic', steps, contextOf }, soon());
      await until(() => fleet.voter(raftId).machine.words.includes('one'));
    }
  }));

test('changeVoters() brings in a learner, makes it a voter and removes another', () =>
  withFleet({ voters: 1, others: 2 }, async (fleet) => {
    const leader = await fleet.leader([1]);
    await fleet.propose(leader, 'before');
    for (const raftId of [2, 3]) {
      const change = { transition: 'automatic' as const, contextOf };
      await leader.consensus.changeVoters({ ...change, steps: [{ kind: 'add-learner', raftId }] }, soon());
      await until(() => fleet.voter(raftId).machine.words.includes('before'));
      await leader.consensus.changeVoters({ ...change, steps: [{ kind: 'add-voter', raftId }] }, soon());
    }
    assert.deepEqual(leader.consensus.status().voters, [1, 2, 3]);
    const entry = leader.machine.entries.findLast(({ type }) => type === 'configuration');
    assert.deepEqual(entry?.configuration?.voters, [1, 2, 3]);
    const retire = {
      transition: 'joint-implicit' as const,
      steps: [{ kind: 'remove' as const, raftId: 1 }],
      contextOf: () => new TextEncoder().encode('retired'),
    };
    await assert.rejects(leader.consensus.changeVoters(retire, soon()), code('voters-unchanged'));
    await leader.consensus.transferLeadership([2]);
    const next = await fleet.leader();
    await next.consensus.changeVoters(retire, soon());
    await until(
      () => next.consensus.status().voters.length === 2 && next.consensus.status().votersOutgoing.length === 0,
    );
    assert.deepEqual(next.consensus.status().voters, [2, 3]);
    await fleet.propose(next, 'after');
    await until(() => fleet.network.streamsFrom(peerName(2), peerName(1)) === 0);
    assert.equal(fleet.network.streamsFrom(peerName(2), peerName(3)), 1, 'the others stay');
  }));

test('changeVoters() refuses what cannot follow on the configuration in force', () =>
  withFleet({ voters: 1 }, async (fleet) => {
    const { consensus } = await fleet.leader();
    const change = { transition: 'automatic' as const, contextOf };
    await assert.rejects(consensus.changeVoters({ ...change, steps: [] }, soon()), code('voters-unchanged'));
    const steps = [{ kind: 'remove' as const, raftId: 1 }];
    await assert.rejects(consensus.changeVoters({ ...change, steps }, soon()), code('voters-unchanged'));
  }));

test('readIndex() sees every acknowledged entry, on followers too', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    for (let count = 0; count < 10; count += 1) {
      const index = await fleet.propose(leader, `w${count}`);
      await Promise.all(
        fleet.voters.map(async ({ consensus, machine }) => {
          assert.ok((await consensus.readIndex(soon())) >= index);
          assert.ok(machine.applied >= index);
        }),
      );
    }
  }));

test('readIndex() of a lone voter after a restart sees what was acknowledged before', () =>
  withFleet({ voters: 1 }, async (fleet) => {
    const voter = fleet.voter(1);
    await fleet.leader();
    const index = await fleet.propose(voter, 'one');
    await fleet.unplug(1);
    voter.machine.applied = 1;
    voter.machine.words = [];
    await fleet.restart(1);
    assert.ok((await voter.consensus.readIndex(soon())) >= index);
    assert.deepEqual(voter.machine.words, ['one']);
  }));

test('readIndex() rejects while no majority can be reached', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    for (const { raftId } of fleet.voters) {
      if (raftId !== leader.raftId) fleet.network.cut(peerName(leader.raftId), peerName(raftId));
    }
    await assert.rejects(leader.consensus.readIndex({ signal: AbortSignal.timeout(100) }), code('timed-out'));
  }));

test('propose() on a leader that is cut off ends as lost or unknown, never as done', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const others = [1, 2, 3].filter((raftId) => raftId !== leader.raftId);
    for (const raftId of others) fleet.network.cut(peerName(leader.raftId), peerName(raftId));
    const doomed = fleet.propose(leader, 'doomed');
    const outcome = doomed.then(
      () => 'done',
      (error: unknown) => (error instanceof ParleyError ? error.code : 'other'),
    );
    const next = await fleet.leader(others);
    await fleet.propose(next, 'instead');
    for (const raftId of others) fleet.network.heal(peerName(leader.raftId), peerName(raftId));
    assert.match(await outcome, /^(proposal-lost|outcome-unknown)$/);
    await until(() => leader.machine.words.includes('instead'));
    assert.ok(!leader.machine.words.includes('doomed'));
  }));

test('propose() rejects with outcome-unknown when its caller gives up', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    for (const { raftId } of fleet.voters) {
      if (raftId !== leader.raftId) fleet.network.cut(peerName(leader.raftId), peerName(raftId));
    }
    const data = new TextEncoder().encode('x');
    await assert.rejects(leader.consensus.propose(data, { signal: AbortSignal.timeout(20) }), code('outcome-unknown'));
  }));

test('a follower that was cut off comes back without deposing the leader', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const cutOff = fleet.voters.find((voter) => voter !== leader);
    assert.ok(cutOff);
    const others = [1, 2, 3].filter((raftId) => raftId !== cutOff.raftId);
    for (const raftId of others) fleet.network.cut(peerName(cutOff.raftId), peerName(raftId));
    await until(() => cutOff.consensus.status().role === 'pre-candidate');
    const { term } = leader.consensus.status();
    await fleet.propose(leader, 'meanwhile');
    for (const raftId of others) fleet.network.heal(peerName(cutOff.raftId), peerName(raftId));
    await until(() => cutOff.machine.words.includes('meanwhile'));
    assert.equal(leader.consensus.status().role, 'leader');
    assert.equal(leader.consensus.status().term, term);
  }));

test('transferLeadership() hands over to the voters that are named', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const target = fleet.voters.find((voter) => voter !== leader);
    assert.ok(target);
    await leader.consensus.transferLeadership([target.raftId]);
    assert.equal((await fleet.leader()).raftId, target.raftId);
    await assert.rejects(leader.consensus.transferLeadership([target.raftId]), code('not-controller'));
  }));

test('stop() of a leader hands over first', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    await fleet.propose(leader, 'warm');
    const { term } = leader.consensus.status();
    await leader.consensus.stop();
    // The successor's campaign is what ended our lead; without a handover it would begin an election time later.
    const terms = fleet.voters.filter((voter) => voter !== leader).map(({ consensus }) => consensus.status().term);
    assert.ok(terms.includes(term + 1), `${terms}`);
    await fleet.propose(await fleet.leader([1, 2, 3].filter((raftId) => raftId !== leader.raftId)), 'after');
  }));

test('a voter whose disk fails gives up the lead and takes part again once it writes', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    await fleet.propose(leader, 'before');
    const others = [1, 2, 3].filter((raftId) => raftId !== leader.raftId);
    const store = leader.store as MemoryStore;
    const told: (string | undefined)[] = [];
    leader.consensus.onRoleChange(({ failure }) => told.push(failure?.code));
    store.failure = new ParleyError('disk-full', 'no space left', { retryable: true });
    const stuck = leader.consensus.propose(new TextEncoder().encode('stuck'), soon());
    const outcome = stuck.catch(() => undefined);
    await until(() => leader.consensus.status().failure?.code === 'disk-full');
    await assert.rejects(fleet.propose(leader, 'refused'), code('held-up'));
    const next = await fleet.leader(others);
    await fleet.propose(next, 'elsewhere');
    store.failure = undefined;
    await until(() => leader.machine.words.includes('elsewhere'));
    assert.equal(leader.consensus.status().failure, undefined);
    assert.deepEqual([told.includes('disk-full'), told.at(-1)], [true, undefined], 'whoever watches is told');
    await outcome;
  }));

test('a state machine that fails is given the same entries again', () =>
  withFleet({ voters: 1 }, async (fleet) => {
    const voter = await fleet.leader();
    await until(() => voter.machine.applied === 2);
    voter.machine.failure = new Error('not now');
    const proposed = fleet.propose(voter, 'one');
    await until(() => voter.consensus.status().failure !== undefined);
    voter.machine.failure = undefined;
    await proposed;
    assert.deepEqual(voter.machine.words, ['one']);
  }));

test('committedEntries() pages through what is applied and says what is compacted', () =>
  withFleet({ voters: 1 }, async (fleet) => {
    const voter = await fleet.leader();
    for (let count = 0; count < 10; count += 1) await fleet.propose(voter, `w${count}`);
    const { consensus } = voter;
    const entries = await consensus.committedEntries(2, 4);
    assert.deepEqual(
      entries.map(({ index }) => index),
      [2, 3, 4, 5],
    );
    assert.equal((await consensus.committedEntries(2, 100)).length, 11);
    assert.deepEqual(await consensus.committedEntries(13, 5), []);
    await consensus.compact(6);
    await assert.rejects(consensus.committedEntries(6, 5), code('compacted'));
    assert.equal((await consensus.committedEntries(7, 1))[0]?.chainHash, voter.machine.hashes.get(7));
  }));

test('propose() refuses entries over 64 KiB and takes those of exactly 64 KiB', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const { consensus } = await fleet.leader();
    await assert.rejects(consensus.propose(new Uint8Array(64 * 1024 + 1), soon()), code('too-large'));
    const many = Array.from({ length: 40 }, () => consensus.propose(new Uint8Array(64 * 1024), soon()));
    await Promise.all(many);
    await until(() => fleet.voters.every(({ machine }) => machine.words.length === 40));
  }));

test('messages under a false name are refused and change nothing', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const { term } = leader.consensus.status();
    const { encode } = await import('../../protocols/codec.ts');
    const stranger = fleet.network.mesh(peerName(9));
    const stream = await stranger.open(peerName(leader.raftId), '/parley/consensus/1', soon());
    const message = { type: 'append', from: leader.raftId === 1 ? 2 : 1, to: leader.raftId, term: term + 5 };
    await stream.send(encode({ version: 1, messages: [message] }));
    await assert.rejects(stream.receive(soon()), code('stream-closed'));
    assert.equal(leader.consensus.status().term, term);
  }));

test('start() refuses a store without a log, and methods a voter that does not run', async () => {
  const fleet = new Fleet({ voters: 1 });
  const { consensus }: { consensus: Consensus } = fleet.voter(1);
  await assert.rejects(consensus.start(), code('not-bootstrapped'));
  await assert.rejects(consensus.readIndex(soon()), code('not-started'));
  await consensus.stop();
});

test('start() refuses a state that is ahead of the log or behind it', async () => {
  const fleet = new Fleet({ voters: 1 });
  const voter = fleet.voter(1);
  await fleet.bootstrap(voter);
  voter.machine.applied = 7;
  await assert.rejects(voter.consensus.start(), code('damaged-log'));
  voter.machine.applied = 0;
  await assert.rejects(voter.consensus.start(), code('state-behind-log'));
  voter.machine.applied = 1;
  await voter.consensus.start();
  await until(() => voter.machine.hashes.has(2));
  assert.notEqual(voter.machine.hashes.get(2), genesisHash);
  await voter.consensus.stop();
});
