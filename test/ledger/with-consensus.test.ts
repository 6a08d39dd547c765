// The ledger on the real consensus: one voter and a member that follows it, over a restart.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { bootstrapLog, type Consensus, createConsensus } from '../../node/consensus/index.ts';
import { systemClock } from '../../node/host/clock.ts';
import { readGenesis } from '../../node/ledger/index.ts';
import { verifySignature } from '../../node/mesh/identity.ts';
import { MemoryStore } from '../consensus/memory-store.ts';
import { MemoryWitness } from '../consensus/memory-witness.ts';
import { createLedgerFleet, createTestLogger, type LedgerPeer, patient } from '../helpers/ledger-peers.ts';
import { peerIdOf } from '../helpers/ledger-script.ts';
import { voterIdentityOf } from '../helpers/voter-keys.ts';

test('createLedger() is the state machine of consensus, over restarts, and a member follows', async (t) => {
  const fleet = await createLedgerFleet(t);
  // n1 runs on the real consensus instead of the double.
  const n1 = await fleet.add('n1', 'consensus');
  fleet.consensus.detach(n1.ledger);
  const disk = { store: new MemoryStore(), witness: new MemoryWitness() };
  const { state } = readGenesis(fleet.genesis);
  const configuration = { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
  await bootstrapLog(disk, { index: 1, term: state.term, chainHash: state.chainHash, configuration });
  let consensus = await startConsensus(n1);
  const web1 = await fleet.add('web1', 'voters');
  await update(n1, 1);
  await web1.ledger.waitFor(({ members }) => members[n1.peer]?.addresses[0] === '/ip4/127.0.0.1/tcp/1', patient());

  await consensus.stop();
  await n1.ledger.stop();
  await n1.ledger.start();
  consensus = await startConsensus(n1);
  t.after(() => consensus.stop());
  await update(n1, 2);
  const { index } = n1.ledger.state();
  await web1.ledger.waitFor((reached) => reached.index >= index, patient());
  assert.equal(web1.ledger.stateHash(), n1.ledger.stateHash());

  async function startConsensus({ ledger, mesh }: LedgerPeer): Promise<Consensus> {
    const logger = createTestLogger([]);
    const members = ledger.raftMembers();
    const started = createConsensus({ raftId: 1 })({
      ...disk,
      mesh,
      clock: systemClock,
      logger,
      randomBytes: (count) => randomBytes(count),
      members,
      stateMachine: ledger,
      certifying: { ledger: ledger.certification, sign: voterIdentityOf('n1').sign, verifySignature },
    });
    const leads = Promise.withResolvers<void>();
    started.onRoleChange(({ role }) => role === 'leader' && leads.resolve());
    await started.start();
    ledger.useConsensus(started);
    await leads.promise;
    return started;
  }

  async function update({ ledger }: LedgerPeer, port: number): Promise<void> {
    const addresses = [`/ip4/127.0.0.1/tcp/${port}`];
    const body = { peer: peerIdOf('n1'), addresses, system: 'x86_64-linux' };
    await ledger.propose({ kind: 'member-updated', actor: 'controller', body }, { signal: patient() });
  }
});
