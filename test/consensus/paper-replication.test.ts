// What the Raft paper says of replication and commitment (sections 5.3 and 5.4.2), case by case under the names that
// etcd/raft gives them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeMessage } from '../../node/consensus/core/message.ts';
import { accepted, describe, entriesOf, PaperNode } from './paper-node.ts';

test('TestLeaderStartReplication: a leader appends a proposal and sends it to all, with the position before it', () => {
  const node = new PaperNode().leadAndCommit();
  const end = node.raft.log.lastIndex();
  node.propose('some data');
  assert.deepEqual([node.raft.log.lastIndex(), node.raft.log.committed], [end + 1, end]);
  const appends = node.sent().map(({ type, to, term, index, logTerm, commit, entries }) => {
    return { type, to, term, index, logTerm, commit, entries: describe(entries) };
  });
  const entries = [`${end + 1}/1 some data`];
  const append = { type: 'append', term: 1, index: end, logTerm: 1, commit: end, entries };
  assert.deepEqual(appends, [
    { ...append, to: 2 },
    { ...append, to: 3 },
  ]);
  assert.deepEqual(node.unwritten(), entries);
});

test('TestLeaderCommitEntry: a leader applies what a majority holds, and tells the others', () => {
  const node = new PaperNode().leadAndCommit();
  const end = node.raft.log.lastIndex();
  node.propose('some data');
  for (const message of node.sent()) node.hear(accepted(message));
  assert.equal(node.raft.log.committed, end + 1);
  assert.deepEqual(node.toApply(), [`${end + 1}/1 some data`]);
  const told = node.sent().map(({ type, to, commit }) => ({ type, to, commit }));
  assert.deepEqual(told, [
    { type: 'append', to: 2, commit: end + 1 },
    { type: 'append', to: 3, commit: end + 1 },
  ]);
});

test('TestLeaderAcknowledgeCommit: an entry is committed once a majority holds it, the leader counted', () => {
  const cases: readonly [size: number, acceptors: number[], committed: boolean][] = [
    [1, [], true],
    [3, [], false],
    [3, [2], true],
    [3, [2, 3], true],
    [5, [], false],
    [5, [2], false],
    [5, [2, 3], true],
    [5, [2, 3, 4], true],
    [5, [2, 3, 4, 5], true],
  ];
  for (const [size, acceptors, committed] of cases) {
    const node = new PaperNode({ size }).leadAndCommit();
    const end = node.raft.log.lastIndex();
    node.propose('some data');
    for (const message of node.sent()) if (acceptors.includes(message.to)) node.hear(accepted(message));
    assert.equal(node.raft.log.committed > end, committed, `${size} voters, ${acceptors} accept`);
  }
});

test('TestLeaderCommitPrecedingEntries: committing an entry commits all before it, of older terms too', () => {
  for (const terms of [[], [2], [1, 2], [1]]) {
    const old = entriesOf(1, terms);
    const node = new PaperNode({ log: old, term: 2 }).lead();
    node.propose('some data');
    for (const message of node.sent()) node.hear(accepted(message));
    const end = terms.length;
    assert.deepEqual(node.toApply(), [...describe(old), `${end + 1}/3`, `${end + 2}/3 some data`], `${terms}`);
  }
});

test('TestFollowerCommitEntry: a follower applies what it hears is committed, in order', () => {
  const cases: readonly [texts: string[], commit: number][] = [
    [['some data'], 1],
    [['some data', 'some data2'], 2],
    [['some data2', 'some data'], 2],
    [['some data', 'some data2'], 1],
  ];
  for (const [texts, commit] of cases) {
    const entries = entriesOf(
      1,
      texts.map(() => 1),
      texts,
    );
    const node = new PaperNode().follow(1, 2).take('append', { from: 2, term: 1, entries, commit });
    assert.equal(node.raft.log.committed, commit);
    assert.deepEqual(node.toApply(), describe(entries.slice(0, commit)));
  }
});

test('TestFollowerCheckMsgApp: a follower refuses entries after a position that it does not hold', () => {
  const refusal = (rejectHint: number, logTerm: number) => ({ reject: true, rejectHint, logTerm });
  const agreed = { reject: false, rejectHint: 0, logTerm: 0 };
  const cases: readonly [logTerm: number, index: number, answered: number, answer: typeof agreed][] = [
    // Committed already.
    [0, 0, 1, agreed],
    [1, 1, 1, agreed],
    // Held.
    [2, 2, 2, agreed],
    // Another entry there; none there.
    [1, 2, 2, refusal(1, 1)],
    [3, 3, 3, refusal(2, 2)],
  ];
  for (const [logTerm, index, answered, answer] of cases) {
    const node = new PaperNode({ log: entriesOf(1, [1, 2]), commit: 1 }).follow(2, 2);
    node.take('append', { from: 2, term: 2, logTerm, index });
    const answers = node.sent().map((message) => {
      const { type, to, term, reject, rejectHint } = message;
      return { type, to, term, index: message.index, reject, rejectHint, logTerm: message.logTerm };
    });
    assert.deepEqual(answers, [{ type: 'append-response', to: 2, term: 2, index: answered, ...answer }]);
  }
});

test('TestFollowerAppendEntries: a follower deletes what conflicts and all after it, and keeps what matches', () => {
  const cases: readonly [index: number, logTerm: number, terms: number[], log: string[], unwritten: string[]][] = [
    [2, 2, [3], ['1/1', '2/2', '3/3'], ['3/3']],
    [1, 1, [3, 4], ['1/1', '2/3', '3/4'], ['2/3', '3/4']],
    [0, 0, [1], ['1/1', '2/2'], []],
    [0, 0, [3], ['1/3'], ['1/3']],
  ];
  for (const [index, logTerm, terms, log, unwritten] of cases) {
    const node = new PaperNode({ log: entriesOf(1, [1, 2]) }).follow(2, 2);
    node.take('append', { from: 2, term: 2, logTerm, index, entries: entriesOf(index + 1, terms) });
    assert.deepEqual([node.wholeLog(), node.unwritten()], [log, unwritten]);
  }
});

test("TestLeaderSyncFollowerLog: a leader makes any follower's log its own (figure 7)", () => {
  const leaderTerms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
  const followers = [
    [1, 1, 1, 4, 4, 5, 5, 6, 6],
    [1, 1, 1, 4, 4],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    [1, 1, 1, 4, 4, 4, 4],
    [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
  ];
  for (const terms of followers) {
    const log = entriesOf(1, leaderTerms);
    const leader = new PaperNode({ log, term: 8, commit: log.length });
    const follower = new PaperNode({ raftId: 2, log: entriesOf(1, terms), term: 7 });
    // The follower's log may be the longer one, so the third voter must elect.
    const exchange = (): void => {
      const toFollower = leader.sent().filter(({ to }) => to === 2);
      for (const message of toFollower) follower.hear(message);
      const answers = follower.sent();
      for (const message of answers) leader.hear(message);
      if (toFollower.length + answers.length > 0) exchange();
    };
    leader.campaign();
    exchange();
    leader.hear(makeMessage('vote-response', 1, { from: 3, term: 9 }));
    exchange();
    leader.propose();
    exchange();
    assert.deepEqual(follower.wholeLog(), leader.wholeLog(), `${terms}`);
    assert.equal(follower.raft.log.committed, leader.raft.log.committed);
  }
});

test('TestLeaderOnlyCommitsLogFromCurrentTerm: copies of an entry of an older term commit nothing', () => {
  for (const { acknowledged, commit } of [
    { acknowledged: 1, commit: 0 },
    { acknowledged: 2, commit: 0 },
    { acknowledged: 3, commit: 3 },
  ]) {
    const node = new PaperNode({ size: 2, log: entriesOf(1, [1, 2]), term: 2 }).lead();
    node.sent();
    node.propose();
    node.take('append-response', { from: 2, term: node.raft.term, index: acknowledged });
    node.sent();
    assert.equal(node.raft.log.committed, commit, `${acknowledged}`);
  }
});
