// Handshakes come a few at a time, so that a storm of them leaves the event loop to others.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createTurns } from '../../node/mesh/bounded-noise.ts';
import { newPeer, startTogether, within } from './fixtures.ts';

const longMs = 60_000;

test('createTurns() lets so many go on together, and the others in their order', async () => {
  const turns = createTurns(2, longMs);
  const begun: number[] = [];
  const ends = [0, 1, 2, 3].map(async (number) => {
    const end = await turns.next();
    begun.push(number);
    return end;
  });
  await nextTurn();
  assert.deepEqual(begun, [0, 1]);
  const [first] = ends;
  (await first)?.();
  (await first)?.();
  await nextTurn();
  assert.deepEqual(begun, [0, 1, 2], 'one that ends twice makes room for one');
});

test('createTurns() passes over who has given up, and goes on after a turn that takes too long', async () => {
  const turns = createTurns(1, 20);
  await turns.next();
  const impatient = new AbortController();
  const given = assert.rejects(turns.next(impatient.signal), /enough/);
  const patient = turns.next(within().signal);
  impatient.abort(new Error('enough'));
  await given;
  (await patient)();
});

test('a mesh reads small messages that come in one piece and in many', async (t) => {
  const [a, b] = [newPeer(t), newPeer(t)];
  b.mesh.handle('/parley/echo/1', async (stream) => {
    for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
      await stream.send(message);
    }
  });
  await startTogether([a, b]);
  const stream = await a.mesh.open(b.mesh.self, '/parley/echo/1', within());
  for (const length of [0, 1, 2, 1_199, 1_200, 70_000, 3]) {
    const message = new Uint8Array(length).fill(length % 251);
    await stream.send(message);
    assert.deepEqual(await stream.receive(within()), message);
  }
});
