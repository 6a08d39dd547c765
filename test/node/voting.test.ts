// How a voter's consensus starts: where its log begins, and what becomes of it where the log is not what was written.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { behindLog, type ConsensusStatus, damaged, readLog } from '../../node/consensus/index.ts';
import { createVoting } from '../../node/wiring/voting.ts';
import { type ErrorRecord, ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import type { JoinContact } from '../../protocols/join.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { MemoryStore } from '../consensus/memory-store.ts';
import { MemoryWitness } from '../consensus/memory-witness.ts';
import { createLedgerScript, peerIdOf, voterKeyOf } from '../helpers/ledger-script.ts';

const none = { generations: [], contacts: [], votersIndex: undefined, hasLog: false };
const own = { self: peerIdOf('n1'), raftId: 1 };

interface Start {
  readonly error: ParleyError | undefined;
  readonly gaveUp: boolean;
  readonly disk: { readonly store: MemoryStore; readonly witness: MemoryWitness };
}

async function start(
  init: Parameters<typeof createVoting>[0],
  state: LedgerState,
  startConsensus = async (): Promise<void> => undefined,
): Promise<Start> {
  const disk = { store: new MemoryStore(), witness: new MemoryWitness() };
  let gaveUp = false;
  const voting = createVoting(init)({
    disk,
    ledger: { state: () => state },
    folder: { logBegun: async () => undefined },
    consensus: { start: startConsensus, stop: async () => undefined, onRoleChange: () => () => undefined },
    onDamage: () => {
      gaveUp = true;
    },
  });
  const error = await voting.start().then(
    () => undefined,
    (cause: unknown) => cause,
  );
  assert.ok(error === undefined || error instanceof ParleyError, `${error}`);
  return { error, gaveUp, disk };
}

const contact = (name: string, raftId: number): JoinContact => ({ peer: peerIdOf(name), raftId, addresses: [] });

/** States of a fleet when there were three voters, and when one was left. */
function shrunk(): { readonly three: LedgerState; readonly one: LedgerState } {
  const script = createLedgerScript();
  for (const name of ['n2', 'n3']) script.join(name, ['voter']);
  script.configure({ voters: [1, 2, 3] });
  const three = script.state();
  script.configure({ voters: [1] });
  return { three, one: script.state() };
}

const breaks = (): Promise<void> => Promise.reject(damaged('a bit is flipped'));
const three = [contact('n1', 1), contact('n2', 2), contact('n3', 3)];

test('createVoting() gives the vote up at a damaged log only where others vote, by the newer of ledger and note', async () => {
  const states = shrunk();
  const noted = (contacts: readonly JoinContact[], votersIndex: number | undefined) => ({
    ...{ ...own, ...none, hasLog: true },
    ...{ contacts, votersIndex },
  });
  const alone = [contact('n1', 1)];
  for (const [what, init, state, gaveUp] of [
    ['noted alone after the snapshot', noted(alone, states.one.index), states.three, false],
    ['the snapshot is newer than the note', noted(three, states.three.index), states.one, false],
    ['noted with others after the snapshot', noted(three, states.three.index), createLedgerScript().state(), true],
    ['never noted', noted([], undefined), states.three, true],
    ['told of others when it joined', noted(three, undefined), createLedgerScript().state(), true],
  ] as const) {
    const started = await start(init, state, breaks);
    assert.equal(started.gaveUp, gaveUp, what);
    assert.match(started.error?.hint ?? '', gaveUp ? /new raft id/ : /only voter/, what);
  }
});

test('createVoting() gives the vote up where its log starts after the ledger only if others vote', async () => {
  const state = createLedgerScript().state();
  const behind = (): Promise<void> => Promise.reject(behindLog(1, 400));
  const noted = { ...own, ...none, hasLog: true, votersIndex: 300 };
  const among = await start({ ...noted, contacts: three }, state, behind);
  assert.equal(among.gaveUp, true);
  assert.match(among.error?.hint ?? '', /new raft id/);
  const alone = await start({ ...noted, contacts: [contact('n1', 1)] }, state, behind);
  assert.equal(alone.gaveUp, false);
  assert.match(alone.error?.hint ?? '', /only voter.*backup/);
});

/** A generation that begins where a state ends. */
function generationAfter(state: LedgerState, founder: { readonly peer: string; readonly raftId: number }) {
  const { fleet, index: baseIndex, term: baseTerm, chainHash: baseHash } = state;
  const voters = [{ ...founder, key: voterKeyOf('new') }];
  return { version: 1, fleet, number: 1, baseIndex, baseTerm, baseHash, voters, signature: null } as const;
}

test('createVoting() begins a generation on the voter that its record names, and no other one', async () => {
  const script = createLedgerScript();
  const genesis = script.state();
  script.join('n2');
  const state = script.state();
  const raftId = 1_000_000;
  const generations: GenerationRecord[] = [generationAfter(state, { peer: own.self, raftId })];
  const founded = await start({ ...none, self: own.self, raftId, generations }, state);
  assert.equal(founded.error, undefined);
  assert.equal((await readLog(founded.disk)).lastIndex, state.index + 1);
  const misplaced = await start({ ...none, self: own.self, raftId, generations }, genesis);
  assert.equal(misplaced.error?.code, 'generation-misplaced');
  for (const other of [
    { self: peerIdOf('n2'), raftId: raftId + 1 },
    { self: own.self, raftId: raftId + 2 },
  ]) {
    const joined = await start({ ...none, ...other, generations }, genesis);
    assert.equal(joined.error, undefined, 'its log begins where its ledger is; the rest comes from the others');
    assert.equal((await readLog(joined.disk)).lastIndex, genesis.index);
  }
});

test('createVoting() gives the vote up once a voter that runs has lost what it acknowledged, and for no other failure', async () => {
  let told: (status: ConsensusStatus) => void = () => assert.fail('nobody listens');
  const reasons: string[] = [];
  const disk = { store: new MemoryStore(), witness: new MemoryWitness() };
  const consensus = {
    ...{ start: async () => undefined, stop: async () => undefined },
    onRoleChange(listener: (status: ConsensusStatus) => void) {
      told = listener;
      return () => undefined;
    },
  };
  const state = createLedgerScript().state;
  const folder = { logBegun: async () => undefined };
  const onDamage = ({ message }: { readonly message: string }): void => void reasons.push(message);
  await createVoting({ ...own, ...none })({ disk, ledger: { state }, folder, consensus, onDamage }).start();
  const failing = (failure: ErrorRecord): ConsensusStatus => ({
    ...{ raftId: 1, term: 1, role: 'follower', commitIndex: 1, appliedIndex: 1, firstIndex: 2, lastIndex: 1 },
    ...{ voters: [1, 2, 3], votersOutgoing: [], learners: [], droppedCertificates: 0, failure },
  });
  told(failing(toErrorRecord(new ParleyError('disk-full', 'there is no room'))));
  assert.deepEqual(reasons, []);
  told(failing(toErrorRecord(damaged('it ends too early'))));
  assert.equal(reasons.length, 1);
});
