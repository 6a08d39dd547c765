// Collecting signatures: whose count, how often, and when they are enough.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Collector, type ShareResult } from '../../node/consensus/certifier-core.ts';
import { verifySignature } from '../../node/mesh/identity.ts';
import {
  type CertifiedPlace,
  certificateStatement,
  isCertified,
  type VoterIdentity,
  type VoterSet,
} from '../../protocols/certificate.ts';
import { hashOf } from '../../protocols/codec.ts';
import { certifiedFleet, identityOf, peerOf, voterKey } from './certified-list.ts';

const place: CertifiedPlace = { generation: 0, index: 7, chainHash: hashOf('entry 7') };
const identities = (...raftIds: number[]): VoterIdentity[] => raftIds.map(identityOf);
const setOf = (voters: number[], outgoing: number[] = []): VoterSet => ({
  ...{ generation: 0, index: 3 },
  ...{ voters: identities(...voters), votersOutgoing: identities(...outgoing) },
});
const signatureBy = (raftId: number, what = place): Uint8Array =>
  voterKey(raftId).sign(certificateStatement(certifiedFleet, what));

function collecting(voterSet: VoterSet): { collector: Collector; share(raftId: number, key?: number): ShareResult } {
  const collector = new Collector(certifiedFleet, verifySignature);
  collector.begin({ place, voterSet }, 0);
  const share = (raftId: number, key = raftId): ShareResult =>
    collector.share({ raftId, index: place.index, signature: signatureBy(key) });
  return { collector, share };
}

describe('Collector', () => {
  test('share() makes a certificate of a majority, sorted by voter', () => {
    const voterSet = setOf([1, 2, 3]);
    const { share } = collecting(voterSet);
    assert.equal(share(3).kind, 'open');
    const result = share(1);
    assert.ok(result.kind === 'certified');
    assert.deepEqual(
      result.certificate.signatures.map(({ raftId }) => raftId),
      [1, 3],
    );
    assert.ok(isCertified(voterSet, certifiedFleet, result.certificate, verifySignature));
  });

  test('share() certifies at once where one voter is the majority', () => {
    assert.equal(collecting(setOf([1])).share(1).kind, 'certified');
  });

  test('share() does not count who is no voter, nor a signature by another key or of another place', () => {
    const { collector, share } = collecting(setOf([1, 2, 3]));
    assert.equal(share(9).kind, 'forged');
    assert.equal(share(2, 9).kind, 'forged');
    for (const other of [{ index: 8 }, { generation: 1 }, { chainHash: hashOf('another') }]) {
      const signature = signatureBy(1, { ...place, ...other });
      assert.equal(collector.share({ raftId: 1, index: place.index, signature }).kind, 'forged');
    }
    assert.equal(share(1).kind, 'open', 'what was forged in its name does not spend its turn');
  });

  test('share() counts a voter once', () => {
    const { share } = collecting(setOf([1, 2, 3]));
    for (const key of [1, 1, 9]) assert.equal(share(1, key).kind, 'open');
    const result = share(2);
    assert.ok(result.kind === 'certified');
    assert.deepEqual(result.certificate.signatures[0], { raftId: 1, signature: signatureBy(1) });
  });

  test('share() wants both halves of a joint set', () => {
    const { share } = collecting(setOf([4, 5, 6], [1, 2, 3]));
    for (const raftId of [4, 5, 6, 1]) assert.equal(share(raftId).kind, 'open');
    assert.equal(share(2).kind, 'certified');
    const other = collecting(setOf([4, 5, 6], [1, 2, 3]));
    for (const raftId of [1, 2, 3, 4]) assert.equal(other.share(raftId).kind, 'open');
  });

  test('share() drops what was never asked for and what comes late', () => {
    const { collector, share } = collecting(setOf([1]));
    assert.equal(collector.share({ raftId: 1, index: 8, signature: signatureBy(1) }).kind, 'open');
    assert.equal(share(1).kind, 'certified');
    assert.equal(share(1).kind, 'open');
  });

  test('asks() asks each voter but this one, and again after a second who has not answered', () => {
    const { collector, share } = collecting(setOf([1, 2, 3], [1, 4]));
    assert.deepEqual([...collector.asks(0, 1).keys()], [2, 3, 4].map(peerOf));
    assert.deepEqual([...collector.asks(999, 1).keys()], []);
    share(2);
    assert.deepEqual([...collector.asks(1_000, 1).keys()], [3, 4].map(peerOf));
  });

  test('beginTail() has one tail under way, which gives way after its patience', () => {
    const collector = new Collector(certifiedFleet, verifySignature);
    const voterSet = setOf([1, 2, 3]);
    collector.beginTail({ place, voterSet }, 0);
    assert.equal(collector.hasTail(1_999), true);
    assert.equal(collector.hasTail(2_000), false);
    collector.beginTail({ place: { ...place, index: 9 }, voterSet }, 2_000);
    assert.deepEqual([collector.has(7), collector.has(9), collector.hasTail(2_000)], [false, true, true]);
  });

  test('begin() is bounded by what the caller asks of full', () => {
    const collector = new Collector(certifiedFleet, verifySignature);
    let index = 10;
    for (; !collector.full; index += 1) collector.begin({ place: { ...place, index }, voterSet: setOf([1, 2]) }, 0);
    assert.equal(index, 10 + 256);
  });
});
