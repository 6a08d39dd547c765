// Shows with real processes that voters come and go while the fleet runs, that a removed peer stops for good, and that a
// voter with a damaged log takes part again under a new key.

import assert from 'node:assert/strict';
import { access, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { check } from '../../protocols/codec.ts';
import { noticesViewSchema, type VotersView, votersViewSchema } from '../../protocols/views.ts';
import { controllerOf, type ProcessFleet, startProcessFleet } from './process-fleet.ts';

const patienceMs = 60_000;

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

async function votersOf({ command }: ProcessFleet, peers?: readonly string[]): Promise<VotersView> {
  return check(votersViewSchema, await command({ name: 'voters' }, { ...(peers && { peers }) }));
}

const standings = ({ voters }: VotersView): string[] => voters.map(({ name, standing }) => `${name} ${standing}`);

test('voters come and go while the fleet runs, and a removed peer stops for good', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 1 });
  const fileOf = (name: string, file: string): string => path.join(tested.peer(name).stateFolder, file);
  const pids = tested.names.map((name) => tested.peer(name).pid());

  await tested.command({ name: 'voters-add', host: 'm1' }, { follow: true });
  assert.deepEqual(standings(await votersOf(tested)), ['m1 votes', 'v1 votes', 'v2 votes', 'v3 votes']);
  assert.ok(await isThere(fileOf('m1', 'voter.key')));

  const leading = controllerOf(await tested.until('a controller', ({ controller }) => controller !== null));
  await tested.command({ name: 'voters-remove', host: leading }, { follow: true, patienceMs });
  await eventually(`${leading} has no key`, async () => !(await isThere(fileOf(leading, 'voter.key'))));
  await eventually(`${leading} has no log`, async () => !(await isThere(fileOf(leading, 'consensus'))));
  const rest = tested.names.filter((name) => name !== leading);
  assert.deepEqual(standings(await votersOf(tested)), rest.map((name) => `${name} votes`).toSorted());
  await tested.until(`${leading} takes part`, (view) => view.peers.every(({ online }) => online));

  // Asleep while its vote is taken, it learns of it from the others alone.
  const asleep = rest.find((name) => name !== 'm1') ?? '';
  tested.peer(asleep).pause();
  const awake = tested.names.filter((name) => name !== asleep);
  await tested.until('a controller', ({ controller }) => controller !== null && controller !== asleep, awake);
  await tested.command({ name: 'voters-remove', host: asleep }, { follow: true, peers: ['m1'], patienceMs });
  tested.peer(asleep).resume();
  await eventually(`${asleep} has no key`, async () => !(await isThere(fileOf(asleep, 'voter.key'))));
  assert.deepEqual(
    tested.names.map((name) => tested.peer(name).pid()),
    pids,
    'all in the processes that were started',
  );

  const gone = rest.find((name) => name !== 'm1' && name !== asleep) ?? '';
  await tested.command({ name: 'voters-add', host: asleep }, { follow: true, peers: ['m1'], patienceMs });
  await tested.command({ name: 'peers-remove', host: gone }, { follow: true, peers: ['m1'], patienceMs });
  await eventually(`${gone} ends`, async () => tested.peer(gone).state() === 'stopped');
  assert.equal(tested.peer(gone).crashed(), 'exit status 4');
  assert.equal(await isThere(fileOf(gone, 'voter.key')), false);
  tested.peer(gone).start();
  await eventually(`${gone} ends again`, async () => tested.peer(gone).state() === 'stopped');
  assert.match(await readFile(tested.peer(gone).logFile, 'utf8'), new RegExp(`'${gone}' was removed from the fleet`));
  await tested.write('after', asleep);
  await tested.command({ name: 'commit', message: 'after all that' }, { follow: true, peers: [asleep], patienceMs });
});

test('a vote that is given back while it is being taken counts again, however far that has come', async (t) => {
  const tested = await startProcessFleet(t, { voters: 2, members: 0 });
  const order = (name: 'voters-remove' | 'voters-add') =>
    tested.command({ name, host: 'v2' }, { peers: ['v1'], patienceMs });
  await tested.until('a controller', ({ controller }) => controller !== null);
  for (const lateMs of [0, 80, 280, 400]) {
    await Promise.all([order('voters-remove'), wait(lateMs).then(() => order('voters-add'))]);
    await eventually(`v2 votes, asked for after ${lateMs} ms`, async () => {
      const view = await votersOf(tested, ['v1']);
      return view.change === null && view.voters.every(({ standing, online }) => standing === 'votes' && online);
    });
  }
  await tested.write('again', 'v1');
  await tested.command({ name: 'commit', message: 'both votes count' }, { follow: true, peers: ['v1'], patienceMs });
});

test('a member and a voter that were away when they were removed hear of it and stop for good', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 1 });
  const controller = controllerOf(await tested.until('a controller', (view) => view.controller !== null));
  const voter = tested.names.find((name) => name !== 'm1' && name !== controller) ?? '';
  for (const name of ['m1', voter]) await tested.peer(name).kill();
  const there = tested.names.filter((name) => name !== 'm1' && name !== voter);
  for (const host of ['m1', voter]) {
    await tested.command({ name: 'peers-remove', host }, { follow: true, peers: there, patienceMs });
  }
  for (const name of ['m1', voter]) {
    tested.peer(name).start();
    await eventually(`${name} ends`, async () => tested.peer(name).state() === 'stopped');
    assert.equal(tested.peer(name).crashed(), 'exit status 4');
  }
});

test('a voter that was away while all others were replaced hears the new ones', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 2 });
  const away = tested.peer('v3');
  await tested.until('a first controller', ({ controller }) => controller !== null);
  await away.kill();
  const present = tested.names.filter((name) => name !== 'v3');
  await tested.until('a controller', ({ controller }) => controller === 'v1' || controller === 'v2', present);
  const replace = async (host: string, by: string, peers: readonly string[]): Promise<void> => {
    await tested.command({ name: 'voters-replace', host, by }, { follow: true, peers, patienceMs });
    const others = present.filter((name) => name !== host);
    await eventually(`${by} votes`, async () => standings(await votersOf(tested, others)).includes(`${by} votes`));
  };
  await replace('v1', 'm1', ['v2']);
  await replace('v2', 'm2', ['m1']);
  for (const name of ['v1', 'v2']) await tested.peer(name).kill();
  const { ledgerIndex } = await tested.until(
    'a new controller',
    ({ controller }) => controller?.startsWith('m') === true,
    ['m1', 'm2'],
  );
  away.start();
  await eventually('it is where the others are', async () => {
    const view = await tested.statusOf('v3');
    return view?.controller?.startsWith('m') === true && view.ledgerIndex >= ledgerIndex;
  });
  // Its word counts again: of three voters, one more may go.
  await tested.peer('m1').kill();
  await tested.write('again', 'm2');
  await tested.command(
    { name: 'commit', message: 'its vote counts' },
    { follow: true, peers: ['m2', 'v3'], patienceMs },
  );
});

test('a voter with a flipped bit in its log sets it aside and votes again under a new key', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 0 });
  const victim = tested.peer('v2');
  const fileOf = (file: string): string => path.join(victim.stateFolder, file);
  const before = (await votersOf(tested)).voters.find(({ name }) => name === 'v2')?.raftId;
  const keyBefore = await readFile(fileOf('voter.key'), 'utf8');
  const key = await readFile(fileOf('identity.key'), 'utf8');
  await victim.kill();
  await flipBit(fileOf('consensus'));
  victim.start();
  await eventually('it votes under a new number', async () => {
    const { voters, change } = await votersOf(tested, ['v1', 'v3']);
    const own = voters.find(({ name }) => name === 'v2');
    return change === null && own?.standing === 'votes' && own.raftId !== before && own.online;
  });
  assert.notEqual(await readFile(fileOf('voter.key'), 'utf8'), keyBefore);
  assert.equal(await readFile(fileOf('identity.key'), 'utf8'), key, 'it is the same peer');
  assert.ok(await isThere(fileOf('consensus.damaged')));
  assert.match(await readFile(victim.logFile, 'utf8'), /sets its log aside/);
  const notices = check(noticesViewSchema, await tested.command({ name: 'notices', after: 0, follow: false }));
  assert.ok(notices.notices.some(({ text, level }) => level === 'failure' && /^v2 lost what it knew/.test(text)));
  await tested.peer('v3').kill();
  await tested.write('again', 'v1');
  await tested.command(
    { name: 'commit', message: 'its vote counts' },
    { follow: true, peers: ['v1', 'v2'], patienceMs },
  );
});

test('a voter and a member with a damaged ledger make it anew, and the voter keeps its vote', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 1 });
  const before = (await votersOf(tested)).voters.find(({ name }) => name === 'v2')?.raftId;
  const { head } = (await tested.statusOf('v1')) ?? assert.fail('no status');
  for (const name of ['v2', 'm1']) {
    const victim = tested.peer(name);
    await victim.kill();
    const ledger = path.join(victim.stateFolder, 'ledger');
    const manifest = (await readdir(ledger)).find((file) => file.startsWith('MANIFEST'));
    await truncate(path.join(ledger, manifest ?? assert.fail('no manifest')));
    victim.start();
    await tested.until(`${name} has the ledger again`, (view) => view.controller !== null && view.head === head, [
      name,
    ]);
    assert.ok(await isThere(`${ledger}.damaged`));
  }
  const own = (await votersOf(tested)).voters.find(({ name }) => name === 'v2');
  assert.deepEqual([own?.raftId, own?.standing], [before, 'votes'], 'its log was whole');
});

/** Flips a bit in the middle of the newest of LevelDB's logs that holds entries. */
async function flipBit(folder: string): Promise<void> {
  const logs = (await readdir(folder)).filter((name) => name.endsWith('.log')).toSorted();
  const file = path.join(folder, logs.at(-1) ?? assert.fail('no log'));
  const bytes = await readFile(file);
  assert.ok(bytes.byteLength > 4_096, `${bytes.byteLength} bytes in ${logs}`);
  const middle = Math.floor(bytes.byteLength / 2);
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  await writeFile(file, bytes);
}
