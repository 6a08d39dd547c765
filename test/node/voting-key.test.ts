// The key that a voter certifies with, and when it ends.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isVoteOver } from '../../node/wiring/vote-plan.ts';
import { createVotingKey } from '../../node/wiring/voting-key.ts';
import { createLedgerScript, type LedgerScript, peerIdOf } from '../helpers/ledger-script.ts';

const own = { peer: peerIdOf('n2'), raftId: 2 };

/** n2 has voted beside n1 and n3, and its vote is taken. */
function removed(): LedgerScript {
  const script = createLedgerScript();
  for (const name of ['n2', 'n3']) script.join(name, ['voter']);
  script.configure({ voters: [1, 2, 3] });
  script.accept('voter-removed', { peer: own.peer });
  return script;
}

test('isVoteOver() is false until no half of the voters has the raft id', () => {
  const script = createLedgerScript();
  assert.equal(isVoteOver(script.state(), own), false, 'nothing is known of it yet');
  script.join('n2', ['voter']);
  assert.equal(isVoteOver(script.state(), own), false);
  const late = removed();
  assert.equal(isVoteOver(late.state(), own), false, 'its word may be needed');
  late.configure({ voters: [1, 3], votersOutgoing: [1, 2, 3] });
  assert.equal(isVoteOver(late.state(), own), false);
  late.configure({ voters: [1, 3] });
  assert.equal(isVoteOver(late.state(), own), true);
  assert.equal(isVoteOver(late.state(), { peer: own.peer, raftId: 4 }), false, 'a later vote of the same peer');
});

test('createVotingKey() signs until the change that ends the vote is certified', () => {
  const script = removed();
  const certified = new Set<number>();
  const certification = () => ({ certificateAt: (index: number) => (certified.has(index) ? {} : undefined) });
  const ledger = { state: script.state, certification };
  const sign = createVotingKey(own)({ identity: { sign: () => new Uint8Array([1]) }, ledger });
  assert.ok(sign(new Uint8Array()));
  script.configure({ voters: [1, 3], votersOutgoing: [1, 2, 3] });
  assert.ok(sign(new Uint8Array()));
  certified.add(script.state().voterSet.index);
  assert.ok(sign(new Uint8Array()), 'it is needed to leave the joint configuration');
  script.configure({ voters: [1, 3] });
  assert.ok(sign(new Uint8Array()), 'the voters before the change certify it');
  certified.add(script.state().voterSet.index);
  assert.equal(sign(new Uint8Array()), undefined);
});
