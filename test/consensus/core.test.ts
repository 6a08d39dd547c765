// Scripted schedules of the core: those that random ones hardly find, and those that a reader wants to see by name.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeMessage } from '../../node/consensus/core/message.ts';
import { ReadQueue } from '../../node/consensus/core/read-queue.ts';
import { CoreGroup, electionTicks } from './core-group.ts';

const lastOf = (group: CoreGroup, raftId: number): { index: number; term: number | undefined } => {
  const { log } = group.node(raftId);
  return { index: log.lastIndex(), term: log.term(log.lastIndex()) };
};

test('an entry of an older term is not committed by counting its copies (figure 8)', () => {
  const group = new CoreGroup(5, { preVote: false });
  const node = group.node(1);
  // Node 1 led term 2, has an entry of it that nobody else had, and was deposed by a leader of term 3 whom 1 to 3 never heard.
  node.log.append([{ index: 2, term: 2, type: 'normal', data: new TextEncoder().encode('old') }]);
  node.hardState = { term: 3, vote: 0, commit: 1 };
  group.restart(1);
  const handle = (): void => {
    while (group.handle(1)) group.flying = [];
  };
  const hear = (from: number, type: 'vote-response' | 'append-response', index: number): void => {
    node.raw.step(makeMessage(type, 1, { from, term: 4, index }));
    handle();
  };
  node.raw.campaign();
  handle();
  for (const from of [2, 3]) hear(from, 'vote-response', 0);
  assert.equal(node.raw.status().role, 'leader');
  // A majority holds the old entry now; node 5, with an entry of term 3 at its place, could still be elected and replace it.
  for (const from of [2, 3]) hear(from, 'append-response', 2);
  assert.equal(node.raw.status().commit, 1);
  // Only an entry of the own term on a majority makes that impossible.
  for (const from of [2, 3]) hear(from, 'append-response', 3);
  assert.equal(node.raw.status().commit, 3);
  assert.deepEqual(node.applied, ['old', '']);
});

test('an entry of an older term is committed underneath one of the own term', () => {
  const group = new CoreGroup(3);
  group.campaign(1);
  group.isolate(1);
  group.propose(1, 'kept');
  group.heal();
  group.restart(1);
  for (const raftId of [2, 3]) group.node(raftId).raw.forgetLeader();
  group.campaign(1);
  for (const { applied } of group.nodes) assert.ok(applied.includes('kept'));
});

test('a lone voter counts its own entry only once it is written', () => {
  const group = new CoreGroup(1);
  const { raw } = group.node(1);
  group.campaign(1);
  const before = raw.status().commit;
  raw.propose(new TextEncoder().encode('one'));
  const ready = raw.ready();
  assert.equal(ready.entries.length, 1);
  assert.equal(ready.committedEntries.length, 0);
  assert.ok(ready.mustSync);
  assert.equal(raw.status().commit, before, 'the entry is with the disk');
  raw.advance();
  assert.equal(raw.status().commit, before + 1);
});

test('a lone leader answers no read before its first own commit', () => {
  const group = new CoreGroup(1);
  const { raw, log } = group.node(1);
  raw.campaign();
  while (raw.status().role !== 'leader') assert.ok(group.handle(1));
  raw.readIndex('early');
  const { readStates, entries } = raw.ready();
  assert.deepEqual(readStates, [], 'entries acknowledged before a restart may not count as committed yet');
  log.append(entries);
  raw.advance();
  assert.deepEqual(raw.ready().readStates, [{ index: raw.lastIndex(), context: 'early' }]);
});

test('a partitioned node does not raise terms, and rejoins without disruption', () => {
  const group = new CoreGroup(3);
  group.campaign(1);
  const { term } = group.node(1).raw.status();
  group.isolate(3);
  for (let round = 0; round < 5 * electionTicks; round += 1) for (const raftId of [1, 2, 3]) group.tick(raftId, 1);
  assert.equal(group.node(3).raw.status().term, term);
  assert.equal(group.role(3), 'pre-candidate');
  group.propose(1, 'meanwhile');
  group.heal();
  group.tick(1, 2);
  assert.equal(group.role(1), 'leader');
  assert.equal(group.node(1).raw.status().term, term);
  assert.ok(group.node(3).applied.includes('meanwhile'));
});

test('without pre-vote a partitioned node does disrupt', () => {
  const group = new CoreGroup(3, { preVote: false });
  group.campaign(1);
  const { term } = group.node(1).raw.status();
  group.isolate(3);
  group.tick(3, 3 * electionTicks);
  group.heal();
  group.tick(1, 2);
  assert.ok(group.node(1).raw.status().term > term || group.role(1) !== 'leader');
});

test('a leader without a quorum steps down within two election times', () => {
  const group = new CoreGroup(3);
  group.campaign(1);
  group.isolate(1);
  group.tick(1, 2 * electionTicks);
  assert.equal(group.role(1), 'follower');
});

test('a node that hears from its leader helps nobody to depose it', () => {
  const group = new CoreGroup(3);
  group.campaign(1);
  group.node(3).raw.campaign();
  group.settle();
  assert.equal(group.role(1), 'leader');
  assert.equal(group.role(3), 'pre-candidate');
  group.node(2).raw.forgetLeader();
  group.node(3).raw.campaign();
  group.settle();
  assert.equal(group.role(3), 'leader');
});

test('conflicting tails are replaced by the new leader', () => {
  const group = new CoreGroup(3);
  group.campaign(1);
  group.isolate(1);
  for (let count = 0; count < 20; count += 1) group.propose(1, `lost ${count}`);
  group.node(2).raw.forgetLeader();
  group.node(3).raw.forgetLeader();
  group.campaign(2);
  group.propose(2, 'won');
  group.heal();
  group.tick(2, 2);
  assert.deepEqual(lastOf(group, 1), lastOf(group, 2));
  assert.deepEqual(group.node(1).applied, group.node(2).applied);
  assert.ok(group.node(1).applied.includes('won'));
});

test('a restarted node votes once in a term', () => {
  const group = new CoreGroup(3, { preVote: false, checkQuorum: false });
  const vote = (from: number) => makeMessage('vote', 2, { from, term: 5, index: 1, logTerm: 1 });
  const answer = (): { to: number; reject: boolean }[] =>
    group.flying.splice(0).flatMap(({ type, to, reject }) => (type === 'vote-response' ? [{ to, reject }] : []));
  group.node(2).raw.step(vote(1));
  while (group.handle(2));
  assert.deepEqual(answer(), [{ to: 1, reject: false }]);
  group.restart(2);
  group.node(2).raw.step(vote(3));
  while (group.handle(2));
  assert.deepEqual(answer(), [{ to: 3, reject: true }]);
});

test('a removed member and a stranger are not heard', () => {
  const group = new CoreGroup(3);
  group.campaign(1);
  const response = makeMessage('append-response', 1, { from: 9, term: group.node(1).raw.status().term, index: 2 });
  assert.equal(group.node(1).raw.step(response), 'unknown-member');
  assert.equal(group.node(1).raw.step(makeMessage('beat', 1, { from: 2 })), 'local-message');
});

test('ReadQueue confirms a read by a quorum that answered after it', () => {
  const voters = { incoming: new Set([1, 2, 3]), outgoing: new Set<number>() };
  const queue = new ReadQueue();
  queue.acknowledge(2, '99');
  queue.add(makeMessage('read-index', 1, { context: 'a' }), 7);
  const position = queue.context();
  queue.acknowledge(1, position);
  assert.deepEqual(queue.takeConfirmed(voters), [], 'an answer from before the question does not count');
  queue.add(makeMessage('read-index', 1, { context: 'b' }), 8);
  queue.acknowledge(2, position);
  assert.deepEqual(
    queue.takeConfirmed(voters).map(({ index, request }) => [index, request.context]),
    [[7, 'a']],
  );
  queue.acknowledge(1, queue.context());
  queue.acknowledge(3, queue.context());
  assert.equal(queue.takeConfirmed(voters).length, 1);
  assert.equal(queue.context(), '');
});
