// What the Raft paper says of terms, elections and votes (sections 5.1, 5.2 and 5.4.1), case by case under the names that
// etcd/raft gives them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RaftRole } from '../../node/consensus/core/raft.ts';
import { electionTicks, entriesOf, PaperNode } from './paper-node.ts';

type Start = (node: PaperNode) => PaperNode;
const follower: Start = (node) => node.follow(1, 2);
const candidate: Start = (node) => node.stand();
const leader: Start = (node) => node.lead();

/** 5.1: who hears of a higher term adopts it, and follows. */
function adoptsHigherTerm(start: Start): void {
  const { raft } = start(new PaperNode()).take('append', { from: 2, term: 2 });
  assert.equal(raft.term, 2);
  assert.equal(raft.role, 'follower');
}

test('TestFollowerUpdateTermFromMessage: a follower adopts a higher term', () => adoptsHigherTerm(follower));
test('TestCandidateUpdateTermFromMessage: a candidate gives way to a higher term', () => adoptsHigherTerm(candidate));
test('TestLeaderUpdateTermFromMessage: a leader gives way to a higher term', () => adoptsHigherTerm(leader));

test('TestRejectStaleTermMessage: a message of an older term changes nothing and gets no answer', () => {
  const node = new PaperNode({ term: 2 });
  node.take('append', { from: 2, term: 1, entries: entriesOf(1, [1]), commit: 1 });
  assert.deepEqual([node.raft.term, node.raft.leader, node.wholeLog()], [2, 0, []]);
  assert.deepEqual(node.sent(), []);
});

test('TestStartAsFollower: a node starts as a follower', () => {
  assert.equal(new PaperNode().raft.role, 'follower');
});

test('TestLeaderBcastBeat: a leader beats to everybody, without entries', () => {
  const node = new PaperNode().lead();
  for (let count = 0; count < 10; count += 1) node.propose();
  node.sent();
  node.tick();
  const beats = node.sent().map(({ type, to, term, index, logTerm, commit, entries }) => {
    return { type, to, term, index, logTerm, commit, entries };
  });
  const beat = { type: 'heartbeat', term: 1, index: 0, logTerm: 0, commit: 0, entries: [] };
  assert.deepEqual(beats, [
    { ...beat, to: 2 },
    { ...beat, to: 3 },
  ]);
});

/** 5.2: without a leader, or without a majority, the next term is tried, and everybody is asked. */
function startsElection(start: Start): void {
  const node = start(new PaperNode());
  node.tick(2 * electionTicks - 1);
  const { raft } = node;
  const requests = node.sent().map(({ type, to, term, index, logTerm }) => ({ type, to, term, index, logTerm }));
  assert.deepEqual([raft.term, raft.role, raft.vote], [2, 'candidate', 1]);
  const request = { type: 'vote', term: 2, index: 0, logTerm: 0 };
  assert.deepEqual(requests, [
    { ...request, to: 2 },
    { ...request, to: 3 },
  ]);
  node.take('vote-response', { from: 2, term: 2 });
  assert.equal(raft.role, 'leader', 'one vote and its own make a majority');
}

test('TestFollowerStartElection: a follower that hears nothing stands', () => startsElection(follower));
test('TestCandidateStartNewElection: a candidate without a result stands again', () => startsElection(candidate));

test('TestLeaderElectionInOneRoundRPC: an election is won, lost or open', () => {
  const cases: readonly [size: number, granted: number[], refused: number[], role: RaftRole][] = [
    [1, [], [], 'leader'],
    [3, [2, 3], [], 'leader'],
    [3, [2], [], 'leader'],
    [5, [2, 3, 4, 5], [], 'leader'],
    [5, [2, 3, 4], [], 'leader'],
    [5, [2, 3], [], 'leader'],
    [3, [], [2, 3], 'follower'],
    [5, [], [2, 3, 4, 5], 'follower'],
    [5, [2], [3, 4, 5], 'follower'],
    [3, [], [], 'candidate'],
    [5, [2], [], 'candidate'],
    [5, [], [2, 3], 'candidate'],
    [5, [], [], 'candidate'],
  ];
  for (const [size, granted, refused, role] of cases) {
    const node = new PaperNode({ size }).campaign();
    node.sent();
    for (const from of granted) node.take('vote-response', { from, term: 1 });
    for (const from of refused) node.take('vote-response', { from, term: 1, reject: true });
    assert.deepEqual([node.raft.role, node.raft.term], [role, 1], `${size} voters: ${granted} for, ${refused} against`);
  }
});

test('TestFollowerVote: a follower votes for one candidate a term, the first that asks', () => {
  const cases: readonly [vote: number, asks: number, refuses: boolean][] = [
    [0, 2, false],
    [0, 3, false],
    [2, 2, false],
    [3, 3, false],
    [2, 3, true],
    [3, 2, true],
  ];
  for (const [vote, asks, refuses] of cases) {
    const node = new PaperNode({ term: 1, vote }).take('vote', { from: asks, term: 1 });
    assert.equal(node.raft.messages.length, 0, 'the answer waits for the disk');
    const answers = node.sent().map(({ type, to, term, reject }) => ({ type, to, term, reject }));
    assert.deepEqual(answers, [{ type: 'vote-response', to: asks, term: 1, reject: refuses }], `${vote} ${asks}`);
  }
});

test('TestCandidateFallback: a candidate follows a leader of its own or a later term', () => {
  for (const term of [1, 2]) {
    const node = new PaperNode().campaign();
    assert.equal(node.raft.role, 'candidate');
    node.take('append', { from: 2, term });
    assert.deepEqual([node.raft.role, node.raft.term, node.raft.leader], ['follower', term, 2]);
  }
});

/** 5.2: the time until an election is a different one each time. */
function waitsAtRandom(restart: Start): void {
  const node = new PaperNode();
  const waits = new Set<number>();
  for (let round = 0; round < 50 * electionTicks; round += 1) {
    restart(node);
    let ticks = 0;
    for (; node.sent().length === 0; ticks += 1) node.tick();
    waits.add(ticks);
  }
  const expected = Array.from({ length: electionTicks }, (_, at) => electionTicks + at);
  assert.deepEqual([...waits].sort(), expected);
}

const followAgain: Start = (node) => node.follow(node.raft.term + 1, 2);

test('TestFollowerElectionTimeoutRandomized: a follower waits between one and two election times', () => {
  waitsAtRandom(followAgain);
});
test('TestCandidateElectionTimeoutRandomized: a candidate waits between one and two election times', () => {
  waitsAtRandom(candidate);
});

/** 5.2: mostly one of several wakes first, so that votes are rarely split. */
function rarelyConflicts(restart: Start): void {
  const nodes = Array.from({ length: 5 }, (_, at) => new PaperNode({ raftId: at + 1, size: 5 }));
  const rounds = 1_000;
  let conflicts = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const node of nodes) restart(node);
    let awake = 0;
    while (awake === 0) {
      for (const node of nodes) {
        node.tick();
        if (node.sent().length > 0) awake += 1;
      }
    }
    if (awake > 1) conflicts += 1;
  }
  assert.ok(conflicts <= 0.3 * rounds, `${conflicts} of ${rounds} elections had rivals`);
}

test('TestFollowersElectionTimeoutNonconflict: followers rarely stand at once', () => {
  rarelyConflicts((node) => node.follow(node.raft.term + 1, 0));
});
test('TestCandidatesElectionTimeoutNonconflict: candidates rarely stand again at once', () => {
  rarelyConflicts(candidate);
});

test("TestVoteRequest: a request for votes names the end of the candidate's log", () => {
  for (const { terms, term } of [
    { terms: [1], term: 2 },
    { terms: [1, 2], term: 3 },
  ]) {
    const node = new PaperNode().take('append', { from: 2, term: term - 1, entries: entriesOf(1, terms) });
    node.sent();
    node.tick(2 * electionTicks - 1);
    const requests = node.sent();
    assert.deepEqual(
      requests.map(({ type, to }) => [type, to]),
      [
        ['vote', 2],
        ['vote', 3],
      ],
    );
    for (const request of requests) {
      assert.deepEqual([request.term, request.index, request.logTerm], [term, terms.length, terms.at(-1)]);
    }
  }
});

test('TestVoter: nobody votes for a candidate whose log is behind', () => {
  const cases: readonly [terms: number[], logTerm: number, index: number, refuses: boolean][] = [
    [[1], 1, 1, false],
    [[1], 1, 2, false],
    [[1, 1], 1, 1, true],
    [[1], 2, 1, false],
    [[1], 2, 2, false],
    [[1, 1], 2, 1, false],
    [[2], 1, 1, true],
    [[2], 1, 2, true],
    [[2, 2], 1, 1, true],
    [[1, 1], 1, 1, true],
  ];
  for (const [terms, logTerm, index, refuses] of cases) {
    const node = new PaperNode({ size: 2, log: entriesOf(1, terms) }).take('vote', {
      from: 2,
      term: 3,
      logTerm,
      index,
    });
    const answers = node.sent().map(({ type, reject }) => ({ type, reject }));
    assert.deepEqual(answers, [{ type: 'vote-response', reject: refuses }], `${terms} against ${index}/${logTerm}`);
  }
});
