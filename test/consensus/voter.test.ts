// What a voter does as it starts, and to whom it hands its lead.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openLogStore } from '../../node/consensus/log-store.ts';
import { Fleet, genesisHash, noLearners, peerName, until } from './fleet.ts';
import type { MemoryStore } from './memory-store.ts';

test('start() restores a snapshot that was received before a crash, and drops its body', async (t) => {
  const fleet = new Fleet({ voters: 1 });
  t.after(() => fleet.stop());
  const voter = fleet.voter(1);
  await fleet.bootstrap(voter);
  const log = await openLogStore(voter, () => undefined);
  const configuration = { voters: [1], ...noLearners };
  const metadata = { index: 20, term: 4, chainHash: genesisHash, configuration };
  const body = Buffer.from(JSON.stringify(['restored']));
  const bodies = () => (voter.store as MemoryStore).keys().filter((key) => key.startsWith('snapshot-body'));
  await log.write({ hardState: { term: 4, vote: 0, commit: 20 }, entries: [], snapshot: { metadata, body } });
  assert.equal(bodies().length, 1);
  await voter.consensus.start();
  assert.deepEqual([voter.machine.words, voter.machine.restores], [['restored'], 1]);
  assert.deepEqual(bodies(), []);
  await fleet.leader();
  // Kept, the body would be taken for the state at whatever index the log is compacted up to.
  await voter.consensus.compact(await fleet.propose(voter, 'after'));
  await fleet.unplug(1);
  voter.machine.applied = 20;
  await assert.rejects(fleet.restart(1), { code: 'state-behind-log' });
  assert.equal(voter.machine.restores, 1);
});

test('transferLeadership() passes over voters that are silent, and says so where all are', async (t) => {
  const fleet = new Fleet({ voters: 3 });
  t.after(() => fleet.stop());
  await fleet.start();
  const leader = await fleet.leader();
  const { consensus } = leader;
  const last = await fleet.propose(leader, 'one');
  const progress = () => new Map(consensus.status().progress?.map((each) => [each.raftId, each]));
  await until(() => [...progress().values()].every(({ match }) => match === last));
  // Both have all of the log: the first of them would be taken.
  const [silent = 0, other = 0] = progress().keys();
  for (const raftId of [leader.raftId, other]) fleet.network.cut(peerName(silent), peerName(raftId));
  const isSeen = () => progress().get(silent)?.active === false && progress().get(other)?.active === true;
  await until(isSeen);
  const reason = /none of the voters that are to lead can be reached/;
  await assert.rejects(consensus.transferLeadership([silent]), { code: 'transfer-failed', message: reason });
  await until(isSeen);
  await consensus.transferLeadership([silent, other]);
  assert.equal((await fleet.leader([leader.raftId, other])).raftId, other);
});
