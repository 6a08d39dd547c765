// Liveness by a clock that tests move: how often is asked, and when a silent side is given up.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Connection } from '../../node/mesh/host.ts';
import { createLiveness } from '../../node/mesh/liveness.ts';
import { streamPair } from '../control/streams.ts';
import { createManualClock } from '../helpers/manual-clock.ts';

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await nextTurn();
}

/** Two ends of one connection: `a` asks, since its id is smaller. Either may have many more connections. */
async function connect(connections: { readonly asker: number; readonly answerer: number }) {
  const clock = createManualClock();
  const [near, far] = streamPair('a', 'b');
  const stopping = new AbortController();
  const dropped: string[] = [];
  let answers = 0;
  let isFrozen = false;
  const end = (self: string, count: number) =>
    createLiveness({
      self,
      clock,
      addresses: () => [],
      connectionCount: () => count,
      open: async () => near,
      drop: (_connection, reason) => dropped.push(`${self}: ${reason.message}`),
      onNoMesh: () => undefined,
      onAddresses: () => undefined,
    });
  const [asker, answerer] = [end('a', connections.asker), end('b', connections.answerer)];
  const connectionTo = (peer: string) => ({ remotePeer: peer }) as unknown as Connection;
  const [toB, toA] = [connectionTo('b'), connectionTo('a')];
  answerer.watch(toA, () => undefined, stopping.signal);
  answerer
    .serve({ ...far, send: async (bytes) => (isFrozen ? undefined : far.send(bytes)) }, toA)
    .catch(() => undefined);
  const onAnswer = () => {
    answers += 1;
  };
  asker.watch(toB, onAnswer, stopping.signal);
  await settle();
  return {
    dropped,
    answers: () => answers,
    freeze: () => {
      isFrozen = true;
    },
    async advance(seconds: number): Promise<void> {
      for (let second = 0; second < seconds; second += 1) {
        clock.advance(1_000);
        await settle();
      }
    },
    stop: () => stopping.abort(),
  };
}

test('createLiveness() asks every five seconds where both sides have few connections', async () => {
  const { advance, answers, dropped, stop } = await connect({ asker: 3, answerer: 3 });
  await advance(60);
  assert.equal(answers(), 13);
  assert.deepEqual(dropped, []);
  stop();
});

for (const [title, connections] of [
  ['answers', { asker: 1, answerer: 1_000 }],
  ['asks', { asker: 1_000, answerer: 1 }],
] as const) {
  test(`createLiveness() asks seldom where the side that ${title} has a thousand connections`, async () => {
    const { advance, answers, dropped, stop } = await connect(connections);
    await advance(150);
    assert.equal(answers(), 4, 'at once, and each 50 s');
    assert.deepEqual(dropped, []);
    stop();
  });
}

test('createLiveness() gives a side up that does not answer, within a pause and the time for an answer', async () => {
  const { advance, freeze, dropped, stop } = await connect({ asker: 1, answerer: 1_000 });
  await advance(50);
  freeze();
  await advance(49);
  assert.deepEqual(dropped, []);
  await advance(8);
  assert.match(dropped[0] ?? '', /^a: 'b' was silent/);
  stop();
});
