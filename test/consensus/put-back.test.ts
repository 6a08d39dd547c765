// A voter whose disk was put back to an earlier time, as a virtual machine or a file system is rolled back: its log is whole
// and its witness fits, so only what others heard from it can tell.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { decode, encode } from '../../protocols/codec.ts';
import { consensusFrameSchema, consensusProtocol, type RaftMessage } from '../../protocols/consensus-message.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import { Fleet, peerName, silentLogger, until, type Voter } from './fleet.ts';
import { ListMachine } from './list-machine.ts';
import { MemoryStore } from './memory-store.ts';

async function threeVoters(t: TestContext, logger = silentLogger): Promise<Fleet> {
  const fleet = new Fleet({ voters: 3, logger });
  t.after(() => fleet.stop());
  await fleet.start();
  return fleet;
}

/** What a voter's disk holds now; the function puts it all back. */
async function backUp(fleet: Fleet, { raftId, store, witness, machine }: Voter): Promise<() => Promise<void>> {
  if (!(store instanceof MemoryStore)) throw new Error('its disk cannot be copied');
  const then = { store: store.clone(), witness: witness.clone() };
  const state = await machine.snapshot();
  return async () => {
    await fleet.unplug(raftId);
    const voter = Object.assign(fleet.voter(raftId), then, { machine: new ListMachine() });
    const configuration = { voters: [1, 2, 3], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
    await voter.machine.restore({ ...state, term: 1, chainHash: '', configuration });
    await fleet.restart(raftId);
  };
}

test('a voter that was put back before what it acknowledged stops for good at the next heartbeat of its leader', async (t) => {
  const fleet = await threeVoters(t);
  const leader = await fleet.leader();
  await fleet.propose(leader, 'before');
  const victim = fleet.voters.find(({ raftId }) => raftId !== leader.raftId) ?? assert.fail('nobody follows');
  const last = (): number => victim.consensus.status().lastIndex;
  await until(() => last() === leader.consensus.status().lastIndex);
  const putBack = await backUp(fleet, victim);
  await fleet.propose(leader, 'after');
  await until(() => last() === leader.consensus.status().lastIndex);
  await putBack();
  await until(() => victim.consensus.status().failure !== undefined);
  const { failure } = victim.consensus.status();
  assert.equal(failure?.code, 'damaged-log');
  assert.match(failure?.hint ?? '', /under a new raft id/);
  const before = fleet.network.messagesSent;
  await fleet.unplug(leader.raftId);
  const third = fleet.voters.find((voter) => voter !== leader && voter !== victim) ?? assert.fail('there are three');
  const { term } = third.consensus.status();
  await until(() => third.consensus.status().role !== 'follower' && fleet.network.messagesSent > before);
  for (let rounds = 0; rounds < 20; rounds += 1) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(third.consensus.status().term, term, 'it helps nobody to be elected');
});

test('a voter that was put back and has lost nothing goes on', async (t) => {
  const fleet = await threeVoters(t);
  const leader = await fleet.leader();
  await fleet.propose(leader, 'before');
  const victim = fleet.voters.find(({ raftId }) => raftId !== leader.raftId) ?? assert.fail('nobody follows');
  await until(() => victim.consensus.status().lastIndex === leader.consensus.status().lastIndex);
  await (await backUp(fleet, victim))();
  const index = await fleet.propose(leader, 'after');
  await until(() => victim.consensus.status().appliedIndex === index);
  assert.equal(victim.consensus.status().failure, undefined);
});

/** Voter 3, played by hand: it takes what the leader sends, or refuses what it took before. */
function playThird(fleet: Fleet) {
  const mesh = fleet.network.mesh(peerName(3));
  const third = { takes: true, heartbeats: 0, appends: 0 };
  const answerTo = ({ type, from: to, term, index, entries }: RaftMessage): Partial<RaftMessage> => {
    if (type === 'heartbeat') return { type: 'heartbeat-response', to, term };
    const answer = { type: 'append-response' as const, to, term };
    return third.takes ? { ...answer, index: index + entries.length } : { ...answer, index, reject: true };
  };
  mesh.handle(consensusProtocol, async (stream) => {
    const back = await mesh.open(stream.peer, consensusProtocol, { signal: AbortSignal.timeout(20_000) });
    for (;;) {
      const bytes = await stream.receive();
      if (bytes === undefined) return;
      const { messages } = decode(consensusFrameSchema, bytes, messageBytesMax);
      third.heartbeats += messages.filter(({ type }) => type === 'heartbeat').length;
      third.appends += messages.filter(({ type }) => type === 'append').length;
      const heard = messages.filter(({ type }) => type === 'heartbeat' || type === 'append');
      const answers = heard.map((message) => ({ from: 3, ...answerTo(message) }));
      if (answers.length > 0) await back.send(encode({ version: 1, messages: answers }));
    }
  });
  return third;
}

test('a leader sends what its follower refuses after it had acknowledged it no more often than it beats, and says so', async (t) => {
  const errors: string[] = [];
  const logger = { ...silentLogger, error: (_fields: object, message: string) => void errors.push(message) };
  const fleet = new Fleet({ voters: 3, logger });
  for (const raftId of [1, 2]) {
    await fleet.bootstrap(fleet.voter(raftId));
    await fleet.voter(raftId).consensus.start();
    t.after(() => fleet.voter(raftId).consensus.stop());
  }
  const third = playThird(fleet);
  const leader = await fleet.leader([1, 2]);
  const failure = (): string | undefined => leader.consensus.status().failure?.code;
  const match = (): number | undefined => leader.consensus.status().progress?.find(({ raftId }) => raftId === 3)?.match;
  const index = await fleet.propose(leader, 'taken');
  await until(() => match() === index);
  third.takes = false;
  fleet.network.cut(peerName(leader.raftId), peerName(3));
  await until(() => leader.consensus.status().progress?.some(({ state }) => state === 'probe') ?? false);
  fleet.network.heal(peerName(leader.raftId), peerName(3));
  Object.assign(third, { heartbeats: 0, appends: 0 });
  await until(() => third.heartbeats >= 30);
  assert.ok(third.appends <= third.heartbeats + 5, `${third.appends} appends, ${third.heartbeats} heartbeats`);
  await until(() => failure() === 'voter-forgot');
  assert.deepEqual(errors, ['a voter refuses entries that it had acknowledged']);
  third.takes = true;
  await until(() => failure() === undefined);
});
