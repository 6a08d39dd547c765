// Certificates among real voters over an in-memory mesh: signed only after applying, by who agrees; collected by whoever
// leads, handed to everybody; what hostile peers send is dropped and counted.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { verifySignature } from '../../node/mesh/identity.ts';
import {
  type Certificate,
  certificateStatement,
  encodeConfigurationContext,
  isCertified,
} from '../../protocols/certificate.ts';
import {
  certificateAnswerSchema,
  certificateMessageBytesMax,
  certificateProtocol,
  certificateQuestionSchema,
} from '../../protocols/certificate-exchange.ts';
import { decode, encode, hashOf } from '../../protocols/codec.ts';
import { CertifiedList, certifiedFleet, identityOf, voterKey } from './certified-list.ts';
import { Fleet, type FleetOptions, peerName, until, type Voter } from './fleet.ts';

async function withFleet(options: FleetOptions, run: (fleet: Fleet) => Promise<void>): Promise<void> {
  const fleet = new Fleet({ ...options, certifies: true });
  try {
    await fleet.start();
    await run(fleet);
  } finally {
    await fleet.stop();
  }
}

function listOf({ machine }: Voter): CertifiedList {
  assert.ok(machine instanceof CertifiedList);
  return machine;
}

const others = (fleet: Fleet, leader: Voter): Voter[] => fleet.voters.filter((voter) => voter !== leader);

async function certifiedAt(voters: readonly Voter[], index: number): Promise<Certificate> {
  await until(() => voters.every((voter) => listOf(voter).certificates.has(index)));
  const certificate = voters[0] && listOf(voters[0]).certificateAt(index);
  assert.ok(certificate);
  return certificate;
}

test('a lone voter certifies what it applies', () =>
  withFleet({ voters: 1 }, async (fleet) => {
    const leader = await fleet.leader();
    const index = await fleet.propose(leader, 'mark');
    const { signatures } = await certifiedAt([leader], index);
    assert.deepEqual(
      signatures.map(({ raftId }) => raftId),
      [1],
    );
    const tail = await fleet.propose(leader, 'word');
    await until(() => listOf(leader).certifiedIndex() === tail);
  }));

test('a mark has its certificate on every voter, and so has the tail', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const index = await fleet.propose(leader, 'mark');
    const certificate = await certifiedAt(fleet.voters, index);
    assert.equal(certificate.chainHash, leader.machine.hashes.get(index));
    const voterSet = listOf(leader).voterSetBefore(index);
    assert.ok(voterSet && isCertified(voterSet, certifiedFleet, certificate, verifySignature));
    const tail = await fleet.propose(leader, 'word');
    await until(() => fleet.voters.every((voter) => listOf(voter).certifiedIndex() === tail));
    assert.equal(leader.consensus.status().droppedCertificates, 0);
  }));

test('a voter signs nothing before it has applied it, and at once then', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    await fleet.propose(leader, 'word');
    const followers = others(fleet, leader);
    await until(() => followers.every(({ machine }) => machine.words.length === 1));
    const gates = followers.map(({ machine }) => machine.gate.shut());
    const asked = new Map<string, number[]>();
    fleet.network.onSend = (to, protocol, message) => {
      if (protocol !== certificateProtocol || to === peerName(leader.raftId)) return;
      const question = decode(certificateQuestionSchema, message, certificateMessageBytesMax);
      const places = question.kind === 'sign' ? question.places.map((place) => place.index) : [];
      asked.set(to, [...(asked.get(to) ?? []), ...places]);
    };
    const index = await fleet.propose(leader, 'mark');
    await until(() => followers.every(({ raftId }) => asked.get(peerName(raftId))?.includes(index)));
    await nextTurn();
    assert.equal(listOf(leader).certificateAt(index), undefined, 'a majority has not applied it');
    const statement = certificateStatement(certifiedFleet, {
      ...{ generation: 0, index },
      chainHash: leader.machine.hashes.get(index) ?? '',
    });
    for (const follower of followers) {
      assert.ok(!listOf(follower).signed.some((bytes) => Buffer.compare(bytes, statement) === 0));
    }
    for (const { open } of gates) open();
    await certifiedAt(fleet.voters, index);
  }));

test('what a majority refuses is never certified at its own place, and what follows is', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    for (const follower of others(fleet, leader)) listOf(follower).refused.add('mark bad');
    const bad = await fleet.propose(leader, 'mark bad');
    const good = await fleet.propose(leader, 'mark good');
    await certifiedAt(fleet.voters, good);
    await until(() => others(fleet, leader).every((voter) => listOf(voter).judged.has(bad)));
    for (const voter of fleet.voters) {
      assert.equal(listOf(voter).certificateAt(bad), undefined);
      const { failure } = voter.consensus.status();
      assert.equal(failure?.code, voter === leader ? undefined : 'ledgers-differ', failure?.message);
    }
  }));

test('a leader that refuses asks nobody, and the others do not need it to refuse', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    listOf(leader).refused.add('mark bad');
    const bad = await fleet.propose(leader, 'mark bad');
    await until(() => listOf(leader).judged.has(bad));
    await nextTurn();
    assert.equal(listOf(leader).certificateAt(bad), undefined);
    const [next] = others(fleet, leader);
    assert.ok(next);
    await leader.consensus.transferLeadership([next.raftId]);
    await certifiedAt(others(fleet, leader), bad);
  }));

test('a voter that cannot tell yet answers once it can', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    for (const voter of fleet.voters) listOf(voter).undecided.add('mark slow');
    const index = await fleet.propose(leader, 'mark slow');
    await until(() => listOf(leader).judged.has(index));
    await nextTurn();
    assert.equal(listOf(leader).certificateAt(index), undefined);
    for (const voter of fleet.voters) listOf(voter).undecided.clear();
    await certifiedAt(fleet.voters, index);
  }));

test('a new leader collects what the one before it did not', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const rest = others(fleet, leader);
    for (const voter of fleet.voters) listOf(voter).undecided.add('mark late');
    const index = await fleet.propose(leader, 'mark late');
    await until(() => rest.every(({ machine }) => machine.applied >= index));
    for (const voter of fleet.voters) listOf(voter).undecided.clear();
    await fleet.unplug(leader.raftId);
    await certifiedAt(rest, index);
  }));

test('a voter that was away asks for the certificates that it missed', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const [absent, other] = others(fleet, leader);
    assert.ok(absent && other);
    fleet.network.cut(peerName(leader.raftId), peerName(absent.raftId));
    fleet.network.cut(peerName(other.raftId), peerName(absent.raftId));
    const index = await fleet.propose(leader, 'mark');
    await certifiedAt([leader, other], index);
    assert.equal(listOf(absent).certificateAt(index), undefined);
    fleet.network.heal(peerName(leader.raftId), peerName(absent.raftId));
    fleet.network.heal(peerName(other.raftId), peerName(absent.raftId));
    await certifiedAt([absent], index);
  }));

test('a voter that hears no leader asks other voters for certificates', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const [absent, other] = others(fleet, leader);
    assert.ok(absent && other);
    const index = await fleet.propose(leader, 'mark');
    await certifiedAt(fleet.voters, index);
    listOf(absent).certificates.clear();
    fleet.network.cut(peerName(leader.raftId), peerName(absent.raftId));
    await certifiedAt([absent], index);
  }));

const changeBy =
  (leader: Voter) =>
  (
    transition: 'automatic' | 'joint-explicit',
    steps: { kind: 'add-learner' | 'add-voter' | 'remove'; raftId: number }[],
  ): Promise<{ readonly index: number }> =>
    leader.consensus.changeVoters(
      {
        ...{ transition, steps },
        contextOf: (configuration) => {
          const raftIds = [...configuration.voters, ...configuration.votersOutgoing];
          return encodeConfigurationContext({ configuration, voters: [...new Set(raftIds)].map(identityOf) });
        },
      },
      { signal: AbortSignal.timeout(5_000) },
    );

test('a change of voters without its certificate is found in the log at the next start, and others are asked', () =>
  withFleet({ voters: 3, others: 1 }, async (fleet) => {
    const leader = await fleet.leader();
    const { index } = await changeBy(leader)('automatic', [{ kind: 'add-learner', raftId: 4 }]);
    const voters = fleet.voters.filter(({ raftId }) => raftId <= 3);
    await certifiedAt(voters, index);
    const [late] = voters.filter((voter) => voter !== leader);
    assert.ok(late);
    await certifiedAt(voters, await fleet.propose(leader, 'mark after it'));
    await fleet.unplug(late.raftId);
    listOf(late).putAway();
    await fleet.restart(late.raftId);
    await certifiedAt([late], index);
  }));

test('a leader asks the others for a certificate that it lacks, where nobody signs for it any more', () =>
  withFleet({ voters: 3, others: 1 }, async (fleet) => {
    const leader = await fleet.leader();
    const { index } = await changeBy(leader)('automatic', [{ kind: 'add-learner', raftId: 4 }]);
    const voters = fleet.voters.filter(({ raftId }) => raftId <= 3);
    await certifiedAt(voters, index);
    for (const voter of voters) listOf(voter).refusesAll = true;
    listOf(leader).certificates.delete(index);
    await certifiedAt([leader], index);
  }));

test('a change of voters is certified by the voters before it, both halves while joint', () =>
  withFleet({ voters: 3, others: 1 }, async (fleet) => {
    const leader = await fleet.leader();
    await fleet.bootstrap(fleet.voter(4));
    await fleet.voter(4).consensus.start();
    const leaving = others(fleet, leader).find(({ raftId }) => raftId <= 3);
    assert.ok(leaving);
    const change = changeBy(leader);
    const added = await change('automatic', [{ kind: 'add-learner', raftId: 4 }]);
    await certifiedAt([leader], added.index);
    await until(() => fleet.voter(4).machine.applied >= added.index);
    const entered = await change('joint-explicit', [
      { kind: 'add-voter', raftId: 4 },
      { kind: 'remove', raftId: leaving.raftId },
    ]);
    const entering = await certifiedAt(fleet.voters, entered.index);
    assert.ok(entering.signatures.every(({ raftId }) => raftId <= 3));
    assert.equal(listOf(leader).voterSetBefore(entered.index + 1)?.votersOutgoing.length, 3);
    const left = await change('automatic', []);
    const certificate = await certifiedAt([leader, fleet.voter(4), leaving], left.index);
    const voterSet = listOf(leader).voterSetBefore(left.index);
    assert.ok(voterSet && isCertified(voterSet, certifiedFleet, certificate, verifySignature));
    const after = await fleet.propose(leader, 'mark after');
    const { signatures } = await certifiedAt([leader, fleet.voter(4)], after);
    assert.ok(signatures.every(({ raftId }) => raftId !== leaving.raftId));
  }));

test('forged, foreign, oversized and mangled messages are dropped, counted and hurt nobody', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const index = await fleet.propose(leader, 'mark');
    const good = await certifiedAt([leader], index);
    for (const voter of fleet.voters) listOf(voter).undecided.add('mark open');
    const open = await fleet.propose(leader, 'mark open');
    const head = { version: 1, fleet: certifiedFleet };
    const stranger = fleet.network.mesh('stranger');
    const place = { generation: 0, index: open, chainHash: leader.machine.hashes.get(open) ?? '' };
    const signatureBy = (raftId: number, key: number, what = place) => ({
      raftId,
      signature: voterKey(key).sign(certificateStatement(certifiedFleet, what)),
    });
    const forged = (raftId: number, key: number) => ({
      ...{ version: 1, ...place },
      signatures: [signatureBy(raftId, key)],
    });
    const other = { ...place, chainHash: hashOf('other') };
    const messages: Uint8Array[] = [
      encode({ ...head, kind: 'take', certificates: [forged(9, 9)] }),
      encode({ ...head, kind: 'take', certificates: [forged(1, 9)] }),
      encode({ ...head, kind: 'take', certificates: [forged(1, 1)] }),
      encode({ ...head, kind: 'take', certificates: [{ ...good, index: open }] }),
      encode({
        ...{ ...head, kind: 'take' },
        certificates: [{ ...forged(1, 1), signatures: [signatureBy(1, 1), signatureBy(1, 1)] }],
      }),
      encode({
        ...{ ...head, kind: 'take' },
        certificates: [{ ...forged(1, 9), signatures: [1, 2, 3].map((id) => signatureBy(id, 9)) }],
      }),
      encode({
        ...{ ...head, kind: 'take' },
        certificates: [{ version: 1, ...other, signatures: [1, 2, 3].map((id) => signatureBy(id, id, other)) }],
      }),
      encode({ ...head, fleet: hashOf('other'), kind: 'give', indexes: [], after: 0 }),
      new Uint8Array(certificateMessageBytesMax + 1),
      new Uint8Array([1, 2, 3]),
    ];
    for (const message of messages) {
      const stream = await stranger.open(peerName(leader.raftId), certificateProtocol, {
        signal: AbortSignal.timeout(5_000),
      });
      await stream.send(message);
      await assert.rejects(stream.receive({ signal: AbortSignal.timeout(5_000) }), { code: 'stream-closed' });
    }
    assert.equal(leader.consensus.status().droppedCertificates, 7);
    assert.equal(listOf(leader).certificateAt(open), undefined);
    for (const voter of fleet.voters) listOf(voter).undecided.clear();
    await certifiedAt(fleet.voters, open);
  }));

test('anyone may ask for signatures and certificates, and is told no more than what is so', () =>
  withFleet({ voters: 3 }, async (fleet) => {
    const leader = await fleet.leader();
    const index = await fleet.propose(leader, 'mark');
    const certificate = await certifiedAt(fleet.voters, index);
    const signal = AbortSignal.timeout(5_000);
    const stranger = fleet.network.mesh('stranger');
    const stream = await stranger.open(peerName(leader.raftId), certificateProtocol, { signal });
    const ask = async (question: object) => {
      await stream.send(encode({ version: 1, fleet: certifiedFleet, ...question }));
      return decode(
        certificateAnswerSchema,
        (await stream.receive({ signal })) ?? new Uint8Array(),
        certificateMessageBytesMax,
      );
    };
    const given = await ask({ kind: 'give', indexes: [index, 99], after: index });
    assert.deepEqual(given, { kind: 'certificates', certificates: [certificate] });
    const { generation, chainHash } = certificate;
    const places = [
      { generation, index, chainHash: hashOf('not this one') },
      { generation: 5, index, chainHash },
      { generation, index, chainHash },
    ];
    for (const place of places.slice(0, 2)) {
      await stream.send(encode({ version: 1, fleet: certifiedFleet, kind: 'sign', places: [place] }));
    }
    const answer = await ask({ kind: 'sign', places: places.slice(2) });
    assert.ok(answer.kind === 'shares' && answer.shares.length === 1);
    const signature = answer.shares[0]?.signature ?? new Uint8Array();
    const statement = certificateStatement(certifiedFleet, { generation, index, chainHash });
    assert.ok(verifySignature(identityOf(leader.raftId).key, statement, signature));
    await stream.close();
  }));
