// What the control room knows of who leads, and how its changes of voters become entries of consensus.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConsensusStatus, VotersChange } from '../../node/consensus/index.ts';
import { leadershipOf, votersOf } from '../../node/wiring/leadership.ts';
import { configurationContextOf } from '../../protocols/certificate.ts';
import { encodeConfigurationChange } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
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

const standing: ConsensusStatus = {
  ...{ raftId: 1, term: 3, role: 'leader', leader: 1 },
  ...{ commitIndex: 100, appliedIndex: 100, firstIndex: 1, lastIndex: 100 },
  ...{ voters: [1, 2, 3], votersOutgoing: [], learners: [], droppedCertificates: 0 },
};

/** The leadership of a voter whose consensus says this, and whose ledger has applied an entry of that term. */
function leadershipAt(
  parts: {
    readonly status?: Partial<ConsensusStatus>;
    readonly appliedTerm?: number;
    readonly readIndex?: (options: { readonly signal: AbortSignal }) => Promise<number>;
  } = {},
) {
  const { status, appliedTerm = 3, readIndex = () => assert.fail('nothing is read') } = parts;
  return leadershipOf({
    consensus: { status: () => ({ ...standing, ...status }), onRoleChange: () => () => undefined, readIndex },
    peerOf: (raftId) => (raftId <= 3 ? peerIdOf(`n${raftId}`) : undefined),
    state: () => ({ ...createLedgerScript().state(), term: appliedTerm }),
    onApplied: () => () => undefined,
  });
}

test('confirm() waits for the word of a majority, for as long as it is wanted', async () => {
  const answer = Promise.withResolvers<number>();
  const asked: AbortSignal[] = [];
  const { confirm } = leadershipAt({
    readIndex({ signal }) {
      asked.push(signal);
      return answer.promise;
    },
  });
  const { signal } = new AbortController();
  let isConfirmed = false;
  const confirming = confirm({ signal }).then(() => {
    isConfirmed = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([asked, isConfirmed], [[signal], false]);
  answer.resolve(100);
  await confirming;
});

test('confirm() says that this peer does not lead where no majority answers', async () => {
  const cause = new ParleyError('timed-out', 'nobody answered');
  const { confirm } = leadershipAt({ readIndex: () => Promise.reject(cause) });
  await assert.rejects(confirm({ signal: new AbortController().signal }), {
    ...{ code: 'not-controller', retryable: true, cause },
    message: /a majority did not confirm: nobody answered/,
  });
});
