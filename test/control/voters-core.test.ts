// How consensus comes to count the voters that the ledger names: step by step, each certified before the next.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Lacking, lackingOf, nextVoterChange, type VoterFacts } from '../../node/control/voters-core.ts';
import type { LedgerState, Member } from '../../protocols/ledger-state.ts';
import { buildState, memberOf, sampleBeat } from './helpers.ts';

interface Parts {
  /** Raft ids of members with the role voter, by name; 0 where none is allotted yet. */
  readonly wanted: Readonly<Record<string, number>>;
  /** Raft ids in force, by the name of who they belong to. */
  readonly voters: Readonly<Record<string, number>>;
  readonly learners?: readonly number[];
  readonly isJoint?: boolean;
  /** Whose vote a member takes over. */
  readonly replaces?: Readonly<Record<string, string>>;
}

function stateOf({ wanted, voters, learners = [], isJoint = false, replaces = {} }: Parts): LedgerState {
  const members = Object.entries(wanted).map(([name, raftId]): Member => {
    const member = { ...memberOf(name, ['voter']), raftId };
    const replaced = replaces[name];
    return replaced === undefined ? member : { ...member, replaces: memberOf(replaced, ['voter']).peer };
  });
  const leaving = Object.keys(voters).filter((name) => wanted[name] === undefined);
  const inForce = Object.entries(voters).map(([name, raftId]) => {
    const { peer } = memberOf(name, []);
    return { raftId, peer, key: peer };
  });
  return {
    ...buildState({ members: [...members, ...leaving.map((name) => memberOf(name, ['member']))] }),
    voters: Object.values(voters),
    learners: [...learners],
    joint: isJoint ? { votersOutgoing: [1], learnersNext: [], autoLeave: false } : null,
    voterSet: { generation: 0, index: 5, voters: inForce, votersOutgoing: [] },
  };
}

const facts = (fields: Partial<VoterFacts> = {}): VoterFacts => ({
  ...{ ownRaftId: 1, isCaughtUp: () => true, isCertified: true, lacking: () => 0 },
  ...fields,
});
const slow = facts({ isCaughtUp: () => false });

/** What voters lack, by their names. */
const keeping = (lacking: Readonly<Record<string, Lacking>>): VoterFacts => {
  const byPeer = new Map(Object.entries(lacking).map(([name, value]) => [memberOf(name, []).peer, value]));
  return facts({ lacking: (peer) => byPeer.get(peer) ?? 0 });
};

describe('lackingOf()', () => {
  const beat = (index: number, lacking: number) => ({ ...sampleBeat, keeps: { index, lacking } });

  test('believes that nothing is lacking only where it was found under those who vote now', () => {
    const since = (index: number) => ({ voterSet: { generation: 0, index, voters: [], votersOutgoing: [] } });
    assert.equal(lackingOf({ online: true, beat: beat(100, 0) }, since(100)), 0);
    assert.equal(lackingOf({ online: true, beat: beat(100, 0) }, since(101)), 'unknown');
    assert.equal(lackingOf({ online: true, beat: beat(100, 3) }, since(101)), 3);
    assert.equal(lackingOf({ online: true, beat: sampleBeat }, since(1)), 'unknown');
    assert.equal(lackingOf({ online: true, beat: null }, since(1)), 'unknown');
    assert.equal(lackingOf({ online: false, beat: beat(100, 0) }, since(1)), 'away');
  });
});

describe('nextVoterChange()', () => {
  test('gives a learner its vote once it lacks no more than the best voter that is there', () => {
    const state = stateOf({ wanted: { a: 1, b: 2, c: 3 }, voters: { a: 1, b: 2 }, learners: [3] });
    const promoted = { kind: 'enter', promote: [3], demote: [], remove: [] };
    assert.equal(nextVoterChange(state, keeping({ c: 7 })), undefined);
    assert.equal(nextVoterChange(state, keeping({ c: 'unknown' })), undefined, 'it has not told yet');
    assert.equal(nextVoterChange(state, keeping({ a: 7, b: 'unknown', c: 7 })), undefined, 'b may have it all');
    assert.deepEqual(nextVoterChange(state, keeping({ a: 7, b: 'away', c: 7 })), promoted, 'nobody there has more');
    assert.deepEqual(nextVoterChange(state, keeping({})), promoted);
  });

  test('lets nobody go who has what a majority of those who stay lacks, unless it is away', () => {
    const state = stateOf({ wanted: { a: 1, b: 2 }, voters: { a: 1, b: 2, c: 3 } });
    const gone = { kind: 'enter', promote: [], demote: [3], remove: [] };
    assert.equal(nextVoterChange(state, keeping({ b: 5 })), undefined);
    assert.equal(nextVoterChange(state, keeping({ b: 'unknown' })), undefined);
    assert.equal(nextVoterChange(state, keeping({ b: 5, c: 'unknown' })), undefined, 'c may have it all');
    assert.deepEqual(nextVoterChange(state, keeping({ b: 5, c: 'away' })), gone);
    assert.deepEqual(nextVoterChange(state, keeping({ b: 'unknown', c: 'away' })), gone, 'c can give nobody anything');
    assert.deepEqual(nextVoterChange(state, keeping({ a: 5, b: 5, c: 5 })), gone, 'nobody has it');
    assert.deepEqual(nextVoterChange(state, keeping({})), gone);
  });

  test('takes a vote only where a majority of those who are left is there', () => {
    const two = stateOf({ wanted: { a: 1, b: 2 }, voters: { a: 1, b: 2, c: 3, d: 4 } });
    const take = (...demote: number[]) => ({ kind: 'enter', promote: [], demote, remove: [] });
    assert.deepEqual(nextVoterChange(two, keeping({})), take(3, 4));
    assert.deepEqual(nextVoterChange(two, keeping({ d: 'away' })), take(3, 4), 'who is away may go');
    assert.equal(nextVoterChange(two, keeping({ b: 'away' })), undefined, 'a could decide nothing alone');
    const one = stateOf({ wanted: { a: 1, b: 2 }, voters: { a: 1, b: 2, c: 3 } });
    assert.equal(nextVoterChange(one, keeping({ b: 'away' })), undefined);
    const coming = stateOf({ wanted: { a: 1, b: 2, e: 5 }, voters: { a: 1, b: 2, c: 3 }, learners: [5] });
    assert.equal(nextVoterChange(coming, { ...keeping({ b: 'away' }), isCaughtUp: () => false }), undefined);
    const both = { kind: 'enter', promote: [5], demote: [3], remove: [] };
    assert.deepEqual(nextVoterChange(coming, keeping({ b: 'away' })), both);
  });

  test('lets an old raft id go although its peer, which votes under a new one, lacks nothing', () => {
    const state = stateOf({ wanted: { a: 1, b: 7 }, voters: { a: 1, b: 2 }, learners: [7] });
    const known = keeping({ a: 5 });
    assert.deepEqual(nextVoterChange(state, known), { kind: 'enter', promote: [7], demote: [], remove: [2] });
  });

  test('adds learners one at a time, and gives those their votes together that have caught up', () => {
    const wanted = { a: 1, b: 2, c: 3 };
    const voters = { a: 1 };
    const next = (learners: number[], known = slow) => nextVoterChange(stateOf({ wanted, voters, learners }), known);
    assert.deepEqual(next([]), { kind: 'add-learner', raftId: 2 });
    assert.deepEqual(next([2]), { kind: 'add-learner', raftId: 3 });
    assert.equal(next([2, 3]), undefined);
    assert.deepEqual(next([2, 3], facts()), { kind: 'enter', promote: [2, 3], demote: [], remove: [] });
    assert.equal(nextVoterChange(stateOf({ wanted, voters: wanted }), facts()), undefined);
  });

  test('does nothing before the newest configuration is certified', () => {
    const uncertified = facts({ isCertified: false });
    const joint = stateOf({ wanted: { a: 1 }, voters: { a: 1 }, isJoint: true });
    assert.equal(nextVoterChange(joint, uncertified), undefined);
    assert.deepEqual(nextVoterChange(joint, facts()), { kind: 'leave' });
    const growing = stateOf({ wanted: { a: 1, b: 2 }, voters: { a: 1 } });
    assert.equal(nextVoterChange(growing, uncertified), undefined);
    const shrunk = stateOf({ wanted: { a: 1 }, voters: { a: 1 }, learners: [2] });
    assert.equal(nextVoterChange(shrunk, uncertified), undefined, 'who lost its vote may have to sign for that');
  });

  test('drops learners that are to vote no more', () => {
    const state = stateOf({ wanted: { a: 1 }, voters: { a: 1 }, learners: [9] });
    assert.deepEqual(nextVoterChange(state, facts()), { kind: 'remove-learner', raftId: 9 });
  });

  test('takes votes at once, and together with those that are given', () => {
    const state = stateOf({ wanted: { a: 1, d: 4 }, voters: { a: 1, b: 2, c: 3 }, learners: [4] });
    assert.deepEqual(nextVoterChange(state, slow), { kind: 'enter', promote: [], demote: [2, 3], remove: [] });
    assert.deepEqual(nextVoterChange(state, facts()), { kind: 'enter', promote: [4], demote: [2, 3], remove: [] });
  });

  test('keeps a replaced voter until its successor has caught up, then changes both in one step', () => {
    const parts = { wanted: { a: 1, b: 2, d: 4 }, voters: { a: 1, b: 2 }, replaces: { d: 'b' } };
    assert.deepEqual(nextVoterChange(stateOf(parts), slow), { kind: 'add-learner', raftId: 4 });
    const state = stateOf({ ...parts, learners: [4] });
    assert.equal(nextVoterChange(state, slow), undefined);
    assert.deepEqual(nextVoterChange(state, facts()), { kind: 'enter', promote: [4], demote: [2], remove: [] });
  });

  test("puts a member's new raft id in the place of its old one in one step", () => {
    const parts = { wanted: { a: 1, b: 7 }, voters: { a: 1, b: 2 } };
    assert.deepEqual(nextVoterChange(stateOf(parts), slow), { kind: 'add-learner', raftId: 7 });
    const state = stateOf({ ...parts, learners: [7] });
    assert.equal(nextVoterChange(state, slow), undefined);
    assert.deepEqual(nextVoterChange(state, facts()), { kind: 'enter', promote: [7], demote: [], remove: [2] });
  });

  test('hands leadership over before the leader itself loses its vote', () => {
    const state = stateOf({ wanted: { b: 2, c: 3 }, voters: { a: 1, b: 2, c: 3 } });
    assert.deepEqual(nextVoterChange(state, facts()), { kind: 'hand-over', to: [2, 3] });
    assert.deepEqual(nextVoterChange(state, facts({ ownRaftId: 3 })), {
      kind: 'enter',
      promote: [],
      demote: [1],
      remove: [],
    });
  });

  test('lets the only voter give others their votes before it goes', () => {
    const parts = { wanted: { a: 1, b: 2 }, voters: { a: 1 }, replaces: { b: 'a' }, learners: [2] };
    assert.deepEqual(nextVoterChange(stateOf(parts), facts()), { kind: 'enter', promote: [2], demote: [], remove: [] });
    const both = stateOf({ wanted: { b: 2 }, voters: { a: 1, b: 2 } });
    assert.deepEqual(nextVoterChange(both, facts()), { kind: 'hand-over', to: [2] });
  });
});
