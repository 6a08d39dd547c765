// How a peer takes up, gives up and loses its vote: what it decides, and that a crash between any two changes of its state
// folder leaves the old vote whole or none, with the rest done at the next start.

import assert from 'node:assert/strict';
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { foundFleet, loadMembership, voterKeyFileOf, writeMembership } from '../../node/enrolment.ts';
import { createLedgerStart } from '../../node/wiring/ledger-start.ts';
import { runPeer } from '../../node/wiring/peer-loop.ts';
import {
  createVoteFolder,
  type FolderFiles,
  ledgerFolderOf,
  logFolderOf,
  witnessFileOf,
} from '../../node/wiring/vote-folder.ts';
import { goneOn, nextVoteStep, type VoteTurn } from '../../node/wiring/vote-plan.ts';
import { check } from '../../protocols/codec.ts';
import { configSchema } from '../../protocols/config.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { createLedgerScript, peerIdOf, voterKeyOf } from '../helpers/ledger-script.ts';

const config = check(configSchema, { version: 1, listen: ['/ip4/127.0.0.1/tcp/4400'] });

/** The state folder of a voter with a log. */
async function voterFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-vote-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const stateFolder = join(folder, 'state');
  await foundFleet({ stateFolder, config, name: 'gate', site: 'home', nowMs: 1_700_000_000_000 });
  await mkdir(logFolderOf(stateFolder));
  await writeFile(join(logFolderOf(stateFolder), 'log'), 'what was promised');
  await writeFile(witnessFileOf(stateFolder), 'the witness of it');
  await createVoteFolder(stateFolder).logBegun();
  return stateFolder;
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Changes to a folder, of which only the first few happen. */
function crashing(after: number): FolderFiles {
  let left = after;
  const step = async (change: () => Promise<void>): Promise<void> => {
    left -= 1;
    if (left < 0) throw new Error('the power is gone');
    await change();
  };
  return {
    remove: (path) => step(() => rm(path, { recursive: true, force: true })),
    replace: (from, to) => step(() => rm(to, { recursive: true, force: true }).then(() => rename(from, to))),
    write: (folder, membership) => step(() => writeMembership(folder, membership)),
  };
}

const turns: readonly (VoteTurn & { readonly kept: string })[] = [
  { kind: 'give-up', roles: ['member'], kept: 'nothing' },
  { kind: 'set-aside', reason: 'a bit was flipped', kept: 'a copy' },
];

for (const { kept, ...turn } of turns) {
  test(`carryOut() of '${turn.kind}' ends without a vote, with ${kept} of the log, wherever it is cut off`, async (t) => {
    for (let steps = 0; ; steps += 1) {
      const stateFolder = await voterFolder(t);
      const cutOff = await createVoteFolder(stateFolder, crashing(steps))
        .carryOut(turn as VoteTurn)
        .then(
          () => false,
          () => true,
        );
      const before = await loadMembership(stateFolder);
      const hasKey = await isThere(voterKeyFileOf(stateFolder));
      if (hasKey)
        assert.ok(before.raftId === 1 && (await isThere(logFolderOf(stateFolder))), `the vote is whole: ${steps}`);
      const settled = await createVoteFolder(stateFolder).settle();
      if (hasKey) assert.equal(settled.raftId, 1);
      else {
        assert.equal(settled.raftId, 0, `cut off after ${steps}`);
        assert.equal(settled.logBegun, undefined);
        for (const path of [logFolderOf(stateFolder), witnessFileOf(stateFolder)])
          assert.equal(await isThere(path), false);
      }
      if (cutOff) continue;
      assert.ok(steps > 2);
      assert.equal(await isThere(`${logFolderOf(stateFolder)}.damaged`), kept === 'a copy');
      return;
    }
  });
}

test("carryOut() of 'set-ledger-aside' keeps the vote and a copy of the ledger, wherever it is cut off", async (t) => {
  for (let steps = 0; ; steps += 1) {
    const stateFolder = await voterFolder(t);
    const [ledger, copy] = [ledgerFolderOf(stateFolder), `${ledgerFolderOf(stateFolder)}.damaged`];
    await mkdir(ledger);
    const before = await loadMembership(stateFolder);
    const cutOff = await createVoteFolder(stateFolder, crashing(steps))
      .carryOut({ kind: 'set-ledger-aside', reason: 'a file is empty' })
      .then(
        () => false,
        () => true,
      );
    assert.deepEqual([await isThere(ledger), await isThere(copy)], cutOff ? [true, false] : [false, true]);
    assert.deepEqual(await createVoteFolder(stateFolder).settle(), before);
    for (const path of [voterKeyFileOf(stateFolder), logFolderOf(stateFolder)]) assert.ok(await isThere(path));
    if (!cutOff) return;
  }
});

test('createLedgerStart() tells of a damaged store and of nothing else, and lets nobody start on it', async () => {
  for (const [code, isTold] of [
    ['store-damaged', true],
    ['disk-full', false],
  ] as const) {
    const told: Error[] = [];
    const failure = new ParleyError(code, 'it cannot be read');
    const ledger = { start: () => Promise.reject(failure), stop: async () => undefined };
    await assert.rejects(createLedgerStart({ ledger, onDamage: (error) => told.push(error) }).start(), { code });
    assert.deepEqual(told, isTold ? [failure] : []);
  }
});

test("carryOut() of 'take-up' never leaves a raft id with the log of an earlier one", async (t) => {
  for (let steps = 0; ; steps += 1) {
    const stateFolder = await voterFolder(t);
    const folder = createVoteFolder(stateFolder);
    await folder.carryOut({ kind: 'give-up', roles: ['member'] });
    await mkdir(logFolderOf(stateFolder));
    await folder.makeKey();
    const cutOff = await createVoteFolder(stateFolder, crashing(steps))
      .carryOut({ kind: 'take-up', raftId: 9, roles: ['member', 'voter'] })
      .then(
        () => false,
        () => true,
      );
    const { raftId, logBegun } = await loadMembership(stateFolder);
    assert.equal(logBegun, undefined);
    if (raftId === 9) assert.equal(await isThere(logFolderOf(stateFolder)), false);
    if (!cutOff) return assert.equal(raftId, 9);
    assert.equal((await folder.settle()).raftId, raftId);
  }
});

test('settle() refuses a peer that was removed, at every start', async (t) => {
  const stateFolder = await voterFolder(t);
  const folder = createVoteFolder(stateFolder);
  await assert.rejects(folder.carryOut({ kind: 'leave' }), { code: 'removed', message: /'gate' was removed/ });
  assert.equal(await isThere(voterKeyFileOf(stateFolder)), false);
  await assert.rejects(createVoteFolder(stateFolder).settle(), { code: 'removed' });
  await assert.rejects(
    runPeer({ stateFolder, create: () => assert.fail('it is not created'), ended: new Promise(() => undefined) }),
    { code: 'removed', hint: /empty state folder/ },
  );
});

test('noteVoters() keeps what is noted of the log, and of the voters what is newest', async (t) => {
  const stateFolder = await voterFolder(t);
  const folder = createVoteFolder(stateFolder);
  await folder.noteVoters([{ peer: peerIdOf('n2'), addresses: [], raftId: 2 }], 7);
  await folder.noteVoters([], 6);
  const { logBegun, contacts, votersIndex } = await loadMembership(stateFolder);
  assert.deepEqual([logBegun, contacts.map(({ raftId }) => raftId), votersIndex], [true, [2], 7]);
});

const own = (name: string, raftId: number, key: string | null) => ({ peer: peerIdOf(name), raftId, key });
const updated = (name: string) => ({
  ...{ peer: peerIdOf(name), addresses: [], system: 'x86_64-linux' },
  voterKey: voterKeyOf(name),
});

test('nextVoteStep() leads a member that is to vote to its vote, and from it', () => {
  const script = createLedgerScript();
  script.join('web1');
  const step = (raftId: number, key: string | null) => nextVoteStep(script.state(), own('web1', raftId, key));
  const key = voterKeyOf('web1');
  assert.equal(step(0, null).kind, 'stay');
  assert.equal(step(0, key).kind, 'drop-key', 'a key without the role');
  script.accept('voter-added', { peer: peerIdOf('web1'), replaces: null });
  assert.equal(step(0, null).kind, 'make-key');
  assert.equal(step(0, key).kind, 'stay', 'the ledger does not know the key');
  script.accept('member-updated', updated('web1'));
  assert.deepEqual(step(0, key), { kind: 'take-up', raftId: 2, roles: ['member', 'voter'] });
  assert.equal(step(0, voterKeyOf('another')).kind, 'stay', "another key's raft id is not taken");
  assert.equal(step(2, key).kind, 'stay', 'it waits to be counted');
  script.configure({ voters: [1], learners: [2] });
  script.accept('voter-removed', { peer: peerIdOf('web1') });
  assert.equal(step(2, key).kind, 'stay', 'consensus still knows it');
  script.configure({ voters: [1] });
  assert.deepEqual(step(2, key), { kind: 'give-up', roles: ['member'] });
});

test('nextVoteStep() keeps a voter at its post until neither half counts on it', () => {
  const script = createLedgerScript();
  for (const name of ['n2', 'n3']) script.join(name, ['member', 'voter']);
  script.configure({ voters: [1, 2, 3] });
  script.accept('member-removed', { peer: peerIdOf('n3') });
  const step = () => nextVoteStep(script.state(), own('n3', 3, voterKeyOf('n3'))).kind;
  assert.equal(step(), 'stay');
  script.configure({ voters: [1, 2], votersOutgoing: [1, 2, 3] });
  assert.equal(step(), 'stay');
  script.configure({ voters: [1, 2] });
  assert.equal(step(), 'leave');
  assert.equal(nextVoteStep(script.state(), own('nobody', 0, null)).kind, 'stay', 'it has not joined yet');
});

test('nextVoteStep() gives up a raft id that a new key has taken the place of', () => {
  const script = createLedgerScript();
  script.join('n2', ['member', 'voter']);
  script.configure({ voters: [1, 2] });
  script.accept('member-updated', { ...updated('n2'), voterKey: voterKeyOf('n2 anew') });
  const step = (raftId: number, key: string) => nextVoteStep(script.state(), own('n2', raftId, key)).kind;
  assert.equal(step(0, voterKeyOf('n2 anew')), 'take-up');
  script.configure({ voters: [1, 3] });
  assert.equal(step(2, voterKeyOf('n2')), 'give-up');
});

test('goneOn() ends the votes that newer voters do not count, and none that is still to come', () => {
  const script = createLedgerScript();
  for (const name of ['n2', 'n3']) script.join(name, ['member', 'voter']);
  script.configure({ voters: [1, 2, 3] });
  const { voterSet } = script.state();
  const without3 = { ...voterSet, index: voterSet.index + 9, voters: voterSet.voters.slice(0, 2) };
  const step = (raftId: number, key: string) =>
    nextVoteStep(goneOn(script.state(), without3), own('n3', raftId, voterKeyOf(key)));
  assert.deepEqual(step(3, 'n3'), { kind: 'give-up', roles: ['member'] });
  script.accept('member-updated', { ...updated('n3'), voterKey: voterKeyOf('n3 anew') });
  assert.deepEqual(step(0, 'n3 anew'), { kind: 'take-up', raftId: 4, roles: ['member', 'voter'] });
});

test('runPeer() creates the peer anew after each turn, and after a damaged log without it', async (t) => {
  const stateFolder = await voterFolder(t);
  const { makeKey } = createVoteFolder(stateFolder);
  const ended = Promise.withResolvers<void>();
  const lives: number[] = [];
  let stopped = 0;
  async function create() {
    const { raftId } = await loadMembership(stateFolder);
    const { promise: turned, resolve: turn } = Promise.withResolvers<VoteTurn>();
    const starts: readonly (() => Promise<void>)[] = [
      async () => {
        turn({ kind: 'set-aside', reason: 'it is damaged' });
        throw new Error('its log is damaged');
      },
      async () => {
        await makeKey();
        turn({ kind: 'take-up', raftId: 7, roles: ['member', 'voter'] });
      },
      async () => ended.resolve(),
    ];
    const start = starts[lives.length] ?? assert.fail('it is not created again');
    lives.push(raftId);
    return {
      ...{ turned, start },
      stop: async () => {
        stopped += 1;
      },
    };
  }
  await runPeer({ stateFolder, create, ended: ended.promise });
  assert.deepEqual([lives, stopped], [[1, 0, 7], 3]);
  assert.equal(await readFile(`${witnessFileOf(stateFolder)}.damaged`, 'utf8'), 'the witness of it');
});

test('runPeer() passes on why a peer cannot start', async (t) => {
  const stateFolder = await voterFolder(t);
  let stopped = 0;
  const create = async () => ({
    turned: new Promise<VoteTurn>(() => undefined),
    start: () => Promise.reject(new Error('the port is taken')),
    stop: async () => {
      stopped += 1;
    },
  });
  await assert.rejects(runPeer({ stateFolder, create, ended: new Promise(() => undefined) }), /the port is taken/);
  assert.equal(stopped, 1);
});
