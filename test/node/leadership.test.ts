// How the control room's changes of voters become entries of consensus.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VotersChange } from '../../node/consensus/index.ts';
import { votersOf } from '../../node/wiring/leadership.ts';
import { configurationContextOf } from '../../protocols/certificate.ts';
import { encodeConfigurationChange } from '../../protocols/consensus-record.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { createLedgerScript, peerIdOf } from '../helpers/ledger-script.ts';

/** What consensus is given to propose when raft id 2 gets its vote. */
async function proposedIn(state: LedgerState): Promise<Uint8Array> {
  const configuration = { voters: [1, 2], votersOutgoing: [1], learners: [], learnersNext: [], autoLeave: false };
  let proposed: Uint8Array | undefined;
  const { changeVoters } = votersOf({
    state: () => state,
    onCertified: () => () => undefined,
    certification: () => assert.fail('nothing is asked about certificates'),
    consensus: {
      status: () => assert.fail('nothing is asked about progress'),
      transferLeadership: () => assert.fail('nobody hands over'),
      changeVoters: async ({ transition, steps, contextOf }: VotersChange) => {
        proposed = encodeConfigurationChange({ transition, steps, context: contextOf(configuration) });
        return { index: 1, term: 1 };
      },
    },
  });
  const { signal } = new AbortController();
  await changeVoters({ kind: 'enter', promote: [2], demote: [], remove: [] }, { signal });
  return proposed ?? assert.fail('nothing was proposed');
}

test('changeVoters() names each voter with its key, and proposes nothing where one is not known', async () => {
  const script = createLedgerScript();
  script.join('n2', ['voter']);
  const data = await proposedIn(script.state());
  const peers = configurationContextOf({ data })?.voters.map(({ raftId, peer }) => [raftId, peer]);
  assert.deepEqual(peers, [
    [1, peerIdOf('n1')],
    [2, peerIdOf('n2')],
  ]);
  await assert.rejects(proposedIn({ ...script.state(), allotted: [] }), {
    code: 'voters-unchanged',
    message: /key of 2/,
  });
});
