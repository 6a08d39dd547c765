// Shows with real processes that a fleet which lost most of its voters for good goes on from a survivor, and that an old voter
// that returns does no harm.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { access, copyFile, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { loadMembership } from '../../node/enrolment.ts';
import { check } from '../../protocols/codec.ts';
import { type StatusView, type VotersView, votersViewSchema } from '../../protocols/views.ts';
import { createPeerProcess } from '../../scripts/lib/peer-process.ts';
import { type ProcessFleet, peerIn, startProcessFleet } from './process-fleet.ts';

const run = promisify(execFile);
const program = path.resolve(import.meta.dirname, '../../scripts/parley');
const patienceMs = 60_000;

const parley = async (...words: string[]): Promise<Record<string, unknown>> =>
  JSON.parse((await run(program, [...words, '--json'])).stdout) as Record<string, unknown>;

const isThere = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );

async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + patienceMs;
  while (!(await holds())) {
    assert.ok(performance.now() < deadlineMs, `not seen within ${patienceMs / 1000} s: ${what}`);
    await wait(100);
  }
}

async function votersSeenBy(tested: ProcessFleet, peer: string): Promise<VotersView['voters']> {
  return check(votersViewSchema, await tested.command({ name: 'voters' }, { peers: [peer] })).voters;
}

/** Invites a new peer as a voter, and starts it. */
async function joinVoter(t: TestContext, tested: ProcessFleet, inviter: string, name: string): Promise<void> {
  const invite = {
    name: 'invite',
    peer: name,
    site: 'home',
    roles: ['member', 'voter'],
    expiresInMs: 600_000,
  } as const;
  const { token } = (await tested.command({ ...invite, roles: [...invite.roles] }, { peers: [inviter] })) as {
    token: string;
  };
  const folder = path.join(path.dirname(tested.peer(inviter).stateFolder), name);
  const joined = createPeerProcess(name, folder, []);
  await parley('join', token, '--state', folder, '--listen', '/ip4/127.0.0.1/tcp/0', '--discovery', 'none');
  joined.start();
  t.after(() => joined.stop());
}

test('a fleet that lost two of three voters goes on from the third', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 2 });
  const folderOf = (name: string): string => tested.peer(name).stateFolder;
  const deploy = (selector: string, commitMessage: string | null, peers: readonly string[]) =>
    tested.command({ name: 'deploy', selector, keepGoing: false, commitMessage }, { follow: true, peers, patienceMs });
  await deploy('@all', null, ['v3']);
  const key = path.join(folderOf('m1'), 'kept.key');
  await copyFile(path.join(folderOf('v1'), 'recovery.key'), key);

  for (const name of ['v1', 'v2', 'v3']) await tested.peer(name).kill();
  await rm(folderOf('v1'), { recursive: true });
  await rename(folderOf('v2'), `${folderOf('v2')}.old`);
  const { index } = await parley('recover', '--show', '--state', folderOf('v3'));
  assert.ok(Number(index) > 10, `${index}`);
  await assert.rejects(parley('recover', '--key', key, '--state', folderOf('v3')), /--yes/);
  const begun = await parley('recover', '--key', key, '--yes', '--state', folderOf('v3'));
  assert.deepEqual([begun.number, begun.index, begun.isSigned], [1, index, true]);

  await tested.fleet.startPeers(['v3'], t.signal);
  const left = ['v3', 'm1', 'm2'];
  await tested.until('the members follow', (view) => left.every((name) => peerIn(view, name).online), ['v3']);
  await tested.write('second', 'v3');
  await deploy(left.join(), 'second', ['v3']);
  const runs = (word: string, names: readonly string[]) => (view: Parameters<typeof peerIn>[0]) =>
    names.every((name) => peerIn(view, name).running?.endsWith(`-${word}`) === true);
  await tested.until('the second system on all that are left', runs('second', left), ['v3']);
  for (const host of ['m1', 'm2'])
    await tested.command({ name: 'voters-add', host }, { follow: true, peers: ['v3'], patienceMs });
  await tested.command({ name: 'peers-remove', host: 'v1' }, { follow: true, peers: ['v3'], patienceMs });

  await rename(`${folderOf('v2')}.old`, folderOf('v2'));
  tested.peer('v2').start();
  await eventually('the old voter has no key', async () => !(await isThere(path.join(folderOf('v2'), 'voter.key'))));
  await tested.until('the old voter takes part', (view) => peerIn(view, 'v2').online, ['v3']);
  assert.match(await readFile(tested.peer('v2').logFile, 'utf8'), /new-generation/);
  await tested.write('third', 'v3');
  await deploy('v2,m1', 'third', ['v3']);
  await tested.until('the old voter obeys the new generation', runs('third', ['v2', 'm1']), ['v3']);
  const voters = await votersSeenBy(tested, 'v3');
  assert.deepEqual(
    voters.map(({ name, standing }) => `${name} ${standing}`),
    ['m1 votes', 'm2 votes', 'v3 votes'],
  );
  assert.ok(
    voters.every(({ raftId }) => (raftId ?? 0) >= 1_000_000),
    'no number is used again',
  );

  await joinVoter(t, tested, 'v3', 'late');
  await eventually('who joins after the recovery votes', async () =>
    (await votersSeenBy(tested, 'v3')).some(({ name, standing }) => name === 'late' && standing === 'votes'),
  );
});

test('without the recovery key a generation counts where root names it, and voters that return together give way', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 1 });
  const folderOf = (name: string): string => tested.peer(name).stateFolder;
  const hasKey = (name: string): Promise<boolean> => isThere(path.join(folderOf(name), 'voter.key'));
  for (const name of ['v1', 'v2', 'v3']) await tested.peer(name).kill();
  const { record, isSigned, index } = await parley('recover', '--without-key', '--yes', '--state', folderOf('v3'));
  assert.equal(isSigned, false);
  await tested.fleet.startPeers(['v3'], t.signal);
  await tested.until('it leads alone', ({ controller }) => controller === 'v3', ['v3']);
  await eventually('the member has met it', async () =>
    (await readFile(tested.peer('m1').logFile, 'utf8')).includes(`parley trust ${record}`),
  );
  const { generations } = await loadMembership(folderOf('m1'));
  assert.deepEqual(generations, [], 'nobody has named it there');
  const goesOn = (view: StatusView): boolean =>
    view.ledgerIndex > Number(index) + 1 && peerIn(view, 'm1').ledgerIndex !== null;
  const told = peerIn(await tested.until('the generation goes on', goesOn, ['v3']), 'm1');
  assert.ok((told.ledgerIndex ?? 0) <= Number(index), `${told.ledgerIndex} after the base ${index}`);
  await parley('trust', String(record), '--state', folderOf('m1'));
  await tested.until(
    'the member follows once root has said so',
    (view) => (peerIn(view, 'm1').ledgerIndex ?? 0) >= view.ledgerIndex && peerIn(view, 'm1').online,
    ['v3'],
  );

  // Two of the old three are a majority of their own: until they are told, they lead each other, and nobody else.
  for (const name of ['v1', 'v2']) tested.peer(name).start();
  await tested.until('the two decide among themselves', ({ controller }) => ['v1', 'v2'].includes(controller ?? ''), [
    ...['v1', 'v2'],
  ]);
  assert.ok((await hasKey('v1')) && (await hasKey('v2')), 'nobody has named the generation there');
  for (const name of ['v1', 'v2']) await parley('trust', String(record), '--state', folderOf(name));
  await eventually('no old voter has a key', async () => !(await hasKey('v1')) && !(await hasKey('v2')));
  await tested.until(
    'all are one fleet',
    (view) => view.controller === 'v3' && view.peers.every(({ online }) => online),
    ['v1'],
  );
  for (const host of ['v1', 'v2'])
    await tested.command({ name: 'voters-add', host }, { follow: true, peers: ['v3'], patienceMs });
});
