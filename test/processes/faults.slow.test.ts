// Shows with real processes that faults of the controller lose nothing that was acknowledged, run nothing twice and let no
// deposed controller have its way: killed, stopped for a while, cut off from the others.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { seededRandom } from '../helpers/random.ts';
import { controllerOf, type ProcessFleet, peerIn, startProcessFleet } from './process-fleet.ts';

/** All these peers' repositories end at the same commit. */
async function sameHead({ fleet, headOf, until }: ProcessFleet, voters: readonly string[]): Promise<string> {
  assert.ok(fleet.peers.length > 0);
  let heads: string[] = [];
  await until('one head everywhere', (view) => view.head !== null, voters);
  for (let attempt = 0; attempt < 100; attempt += 1) {
    heads = await Promise.all(voters.map(headOf));
    if (new Set(heads).size === 1) return heads[0] ?? '';
    await wait(100);
  }
  assert.fail(`heads differ: ${heads}`);
}

const runs = (word: string) => (view: Parameters<typeof peerIn>[0]) =>
  view.peers.every(({ running }) => running?.endsWith(`-${word}`) === true);

test('a controller that is killed again and again loses no acknowledged commit and makes none twice', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 0 });
  const seed = 20_261_121;
  const random = seededRandom(seed);
  const acknowledged: string[] = [];
  for (let round = 1; round <= 6; round += 1) {
    const message = `round ${round}`;
    const controller = controllerOf(await tested.until('a controller', ({ controller: name }) => name !== null));
    await tested.write(`round-${round}`, controller);
    const committed = tested.command(
      { name: 'commit', message },
      { follow: true, id: `commit-${seed}-${round}`, patienceMs: 60_000 },
    );
    await wait(400 * random());
    await tested.peer(controller).kill();
    await committed;
    acknowledged.push(message);
    await tested.fleet.startPeers([controller], t.signal);
  }
  await sameHead(tested, tested.voters);
  for (const name of tested.voters) {
    const messages = await tested.messagesOf(name);
    assert.deepEqual(messages.slice(0, acknowledged.length), acknowledged.toReversed(), `of ${name}, seed ${seed}`);
  }
});

test('a controller that stood still orders nothing when it wakes up', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 2 });
  await tested.command({ name: 'deploy', selector: '@all', keepGoing: false, commitMessage: null }, { follow: true });
  const before = await tested.until('the first system everywhere', runs('first'));
  const asleep = controllerOf(before);
  const awake = tested.names.filter((name) => name !== asleep);
  const others = tested.voters.filter((name) => name !== asleep);

  await tested.write('second', asleep);
  const second = { name: 'deploy', selector: '@all', keepGoing: false, commitMessage: 'second' } as const;
  const begun = tested.command(second, { peers: [asleep], patienceMs: 0 }).catch((error: unknown) => error);
  const isSecond = ({ desired }: { readonly desired: string | null }): boolean => desired?.endsWith('-second') === true;
  await tested.until('orders of the second system', (view) => view.peers.some(isSecond), [asleep]);
  tested.peer(asleep).pause();
  await tested.until('another controller', ({ controller }) => controller !== asleep && controller !== null, others);
  const ordered = await tested.until('the same orders', (view) => view.peers.some(isSecond), others);
  assert.ok(
    awake.some((name) => isSecond(peerIn(ordered, name))),
    'orders that will be stale',
  );
  await tested.write('third', others[0]);
  const third = { name: 'deploy', selector: awake.join(','), keepGoing: false, commitMessage: 'third' } as const;
  await tested.command(third, { peers: others, follow: true });
  const isThird = (view: typeof before): boolean =>
    awake.every((name) => peerIn(view, name).running?.endsWith('-third') === true);
  const during = await tested.until('the third system on all that are awake', isThird, others);

  tested.peer(asleep).resume();
  await begun;
  const after = await tested.until(
    'the sleeper back at the ledger of the others',
    (view) => view.controller !== null && (peerIn(view, asleep).ledgerIndex ?? 0) >= during.ledgerIndex,
  );
  assert.ok(isThird(after), JSON.stringify(after.peers));
  for (const name of awake) assert.equal(peerIn(after, name).desired, peerIn(after, name).running);
  await sameHead(tested, tested.voters);
  const messages = await tested.messagesOf(asleep);
  assert.equal(messages.filter((message) => message === 'third').length, 1);
});

test('what is told a controller that was cut off with a minority reaches no ref; the others go on', async (t) => {
  const tested = await startProcessFleet(t, { voters: 5, members: 1, isolated: true });
  const { network } = tested;
  assert.ok(network);
  const old = controllerOf(await tested.until('a controller', ({ controller }) => controller !== null));
  const minority = [old, ...tested.voters.filter((name) => name !== old).slice(0, 1)];
  const majority = tested.names.filter((name) => !minority.includes(name));
  const head = await sameHead(tested, tested.voters);

  await network.partition(minority, majority);
  await tested.write('lost', old);
  const lost = tested.command(
    { name: 'commit', message: 'lost' },
    { peers: minority, follow: true, patienceMs: 0, id: 'commit-lost' },
  );
  await assert.rejects(lost, ({ code }: { code: string }) => ['outcome-unknown', 'no-controller'].includes(code));
  await tested.until('a controller of the majority', ({ controller }) => majority.includes(controller ?? ''), majority);
  await tested.write('kept', majority[0]);
  await tested.command({ name: 'commit', message: 'kept' }, { peers: majority, follow: true });
  for (const name of minority) assert.equal(await tested.headOf(name), head, `${name} made a commit alone`);

  await network.heal();
  await tested.until('everybody back', (view) => view.peers.every(({ online }) => online));
  await sameHead(tested, tested.voters);
  assert.deepEqual((await tested.messagesOf(old)).slice(0, 1), ['kept']);
  // The same command asked again gets an answer: it was never applied, so it is now, on top of what the others did.
  await tested.write('lost', old);
  await tested.command({ name: 'commit', message: 'lost' }, { follow: true, id: 'commit-lost' });
  assert.deepEqual((await tested.messagesOf(old)).slice(0, 2), ['lost', 'kept']);
});

test('a controller that hears nobody, but is heard, gives way', async (t) => {
  const tested = await startProcessFleet(t, { voters: 3, members: 0, isolated: true });
  const { network } = tested;
  assert.ok(network);
  const deaf = controllerOf(await tested.until('a controller', ({ controller }) => controller !== null));
  const others = tested.voters.filter((name) => name !== deaf);
  for (const name of others) await network.cut(name, deaf);
  await tested.until('another controller', ({ controller }) => others.includes(controller ?? ''), others);
  await tested.write('onwards', others[0]);
  await tested.command({ name: 'commit', message: 'onwards' }, { peers: others, follow: true });
  await network.heal();
  await sameHead(tested, tested.voters);
  assert.equal((await tested.messagesOf(deaf))[0], 'onwards');
});
