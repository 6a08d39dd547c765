// What a peer keeps to prove its ledger: the same in memory as after a restart, whatever happens between the disk and the memory.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCertificates } from '../../node/ledger/certificates.ts';
import { MemoryStore } from '../consensus/memory-store.ts';
import { createLedgerScript, hash } from '../helpers/ledger-script.ts';
import { logger } from '../mesh/fixtures.ts';

async function open(store: MemoryStore, keeps: () => ReadonlySet<number>) {
  const { genesis } = createLedgerScript();
  const certificates = createCertificates({
    ...{ store, logger, genesis, generations: [], keeps },
    ...{ verifySignature: () => true, certifiedOf: async () => undefined, onCertified: () => {} },
  });
  await certificates.load();
  return certificates;
}

const certifiedAt = (index: number) => ({
  certificate: {
    ...{ version: 1 as const, generation: 0, index, chainHash: hash(`entry ${index}`) },
    signatures: [{ raftId: 1, signature: new Uint8Array(64) }],
  },
});

test('prepare() lets the same certificates leave the disk and the memory, whatever is applied between', async () => {
  const store = new MemoryStore();
  let orders = new Set([5]);
  const certificates = await open(store, () => orders);
  const first = certificates.prepare(certifiedAt(5));
  await store.batch(first.operations, { sync: true });
  first.believe();
  const next = certificates.prepare(certifiedAt(9));
  await store.batch(next.operations, { sync: true });
  orders = new Set([9]);
  next.believe();
  const reopened = await open(store, () => orders);
  for (const index of [5, 9]) {
    assert.ok(reopened.certificateAt(index), `${index} is on the disk`);
    assert.deepEqual(certificates.certificateAt(index), reopened.certificateAt(index));
  }
});

test('prepare() of several at a time keeps the newest in memory when another has made the same one needless', async () => {
  const store = new MemoryStore();
  const certificates = await open(store, () => new Set());
  const [first, ...rest] = [5, 9, 12].map((index) => () => certificates.prepare(certifiedAt(index)));
  first?.().believe();
  for (const { believe } of rest.map((prepare) => prepare())) believe();
  assert.deepEqual(
    [5, 9, 12].map((index) => certificates.certificateAt(index) !== undefined),
    [false, true, true],
  );
  assert.equal(certificates.certifiedIndex(), 12);
});
