// A voter that was away while others took the places of all that it knew: it finds them by the chain of certificates, from
// any peer that it reaches, and counts them as known until its own ledger has come to them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { caughtUp, createLedgerFleet, type LedgerPeer, letGo, patient } from '../helpers/ledger-peers.ts';
import { peerIdOf } from '../helpers/ledger-script.ts';

/** Resolves once the voters that are proven to the peer have these raft ids, and it knows where to dial the last of them. */
async function proven({ ledger }: LedgerPeer, raftIds: readonly number[]): Promise<void> {
  const isThere = (): boolean => {
    const { voters } = ledger.newestVoterSet();
    const last = ledger
      .meshMembers()
      .wanted()
      .find(({ peer }) => peer === voters.at(-1)?.peer);
    return (
      voters.map(({ raftId }) => raftId).join() === raftIds.join() && last?.addresses[0] === '/ip4/127.0.0.1/tcp/1'
    );
  };
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  patient().addEventListener('abort', () => reject(new Error(JSON.stringify(ledger.newestVoterSet()))));
  const unsubscribe = ledger.onVoterSetProven(() => isThere() && resolve());
  if (isThere()) resolve();
  await promise;
  unsubscribe();
}

for (const isForgotten of [false, true]) {
  const how = isForgotten ? 'a checkpoint' : 'their entries';
  test(`watchVoterSet() introduces the voters that took the places of all known ones, by ${how}`, async (t) => {
    const fleet = await createLedgerFleet(t);
    const [n1, n3] = [await fleet.add('n1', 'consensus'), await fleet.add('n3', 'consensus')];
    const web1 = await fleet.add('web1', 'voters');
    await fleet.enrol('web1');
    for (const name of ['n2', 'n3']) await fleet.enrol(name, ['voter']);
    await caughtUp(n3, n1);
    fleet.consensus.detach(n3.ledger);
    for (const name of ['n4', 'n5']) await fleet.enrol(name, ['voter']);
    for (const raftIds of [
      [2, 3, 4],
      [3, 4, 5],
    ])
      await fleet.change(raftIds);
    if (isForgotten) await letGo(fleet, n1);
    await caughtUp(web1, n1);
    fleet.network.kill(n1.peer);
    // Nobody is connected to it, and nobody dials it: it is to dial whom it knows.
    fleet.network.kill(n3.peer);
    fleet.network.revive(n3.peer);
    fleet.network.refuseDials(n3.peer);
    const mesh = n3.ledger.meshMembers();
    const raft = n3.ledger.raftMembers();
    const [n4, n5] = [peerIdOf('n4'), peerIdOf('n5')];
    assert.equal(mesh.isMember(n4), false);
    let told = 0;
    t.after(
      mesh.onChange(() => {
        told += 1;
      }),
    );
    const stop = n3.ledger.watchVoterSet();
    await proven(n3, [3, 4, 5]);
    assert.ok(mesh.isMember(n4) && mesh.isMember(n5) && told > 0, `the mesh was told ${told} times`);
    assert.deepEqual([raft.raftIdOf(n4), raft.peerOf(5)], [4, n5]);
    await stop();
    assert.ok(mesh.isMember(n4), 'until the own ledger knows');
    if (isForgotten) return;
    fleet.network.revive(n1.peer);
    await fleet.consensus.attach(n3.ledger);
    await caughtUp(n3, n1);
    assert.equal(n3.ledger.newestVoterSet(), n3.ledger.state().voterSet);
  });
}
