// What the control room knows of who leads, and how its changes of voters become entries of consensus.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConsensusStatus, VotersChange } from '../../node/consensus/index.ts';
import type { CertificateKeeper } from '../../node/ledger/index.ts';
import { leadershipOf, votersOf } from '../../node/wiring/leadership.ts';
import { configurationContextOf, type VoterSet } from '../../protocols/certificate.ts';
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

type Told = Parameters<typeof leadershipOf>[0];

/** A voter that leads, and whose ledger has applied an entry of its term. */
const silent: Told = {
  consensus: {
    status: () => standing,
    onRoleChange: () => () => undefined,
    readIndex: () => assert.fail('nothing is read'),
  },
  peerOf: (raftId) => (raftId <= 3 ? peerIdOf(`n${raftId}`) : undefined),
  state: () => ({ ...createLedgerScript().state(), term: standing.term }),
  onApplied: () => () => undefined,
};

const leaderWith = (consensus: Partial<Told['consensus']>) =>
  leadershipOf({ ...silent, consensus: { ...silent.consensus, ...consensus } });
const leaderAt = (status: Partial<ConsensusStatus>) => leaderWith({ status: () => ({ ...standing, ...status }) });

test('confirm() waits for the word of a majority, for as long as it is wanted', async () => {
  const answer = Promise.withResolvers<number>();
  const asked: AbortSignal[] = [];
  const { confirm } = leaderWith({
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
  const { confirm } = leaderWith({ readIndex: () => Promise.reject(cause) });
  await assert.rejects(confirm({ signal: new AbortController().signal }), {
    ...{ code: 'not-controller', retryable: true, cause },
    message: /a majority did not confirm: nobody answered/,
  });
});

test('leads() waits until the ledger has applied an entry of the own term', () => {
  assert.equal(leaderAt({}).leads(), true);
  assert.equal(leaderAt({ term: 4 }).leads(), false, 'what others committed before is not applied yet');
  assert.equal(leaderAt({ role: 'follower' }).leads(), false);
});

test('controller() names the peer that leads, and none where nobody is known to', () => {
  assert.equal(leaderAt({ role: 'follower', leader: 2 }).controller(), peerIdOf('n2'));
  assert.equal(leaderAt({ leader: 9 }).controller(), null);
  const { leader: _none, ...leaderless } = standing;
  assert.equal(leaderWith({ status: () => leaderless }).controller(), null);
});

test('onChange() tells when an applied entry makes a leader of this voter', () => {
  const state = createLedgerScript().state();
  let term = 2;
  let applied = (): void => assert.fail('nobody listens');
  let changes = 0;
  const { onChange } = leadershipOf({
    ...silent,
    state: () => ({ ...state, term }),
    onApplied(listener) {
      applied = listener;
      return () => undefined;
    },
  });
  onChange(() => {
    changes += 1;
  });
  for (const [appliedTerm, seen] of [
    [2, 0],
    [3, 1],
    [3, 1],
  ] as const) {
    term = appliedTerm;
    applied();
    assert.equal(changes, seen);
  }
});

/** What the coordinator is told of voters. */
function factsWith(parts: {
  readonly status?: Partial<ConsensusStatus>;
  readonly voterSet?: VoterSet;
  readonly certificates?: Partial<Pick<CertificateKeeper, 'certificateAt' | 'certifiedIndex' | 'voterSetBefore'>>;
}) {
  const { status, certificates } = parts;
  const state = createLedgerScript().state();
  const { voterSet = state.voterSet } = parts;
  return votersOf({
    state: () => ({ ...state, voterSet }),
    onCertified: () => () => undefined,
    certification: () => ({
      ...{ certificateAt: () => undefined, certifiedIndex: () => 0, voterSetBefore: () => undefined },
      ...certificates,
    }),
    consensus: {
      status: () => ({ ...standing, ...status }),
      transferLeadership: () => assert.fail('nobody hands over'),
      changeVoters: () => assert.fail('nothing is changed'),
    },
  }).facts();
}

test('isCaughtUp() of a learner is that it is heard, has begun, and lacks no more than what arrives meanwhile', () => {
  const learner = { raftId: 4, match: 1_000, state: 'replicate', active: true } as const;
  const isCaughtUp = (lag: number, fields: { readonly active?: boolean; readonly match?: number } = {}): boolean =>
    factsWith({
      status: {
        lastIndex: learner.match + lag,
        progress: [
          { ...learner, raftId: 2 },
          { ...learner, ...fields },
        ],
      },
    }).isCaughtUp(learner.raftId);
  assert.deepEqual([isCaughtUp(0), isCaughtUp(64), isCaughtUp(65)], [true, true, false]);
  assert.equal(isCaughtUp(0, { active: false }), false);
  assert.equal(isCaughtUp(-990, { match: 0 }), false, 'a short log, and nothing of it acknowledged');
  assert.equal(factsWith({}).isCaughtUp(4), false, 'this voter does not lead');
});

test('isCertified is false until the voters before have signed for those in force', () => {
  const voterSet: VoterSet = { generation: 0, index: 50, voters: [], votersOutgoing: [] };
  const before = (generation: number): VoterSet => ({ ...voterSet, generation, index: 40 });
  const isCertified = (certificates: Parameters<typeof factsWith>[0]['certificates'], set = voterSet): boolean =>
    factsWith({ voterSet: set, ...(certificates === undefined ? {} : { certificates }) }).isCertified;
  const certificate = { version: 1 as const, generation: 0, index: 50, chainHash: 'c'.repeat(64), signatures: [] };
  assert.equal(isCertified({ voterSetBefore: () => before(0) }), false);
  assert.equal(
    isCertified({ voterSetBefore: () => before(0), certifiedIndex: () => 90 }),
    false,
    'what follows, alone',
  );
  assert.equal(isCertified({ voterSetBefore: () => before(0), certificateAt: () => certificate }), true);
  assert.equal(isCertified({ certifiedIndex: () => 50 }), false, 'from a snapshot');
  assert.equal(isCertified({ certifiedIndex: () => 51 }), true, 'from a snapshot, and what follows is certified');
  assert.equal(
    isCertified({ voterSetBefore: () => before(0) }, { ...voterSet, generation: 1 }),
    true,
    'a new generation',
  );
  assert.equal(isCertified(undefined, { ...voterSet, index: 1 }), true, 'the founder');
});
