// The last look before an order is armed: who is asked, whose word counts, what a no and silence do; and that nothing is done
// before a certificate covers the order.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { serveOrderQuestions } from '../../node/device/order-question.ts';
import { systemClock } from '../../node/host/clock.ts';
import type { Clock } from '../../node/interfaces.ts';
import { decode, encode } from '../../protocols/codec.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import {
  type OrderAnswer,
  type OrderQuestion,
  orderQuestionBytesMax,
  orderQuestionProtocol,
  orderQuestionSchema,
} from '../../protocols/order-question.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { addPeer, begin, carryOut, host, identityOf, makeWorld, type Run, system, type World } from './world.ts';

const fresh = system('new');

/** Makes peers voters; the device is none of them. */
function elect(world: World, peers: readonly string[]): void {
  const voters = peers.map((peer, at) => ({ raftId: at + 1, peer, key: peer }));
  world.apply({ voterSet: { generation: 0, index: 1, voters, votersOutgoing: [] } });
}

/** A voter that answers as every peer does, from a ledger of its own. */
async function addVoter(
  world: World,
  number: number,
  state: () => LedgerState = () => world.state,
  clock: Clock = systemClock,
): Promise<string> {
  const peer = await addPeer(world, number);
  const mesh = world.network.join(peer);
  await mesh.start();
  const ledger = {
    ...{ state, onApplied: () => () => {}, fetchBlob: async () => new Uint8Array() },
    ...{ certification: () => ({ certifiedIndex: () => 0 }), onCertified: () => () => {} },
  };
  serveOrderQuestions({ mesh, ledger, clock });
  mesh.handle('/hello', async () => {});
  return peer;
}

/** A voter that answers as it likes. */
async function addOddVoter(
  world: World,
  number: number,
  answer: (question: OrderQuestion) => Partial<OrderAnswer & { readonly kind: 'answer' }>,
): Promise<string> {
  const peer = await addVoter(world, number);
  const mesh = world.network.join(peer);
  await mesh.start();
  mesh.handle('/hello', async () => {});
  mesh.handle(orderQuestionProtocol, async (stream) => {
    const question = decode(orderQuestionSchema, (await stream.receive()) ?? new Uint8Array(), orderQuestionBytesMax);
    const { nonce, generation, number: asked } = question;
    const good = { kind: 'answer', nonce, isCurrent: true, generation, number: asked, ledgerIndex: 1 };
    await stream.send(encode({ ...good, ...answer(question) }));
    await stream.close();
  });
  return peer;
}

async function linesOf(run: Run, order: number): Promise<string> {
  const lines: string[] = [];
  const signal = AbortSignal.timeout(5_000);
  const { peer } = identityOf(1);
  for await (const { text } of run.journal.readLogs({ peer, task: `t${order}/${host}`, follow: true, signal })) {
    lines.push(text);
  }
  return lines.join('\n');
}

test('an order is armed once a majority of the voters confirms it', async (t) => {
  const { world, run } = await begin(t, async (made) => {
    elect(made, [await addVoter(made, 2), await addVoter(made, 3), identityOf(4).peer]);
  });
  assert.equal((await carryOut(world, run)).outcome, 'succeeded');
  assert.match(await linesOf(run, 7), /2 of 3 voters say that the order is the newest one$/m);
});

test('voters that cannot be reached never block an order', async (t) => {
  const { world, run } = await begin(t, (made) =>
    elect(
      made,
      [2, 3, 4].map((number) => identityOf(number).peer),
    ),
  );
  assert.equal((await carryOut(world, run)).outcome, 'succeeded');
  assert.match(await linesOf(run, 7), /0 of 3 voters say .*the others could not be reached/);
});

test('a voter that never answers costs its time and no more', async (t) => {
  const { world, run } = await begin(t, async (made) => {
    const silent = await addVoter(made, 2);
    made.network.mute(silent);
    elect(made, [silent]);
  });
  assert.equal((await carryOut(world, run)).outcome, 'succeeded');
});

test('the no of a voter that knows a newer order holds the old one until that has come', async (t) => {
  let newer: LedgerState | undefined;
  const asked = Promise.withResolvers<void>();
  const { world, run } = await begin(t, async (made) => {
    const state = () => {
      if (newer !== undefined) asked.resolve();
      return newer ?? made.state;
    };
    const slow = await addVoter(made, 3);
    elect(made, [await addVoter(made, 2, state), slow, identityOf(4).peer]);
    made.onFetch = async () => {
      // While the device fetches, the others agree on a newer order that it does not know yet.
      const order = made.state.orders[host] ?? assert.fail();
      const next = { ...order, number: 9, closure: system('newer') };
      if (order.number === 7) newer ??= { ...made.state, index: 50, orders: { [host]: next } };
    };
  });
  world.order(7, fresh);
  await asked.promise;
  for (let turns = 0; turns < 20; turns += 1) await turn();
  assert.ok(!world.calls.includes('test new'), 'nothing was switched');
  world.state = { ...world.state, index: 49 };
  newer = undefined;
  world.order(9, system('newer'));
  assert.equal((await run.ended(7))?.outcome, 'superseded');
  assert.equal((await run.ended(9))?.outcome, 'succeeded');
  assert.deepEqual(world.calls, ['test newer', 'boot newer']);
});

test('a voter that answers something else is as good as none', async (t) => {
  let odd: (question: OrderQuestion) => Partial<OrderAnswer & { readonly kind: 'answer' }> = () => ({});
  const { world, run } = await begin(t, async (made) => {
    elect(made, [await addOddVoter(made, 2, (question) => odd(question))]);
  });
  for (const [number, answer] of [
    [8, { nonce: new Uint8Array(32) }],
    [9, { number: -1 }],
  ] as const) {
    odd = () => answer;
    assert.equal((await carryOut(world, run, number, system(`n${number}`))).outcome, 'succeeded');
    assert.match(await linesOf(run, number), /0 of 1 voters/, `${number}`);
  }
  odd = () => ({});
  await carryOut(world, run, 10, system('n10'));
  assert.match(await linesOf(run, 10), /1 of 1 voters/);
});

test('a majority that is there and does not know the order holds it until it does', async (t) => {
  let questions = 0;
  const askedTwice = Promise.withResolvers<void>();
  let behind: LedgerState | undefined;
  const { world, run } = await begin(t, async (made) => {
    const lagging = () => {
      questions += 1;
      if (questions === 2) askedTwice.resolve();
      return behind ?? made.state;
    };
    elect(made, [await addVoter(made, 2), await addVoter(made, 3, lagging), identityOf(4).peer]);
    behind = made.state;
  });
  world.order(7, fresh);
  await askedTwice.promise;
  for (let turns = 0; turns < 20; turns += 1) await turn();
  assert.deepEqual(world.calls, [], 'nothing was switched');
  assert.equal(world.slot()?.state, 'rooted');
  behind = undefined;
  assert.equal((await run.ended(7))?.outcome, 'succeeded');
  assert.match(await linesOf(run, 7), /1 of 3 voters say that the order is the newest one, and 1 do not/);
});

test('an order that a majority never confirms can still be withdrawn', async (t) => {
  const { world, run } = await begin(t, async (made) => {
    elect(made, [await addOddVoter(made, 2, () => ({ isCurrent: false, number: 0, ledgerIndex: 1 }))]);
  });
  const order = world.order(7, fresh);
  while (run.device.activity()?.text.startsWith('waiting until') !== true) await turn();
  world.apply({ orders: { [host]: { ...order, cancelled: true } } });
  assert.equal((await run.ended(7))?.outcome, 'cancelled');
  assert.deepEqual(world.calls, []);
});

test('a voter with two raft ids, while the voters change, confirms with both', async (t) => {
  const { world, run } = await begin(t, async (made) => {
    const [second, third] = [await addVoter(made, 2), identityOf(3).peer];
    const voter = (raftId: number, peer: string) => ({ raftId, peer, key: peer });
    const sets = { voters: [voter(2, second)], votersOutgoing: [voter(1, second), voter(3, third), voter(2, second)] };
    made.apply({ voterSet: { generation: 0, index: 1, ...sets } });
  });
  await carryOut(world, run);
  assert.match(await linesOf(run, 7), /1 of 2 voters say that the order is the newest one$/m);
});

for (const { what, change, frozen, outcome, reason } of [
  {
    what: 'the fleet has gone on without in a new generation',
    change: { generation: 1, orders: {} },
    frozen: undefined,
    outcome: 'superseded',
    reason: /^generation 1 of the fleet knows this order no more$/,
  },
  {
    what: 'a peer that is frozen had accepted',
    change: {},
    frozen: 'two records of one generation',
    outcome: 'refused',
    reason: /frozen.*two records of one generation/,
  },
]) {
  test(`an order that ${what} ends unarmed`, async (t) => {
    const world = await makeWorld(t);
    const fetching = Promise.withResolvers<void>();
    world.onFetch = (signal) => {
      fetching.resolve();
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
    const before = await world.start();
    world.order(7, fresh);
    await fetching.promise;
    await before.stop();
    world.onFetch = async () => {};
    world.apply(change);
    const run = await world.start({ frozen });
    t.after(() => run.stop());
    const end = await run.ended(7);
    assert.equal(end?.outcome, outcome);
    assert.match(end?.reason ?? '', reason);
    assert.deepEqual(world.calls, []);
  });
}

test('a peer that is frozen takes up no order', async (t) => {
  const world = await makeWorld(t);
  const run = await world.start({ frozen: 'two records of one generation' });
  t.after(() => run.stop());
  world.order(7, fresh);
  // Taking an order up writes to the journal's files.
  for (let turns = 0; turns < 2_000; turns += 1) await turn();
  assert.equal(world.slot(), undefined);
});

test('a device does nothing about an order before a certificate covers it', async (t) => {
  const { world, run } = await begin(t, (made) => {
    made.certifiedIndex = 6;
  });
  world.order(7, fresh);
  for (let turns = 0; turns < 20; turns += 1) await turn();
  assert.equal(world.slot(), undefined);
  assert.deepEqual(world.calls, []);
  world.certify(7);
  assert.equal((await run.ended(7))?.outcome, 'succeeded');
});

test('serveOrderQuestions() waits for no question longer than an asker would for the answer', async (t) => {
  const world = await makeWorld(t);
  const clock = createManualClock();
  const voter = await addVoter(world, 2, undefined, clock);
  const mesh = world.network.join(await addPeer(world, 3));
  await mesh.start();
  const stream = await mesh.open(voter, orderQuestionProtocol, { signal: AbortSignal.timeout(5_000) });
  const ended = assert.rejects(stream.receive({ signal: AbortSignal.timeout(5_000) }), { code: 'stream-closed' });
  clock.advance(3_000);
  await ended;
});
