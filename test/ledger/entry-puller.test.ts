// How much a member takes from whom it follows before anything is proven that its own ledger comes to.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { followVoters } from '../../node/ledger/entry-puller.ts';
import { trustIn } from '../../node/ledger/trust-core.ts';
import { encode } from '../../protocols/codec.ts';
import { entryProofsMax } from '../../protocols/entry-pull.ts';
import { createCertifiedChain } from '../helpers/certified-chain.ts';
import { createTestLogger } from '../helpers/ledger-peers.ts';
import { peerIdOf } from '../helpers/ledger-script.ts';
import { createManualClock } from '../helpers/manual-clock.ts';

test('followVoters() leaves a peer that serves changes of voters without end', async () => {
  const chain = createCertifiedChain();
  chain.enrol('n2', 'n3');
  const [entering] = chain.change([1, 2, 3]);
  const { genesis } = chain.script;
  const page = encode({ kind: 'configurations', proofs: Array(entryProofsMax).fill(chain.proof(entering)) });
  const complaints: string[] = [];
  const left = Promise.withResolvers<void>();
  const peer = peerIdOf('n1');
  let served = 0;
  const stop = followVoters({
    self: peerIdOf('web1'),
    mesh: {
      connectedPeers: () => [{ peer, addresses: [] }],
      onPeerChange: () => () => undefined,
      open: async () => ({
        peer,
        send: async () => undefined,
        async receive() {
          served += entryProofsMax;
          // As many again: who takes these takes any number.
          return served > 8_192 ? undefined : page;
        },
        close: async () => undefined,
        abort: () => left.resolve(),
      }),
    },
    clock: createManualClock(),
    logger: createTestLogger(complaints),
    verifySignature: () => true,
    place: () => genesis.state,
    certificates: { trust: () => trustIn(genesis.fleet, genesis.state.voterSet, []), certainHash: () => undefined },
    voters: () => [peer],
    others: () => [],
    isMember: () => true,
    take: () => assert.fail('no entry was served'),
    takeState: () => assert.fail('no checkpoint was served'),
    onVotersProven: () => undefined,
  });
  await left.promise;
  await new Promise((resolve) => setImmediate(resolve));
  await stop();
  assert.match(complaints.join(), /served 4104 changes of voters/);
  assert.equal(served, 4_104);
});
