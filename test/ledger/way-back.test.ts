// A member that was away while everybody whom it knew was removed or replaced: it asks strangers, and believes proofs alone.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../node/host/clock.ts';
import type { Clock } from '../../node/interfaces.ts';
import { createWayBack } from '../../node/ledger/way-back.ts';
import { encode } from '../../protocols/codec.ts';
import { entryPullProtocol } from '../../protocols/entry-pull.ts';
import { createCertifiedChain } from '../helpers/certified-chain.ts';
import { caughtUp, createLedgerFleet, createTestLogger, letGo, patient } from '../helpers/ledger-peers.ts';
import { peerIdOf } from '../helpers/ledger-script.ts';
import { createManualClock } from '../helpers/manual-clock.ts';

/** What waits for a minute waits for a call of `passMinute`. */
function minuteClock(): { readonly clock: Clock; readonly passMinute: () => void } {
  const waiting = new Set<() => void>();
  const clock: Clock = {
    ...systemClock,
    after(delayMs, call) {
      if (delayMs !== 60_000) return systemClock.after(delayMs, call);
      waiting.add(call);
      return () => waiting.delete(call);
    },
  };
  const passMinute = (): void => {
    for (const call of [...waiting]) if (waiting.delete(call)) call();
  };
  return { clock, passMinute };
}

/** A member that is back: n1, all that it knows, was removed, and n2 votes. */
async function stranded(t: TestContext, { compacts }: { readonly compacts: boolean }) {
  const { clock, passMinute } = minuteClock();
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters', { clock });
  await fleet.enrol('web1');
  await caughtUp(web1, n1);
  await web1.stop();
  for (const name of ['n2', 'n3']) await fleet.enrol(name, ['voter']);
  const n2 = await fleet.add('n2', 'consensus');
  // Voters ask each other for what they lack of these.
  for (const { type, index } of fleet.consensus.entries)
    if (type === 'configuration') await fleet.consensus.certify(index);
  await fleet.change([2, 3]);
  if (compacts) await letGo(fleet, n1);
  await fleet.propose('member-removed', { peer: peerIdOf('n1') });
  // All that it needs lies with n2.
  await n2.ledger.snapshot();
  fleet.network.kill(n1.peer);
  await web1.start();
  return { fleet, n2, web1, passMinute };
}

for (const compacts of [false, true]) {
  test(`meet() lets a member without anybody find those who vote now, from ${compacts ? 'a checkpoint' : 'entries'}`, async (t) => {
    const { n2, web1, passMinute } = await stranded(t, { compacts });
    const view = web1.ledger.meshMembers();
    assert.equal(view.asksStrangers(), false, 'somebody may be slow');
    passMinute();
    assert.ok(view.asksStrangers());
    assert.ok(web1.complaints.some((line) => line.startsWith('nobody that this peer knows')));
    assert.equal(view.isMember(n2.peer), false);
    view.meet(n2.peer);
    await caughtUp(web1, n2);
    assert.ok(view.isMember(n2.peer));
    await web1.mesh.open(n2.peer, '/hello', { signal: patient() }).catch(() => undefined);
    assert.equal(view.asksStrangers(), false);
  });
}

test('meet() believes no stranger that proves nothing', async (t) => {
  const { fleet, web1, passMinute } = await stranded(t, { compacts: false });
  const stranger = fleet.network.join(peerIdOf('stranger'));
  const chain = createCertifiedChain();
  chain.enrol('stranger');
  chain.change([1, 2]);
  const asked = Promise.withResolvers<void>();
  let questions = 0;
  stranger.handle(entryPullProtocol, async (stream) => {
    await stream.receive();
    questions += 1;
    for (const page of chain.pages(web1.ledger.state().index + 1)) {
      await stream.send(
        encode({ ...page, signatures: page.signatures?.map(([raftId]) => [raftId, new Uint8Array(64)]) }),
      );
    }
    if (questions === 2) asked.resolve();
    await stream.receive();
  });
  await stranger.start();
  const { index } = web1.ledger.state();
  web1.ledger.meshMembers().meet(stranger.self);
  passMinute();
  web1.ledger.meshMembers().meet(stranger.self);
  await asked.promise;
  assert.equal(web1.ledger.state().index, index);
  assert.equal(web1.ledger.meshMembers().isMember(stranger.self), false);
  assert.ok(web1.ledger.meshMembers().asksStrangers(), 'another one may know better');
});

test('meet() asks few strangers at once, and each of them for a moment', async () => {
  const clock = createManualClock();
  const asked: string[] = [];
  const left: string[] = [];
  const { meet, stop } = createWayBack({
    mesh: { connectedPeers: () => [], onPeerChange: () => () => undefined },
    ...{ clock, logger: createTestLogger([]), isMember: () => false, wantedCount: () => 1 },
    ask(stranger) {
      asked.push(stranger);
      return async () => void left.push(stranger);
    },
  });
  clock.advance(60_000);
  const crowd = ['a', 'b', 'c', 'd', 'e', 'f'];
  for (const stranger of crowd) meet(stranger);
  assert.deepEqual(asked, crowd.slice(0, 4));
  clock.advance(14_999);
  assert.deepEqual(left, []);
  clock.advance(1);
  assert.deepEqual(left, crowd.slice(0, 4));
  meet('e');
  assert.deepEqual(asked, crowd.slice(0, 5), 'another one may know better');
  await stop();
  assert.deepEqual(left, crowd.slice(0, 5));
});
