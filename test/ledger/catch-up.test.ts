// Members that were away: for long, over changes of voters, without any voter, and with little on the wire.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Mesh } from '../../node/interfaces.ts';
import { encode } from '../../protocols/codec.ts';
import { entryChainHash } from '../../protocols/consensus-record.ts';
import { entryPullProtocol } from '../../protocols/entry-pull.ts';
import { createCertifiedChain } from '../helpers/certified-chain.ts';
import { caughtUp, createLedgerFleet, diskFull, letGo, patient } from '../helpers/ledger-peers.ts';
import { peerIdOf } from '../helpers/ledger-script.ts';

/** A mesh of its own keeps voters, and members of one site, connected. */
async function connect(mesh: Mesh, peer: string): Promise<void> {
  await mesh.open(peer, '/hello', { signal: patient() }).catch(() => undefined);
}

test('createLedger() catches up from another member where no voter answers, checkpoint included', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  const web2 = await fleet.add('web2', 'voters');
  for (const name of ['web1', 'web2', 'web3']) await fleet.enrol(name);
  await caughtUp(web1, n1);
  await caughtUp(web2, n1);
  await web2.stop();
  await fleet.fill(5);
  const index = await letGo(fleet, n1);
  await caughtUp(web1, n1);
  fleet.network.kill(n1.peer);
  await web2.start();
  await connect(web2.mesh, web1.peer);
  await caughtUp(web2, web1);
  const contacts = [{ peer: web2.peer, addresses: [], raftId: 0 }];
  const web3 = await fleet.add('web3', 'voters', { contacts });
  await connect(web3.mesh, web2.peer);
  await caughtUp(web3, web2);
  assert.ok(web3.ledger.state().index > index);
  fleet.network.revive(n1.peer);
  for (const { mesh } of [web1, web2, web3]) await connect(mesh, n1.peer);
  await fleet.fill(1);
  await Promise.all([web1, web2, web3].map((member) => caughtUp(member, n1)));
});

test('createLedger() catches up after years: several joint changes, each forgotten by the logs', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1');
  for (const name of ['n2', 'n3', 'n4', 'n5']) await fleet.enrol(name, ['voter']);
  await caughtUp(web1, n1);
  await web1.stop();
  await fleet.change([1, 2, 3]);
  await fleet.fill(3);
  await fleet.change([3, 4, 5]);
  await letGo(fleet, n1);
  await fleet.change([1, 4, 5]);
  await fleet.fill(3);
  await web1.start();
  await caughtUp(web1, n1);
  assert.deepEqual(web1.ledger.certification().voterSetBefore(n1.ledger.state().index + 1), n1.ledger.state().voterSet);
  const web2 = await fleet.add('web2', 'voters');
  await caughtUp(web2, n1);
  // It has every proof itself, from genesis on.
  const proofs = await web2.store.range({ gte: 'configuration/', lt: 'configuration0' });
  const configurations = fleet.consensus.entries.filter(({ type }) => type === 'configuration');
  assert.equal(proofs.length, configurations.length);
});

test('meshMembers() names voters that somebody has proven, where the ledger itself cannot follow', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1');
  await caughtUp(web1, n1);
  await web1.stop();
  for (const name of ['n2', 'n3']) await fleet.enrol(name, ['voter']);
  await fleet.change([2, 3]);
  await letGo(fleet, n1);
  fleet.network.onMessage = ({ bytes, protocol }) => {
    const isState = protocol === entryPullProtocol && Buffer.from(bytes).includes('checkpoint');
    return isState ? new Uint8Array(1) : bytes;
  };
  const { promise, resolve } = Promise.withResolvers<void>();
  t.after(web1.ledger.onVoterSetProven(() => resolve()));
  await web1.start();
  await promise;
  assert.ok(web1.ledger.meshMembers().isMember(peerIdOf('n3')));
  assert.ok(web1.ledger.state().index < n1.ledger.state().index);
});

test('createLedger() follows an honest voter whose stream goes on with a checkpoint after a change of voters', async (t) => {
  const chain = createCertifiedChain();
  chain.enrol('v2', 'v3');
  chain.change([2, 3]);
  chain.fill(2);
  const pages = chain.pages(2);
  const changes = chain.change([1, 2]);
  chain.fill(5);
  chain.checkpoint();
  const { proof, data, index } = chain.madeCheckpoint();
  const fleet = await createLedgerFleet(t);
  const voter = fleet.network.join(peerIdOf('n1'));
  let streams = 0;
  voter.handle(entryPullProtocol, async (stream) => {
    streams += 1;
    await stream.receive();
    // Its log goes while it serves these pages.
    for (const page of pages) await stream.send(encode(page));
    await stream.send(encode({ kind: 'configurations', proofs: changes.map(chain.proof) }));
    await stream.send(encode({ kind: 'checkpoint', ...proof, bytes: data.byteLength }));
    await stream.send(encode({ kind: 'checkpoint-part', data }));
    await stream.receive();
  });
  await voter.start();
  const web1 = await fleet.add('web1', 'voters');
  await web1.ledger.waitFor((state) => state.index >= index, AbortSignal.timeout(5_000));
  assert.equal(streams, 1);
  assert.deepEqual(web1.complaints, []);
});

test('createLedger() does not forget what is certified, whatever is left of its entries', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.fill(10);
  await caughtUp(web1, n1);
  web1.store.onBatch = (operations) => {
    if (operations.some(({ key }) => key.startsWith('snapshot/'))) diskFull();
  };
  await web1.stop();
  web1.store.onBatch = () => undefined;
  // Entries that were never certified, as if somebody had put them there.
  const last = fleet.consensus.entries.at(-1) ?? assert.fail();
  const more = { index: last.index + 1, term: 1, type: 'normal' as const, data: new Uint8Array(0) };
  const forged = encode({ ...more, chainHash: entryChainHash(last.chainHash, more) });
  await web1.store.batch([{ type: 'put', key: `entry/${`${more.index}`.padStart(16, '0')}`, value: forged }], {
    sync: true,
  });
  fleet.network.kill(n1.peer);
  await web1.start();
  assert.equal(web1.ledger.state().index, last.index, 'what no certificate covers is not replayed');
  assert.equal(web1.ledger.certification().certifiedIndex(), last.index);
  fleet.network.revive(n1.peer);
  await fleet.fill(1);
  await caughtUp(web1, n1);
});

test('createLedger() catches up with no more than 400 bytes beyond the entries themselves', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  for (const name of ['n2', 'n3', 'n4', 'n5']) await fleet.enrol(name, ['voter']);
  await fleet.change([1, 2, 3, 4, 5]);
  fleet.consensus.signers = [1, 3, 5];
  await fleet.fill(1);
  await caughtUp(web1, n1);
  await web1.stop();
  await fleet.fill(20);
  const passed: { readonly bytes: number; readonly entries: number }[] = [];
  fleet.network.onMessage = ({ bytes, protocol }) => {
    if (protocol === entryPullProtocol) passed.push({ bytes: bytes.byteLength, entries: 0 });
    return bytes;
  };
  await web1.start();
  await caughtUp(web1, n1);
  const entryBytes = fleet.consensus.entries.slice(-20).reduce((sum, { data }) => sum + data.byteLength, 0);
  const allBytes = passed.reduce((sum, { bytes }) => sum + bytes, 0);
  t.diagnostic(`${allBytes - entryBytes} bytes beyond ${entryBytes} of 20 entries`);
  assert.ok(allBytes - entryBytes <= 400, `${allBytes - entryBytes} bytes`);
});
