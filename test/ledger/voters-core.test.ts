// The rules about who is to vote, who does, and what becomes of a peer that was removed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { voterOf } from '../../node/ledger/voters-core.ts';
import { allottedKeptMax, type LedgerState } from '../../protocols/ledger-state.ts';
import { inviteHash, joining } from '../helpers/invites.ts';
import {
  adoptPolicy,
  commit,
  createLedgerScript,
  deployToPlan,
  type LedgerScript,
  order,
  peerIdOf,
  voterKeyOf,
} from '../helpers/ledger-script.ts';

const member = (script: LedgerScript, name: string) => script.state().members[peerIdOf(name)];
const facts = (name: string, voterKey: string) => ({
  ...{ peer: peerIdOf(name), addresses: [], system: 'x86_64-linux' },
  voterKey,
});
const lastNotice = ({ notices }: LedgerState) => notices.at(-1)?.text;

/** Voters n1 (founder), n2 and n3 in force; web1 and web2 take part. */
function three(): LedgerScript {
  const script = createLedgerScript();
  for (const name of ['n2', 'n3']) script.join(name, ['voter']);
  for (const name of ['web1', 'web2']) script.join(name);
  script.configure({ voters: [1, 2, 3] });
  return script;
}

test('voterAdded() makes a voter of a member, which gets its raft id with the key that it tells', () => {
  const script = three();
  script.accept('voter-added', { peer: peerIdOf('web1'), replaces: null });
  assert.deepEqual([member(script, 'web1')?.roles, member(script, 'web1')?.raftId], [['member', 'voter'], 0]);
  script.accept('member-updated', facts('web1', voterKeyOf('web1')));
  assert.equal(member(script, 'web1')?.raftId, 4);
  assert.equal(script.state().nextRaftId, 5);
});

test('voterAdded() refuses strangers, voters, monitors and an eighth', () => {
  const script = three();
  script.join('eye', ['monitor']);
  script.refuse('member-unknown', 'voter-added', { peer: peerIdOf('nobody'), replaces: null });
  script.refuse('voter-already', 'voter-added', { peer: peerIdOf('n2'), replaces: null });
  script.refuse('voter-unfit', 'voter-added', { peer: peerIdOf('eye'), replaces: null });
  script.refuse('voter-unknown', 'voter-added', { peer: peerIdOf('web1'), replaces: peerIdOf('web2') });
  for (const name of ['n4', 'n5', 'n6', 'n7']) script.join(name, ['voter']);
  const told = script.refuse('too-many-voters', 'voter-added', { peer: peerIdOf('web1'), replaces: null });
  assert.match(told, /has 7 voters: 7 is the limit/);
  script.accept('voter-added', { peer: peerIdOf('web1'), replaces: peerIdOf('n7') });
  script.refuse('voter-already', 'voter-added', { peer: peerIdOf('web2'), replaces: peerIdOf('n7') });
});

test('voterRemoved() takes the role and never the last vote in force', () => {
  const script = three();
  script.accept('voter-removed', { peer: peerIdOf('n3') });
  assert.deepEqual(member(script, 'n3')?.roles, ['member']);
  script.refuse('voter-unknown', 'voter-removed', { peer: peerIdOf('n3') });
  script.accept('voter-removed', { peer: peerIdOf('n2') });
  script.accept('voter-added', { peer: peerIdOf('web1'), replaces: null });
  script.accept('member-updated', facts('web1', voterKeyOf('web1')));
  const told = script.refuse('last-voter', 'voter-removed', { peer: peerIdOf('n1') });
  assert.match(told, /'n1' is the fleet's only voter/);
  script.refuse('last-voter', 'member-removed', { peer: peerIdOf('n1') });
  script.configure({ voters: [1, 4] });
  script.accept('voter-removed', { peer: peerIdOf('n1') });
});

test('voterRemoved() takes a role whose vote is not in force yet, and never the last role', () => {
  const script = createLedgerScript();
  script.join('web1', ['voter']);
  script.accept('member-updated', facts('n1', voterKeyOf('n1 again')));
  assert.deepEqual([member(script, 'n1')?.raftId, script.state().voters], [3, [1]]);
  script.accept('voter-removed', { peer: peerIdOf('web1') });
  assert.deepEqual(member(script, 'web1')?.roles, ['member']);
  script.refuse('last-voter', 'voter-removed', { peer: peerIdOf('n1') });
  script.refuse('last-voter', 'member-removed', { peer: peerIdOf('n1') });
});

test('voterAdded() gives a vote that is only being taken back as it is, and another one once it is taken', () => {
  const script = three();
  const take = (): void => {
    script.accept('voter-removed', { peer: peerIdOf('n3') });
    assert.deepEqual([member(script, 'n3')?.raftId, member(script, 'n3')?.voterKey], [0, undefined]);
  };
  const giveBack = (): (string | number | undefined)[] => {
    script.accept('voter-added', { peer: peerIdOf('n3'), replaces: null });
    script.accept('member-updated', facts('n3', voterKeyOf('n3')));
    return [member(script, 'n3')?.raftId, member(script, 'n3')?.voterKey];
  };
  take();
  assert.deepEqual(giveBack(), [3, voterKeyOf('n3')], 'in force');
  take();
  script.configure({ voters: [1, 2], votersOutgoing: [1, 2, 3], learnersNext: [3] });
  assert.deepEqual(giveBack(), [3, voterKeyOf('n3')], 'in the joint half');
  take();
  script.configure({ voters: [1, 2], learners: [3] });
  assert.deepEqual(giveBack(), [3, voterKeyOf('n3')], 'as a learner');
  take();
  script.configure({ voters: [1, 2] });
  assert.equal(giveBack()[0], 4, 'consensus knows it no more');
});

test('configured() ends the vote of a voter once its successor votes, and tells who votes', () => {
  const script = three();
  script.accept('voter-added', { peer: peerIdOf('web1'), replaces: peerIdOf('n3') });
  script.accept('member-updated', facts('web1', voterKeyOf('web1')));
  script.configure({ voters: [1, 2, 4], votersOutgoing: [1, 2, 3] });
  assert.deepEqual(member(script, 'n3')?.roles, ['voter'], 'joint: nothing has ended');
  script.configure({ voters: [1, 2, 4] });
  assert.deepEqual(member(script, 'n3')?.roles, ['member']);
  assert.equal(member(script, 'web1')?.replaces, undefined);
  assert.equal(lastNotice(script.state()), 'n1, n2, web1 vote now');
  script.configure({ voters: [1, 4] });
  assert.match(lastNotice(script.state()) ?? '', /^n1, web1 vote now: with two voters the loss of either stops/);
});

test('memberUpdated() allots a new raft id to a voter with a new key and says what that means', () => {
  const script = three();
  script.accept('member-updated', facts('n2', voterKeyOf('n2')));
  assert.equal(member(script, 'n2')?.raftId, 2);
  script.accept('member-updated', facts('n2', voterKeyOf('n2 again')));
  assert.equal(member(script, 'n2')?.raftId, 4);
  assert.match(lastNotice(script.state()) ?? '', /^n2 lost what it knew as a voter/);
  assert.deepEqual(script.state().voters, [1, 2, 3]);
});

test('memberUpdated() forgets no raft id that somebody speaks under or is to, however many others one member asks for', () => {
  const script = three();
  script.join('n4', ['voter']);
  script.join('n5', ['voter']);
  script.configure({ voters: [1, 2, 3], learners: [4] });
  const askFor = (count: number): void => {
    for (let n = 0; n < count; n += 1) script.accept('member-updated', facts('n3', voterKeyOf(`n3 ${n} of ${count}`)));
  };
  const peerOf = (raftId: number | undefined): string | undefined => voterOf(script.state(), raftId ?? 0)?.peer;
  askFor(allottedKeptMax - script.state().allotted.length);
  script.accept('member-updated', facts('n4', voterKeyOf('n4 again')));
  script.accept('member-updated', facts('n5', voterKeyOf('n5 again')));
  assert.equal(peerOf(5), undefined, 'nobody speaks under it, and its member asks for another');
  askFor(2 * allottedKeptMax);
  assert.equal(script.state().allotted.length, allottedKeptMax);
  const names = ['n1', 'n2', 'n3', 'n4'];
  assert.deepEqual([1, 2, 3, 4].map(peerOf), names.map(peerIdOf), 'voters and a learner');
  for (const name of [...names, 'n5']) assert.equal(peerOf(member(script, name)?.raftId), peerIdOf(name));
});

test('memberRemoved() drops a member at once and a voter once consensus counts on it no more', () => {
  const script = three();
  script.accept('member-removed', { peer: peerIdOf('web1') });
  assert.equal(member(script, 'web1'), undefined);
  script.accept('member-removed', { peer: peerIdOf('n3') });
  assert.deepEqual([member(script, 'n3')?.leaving, member(script, 'n3')?.roles], [true, ['member']]);
  script.refuse('member-unknown', 'member-removed', { peer: peerIdOf('n3') });
  script.refuse('member-unknown', 'voter-added', { peer: peerIdOf('n3'), replaces: null });
  script.accept('member-updated', facts('n3', voterKeyOf('n3')));
  assert.deepEqual([member(script, 'n3')?.leaving, member(script, 'n3')?.raftId], [true, 0]);
  script.configure({ voters: [1, 2], votersOutgoing: [1, 2, 3] });
  assert.ok(member(script, 'n3'));
  script.configure({ voters: [1, 2], learners: [3] });
  assert.ok(member(script, 'n3'), 'it may have to sign that it votes no more');
  script.configure({ voters: [1, 2] });
  assert.equal(member(script, 'n3'), undefined);
  assert.deepEqual(
    script.state().removedPeers.map(({ name, peer }) => [name, peer]),
    ['web1', 'n3'].map((name) => [name, peerIdOf(name)]),
  );
});

test('memberRemoved() lets the name be invited again and never the raft id be used again', () => {
  const script = three();
  script.accept('member-removed', { peer: peerIdOf('n3') });
  script.configure({ voters: [1, 2] });
  script.join('n3', ['voter']);
  assert.equal(member(script, 'n3')?.raftId, 4);
  assert.deepEqual(script.state().removedPeers, []);
});

test('memberRemoved() drops the invites that lead to the removed name', () => {
  const script = three();
  const expiresAtMs = script.state().timeMs + 60_000;
  const second = { keyHash: inviteHash('second'), name: 'web3', site: 'home', roles: ['member' as const], expiresAtMs };
  script.accept('invite-opened', second);
  script.join('web3');
  script.accept('member-removed', { peer: peerIdOf('web3') });
  const { fleet } = script.state();
  script.refuse('invite-unknown', 'member-joined', joining(fleet, 'second', facts('evil', voterKeyOf('evil'))));
  script.refuse('invite-unknown', 'member-joined', joining(fleet, 'secret of web3', facts('web3', voterKeyOf('web3'))));
});

test('memberRemoved() ends what was to happen on the host, each with its reason', () => {
  const script = three();
  commit(script, 'one');
  adoptPolicy(script, { auto: ['web1', 'web2'] });
  const { task } = deployToPlan(script, ['web1', 'web2']);
  order(script, task, 'web1');
  const head = script.state().head ?? '';
  const preparing = script.accept('deploy-requested', {
    ...{ revision: head, selector: 'web1', hosts: ['web1'], keepGoing: false },
  });
  script.accept('member-removed', { peer: peerIdOf('web1') });
  const child = (id: string) => script.state().tasks[id];
  assert.equal(child(`${task}/web1`)?.outcome, 'unknown');
  assert.match(child(`${task}/web1`)?.reason?.text ?? '', /removed from the fleet while its order was out/);
  assert.equal(child(`${task}/web2`)?.outcome, null, 'the others go on');
  assert.equal(child(`${preparing}/web1`)?.outcome, 'cancelled');
  assert.equal(script.state().orders.web1, undefined);
  script.accept('member-removed', { peer: peerIdOf('web2') });
  assert.equal(child(task)?.status, 'failed');
  assert.match(child(task)?.reason?.text ?? '', /web1 ended in an unknown way: web1 was removed/);
});
