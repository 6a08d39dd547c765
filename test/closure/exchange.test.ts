// Tests what a peer answers to others, right and wrong requests alike, as its neighbours see it on the wire.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { MessageStream } from '../../node/interfaces.ts';
import {
  type ClosureAnswer,
  type ClosureRequest,
  closureAnswerSchema,
  closureFrameBytes,
  closureMessageBytesMax,
  closureProtocol,
  fromBitmap,
  toBitmap,
} from '../../protocols/closure-exchange.ts';
import { decode, encode, hashOf } from '../../protocols/codec.ts';
import { type Fleet, makeStore, readNar, removeStore, required, type StoreFixture, startFleet } from './fleet.ts';

let store: StoreFixture;
let fleet: Fleet;

before(async () => {
  store = await makeStore([600_000, 1, 0, 70_000]);
  fleet = await startFleet(store, { home: 2, shop: 1 });
});
after(async () => {
  await fleet.stop();
  await removeStore(store);
});

async function openTo(peer: string, from: string): Promise<MessageStream> {
  return await fleet.mesh(from).open(peer, closureProtocol, { signal: new AbortController().signal });
}

async function nextOf(stream: MessageStream): Promise<ClosureAnswer> {
  return decode(closureAnswerSchema, required(await stream.receive()), closureMessageBytesMax);
}

async function ask(stream: MessageStream, request: ClosureRequest): Promise<ClosureAnswer[]> {
  await stream.send(encode(request));
  const answers: ClosureAnswer[] = [];
  for (;;) {
    const answer = await nextOf(stream);
    if (answer.kind !== 'waiting') answers.push(answer);
    if (answer.kind === 'held' || answer.kind === 'trailer' || answer.kind === 'error') return answers;
  }
}

function send(kind: 'fetch' | 'gather', ordinal: number, offset = 0, manifest = store.manifestHash): ClosureRequest {
  return { kind, unit: 'path', manifest, ordinal, offset, partial: false };
}

function errorCode(answers: readonly ClosureAnswer[]): string | undefined {
  const last = answers.at(-1);
  return last?.kind === 'error' ? last.error.code : undefined;
}

test('have names what the peer holds among the asked paths and nothing beyond the manifest', async () => {
  const stream = await openTo('home-1', 'shop-1');
  const ordinals = toBitmap([0, 2, 4_000], 4_001);
  const [held] = await ask(stream, { kind: 'have', unit: 'path', manifest: store.manifestHash, ordinals });
  assert.ok(held?.kind === 'held');
  assert.deepEqual(fromBitmap(held.ordinals, 4_001), [0, 2]);
  assert.deepEqual(fromBitmap(held.arriving, 4_001), []);
  const empty = await openTo('home-2', 'shop-1');
  const [nothing] = await ask(empty, { kind: 'have', unit: 'path', manifest: store.manifestHash, ordinals });
  assert.ok(nothing?.kind === 'held');
  assert.deepEqual(fromBitmap(nothing.ordinals, 4_001), []);
});

test('fetch sends header, frames and trailer from any offset, several times on one stream', async () => {
  const stream = await openTo('home-1', 'shop-1');
  for (const [ordinal, path] of store.manifest.paths.entries()) {
    const nar = await readNar(`${store.storeFolder}${path.storePath}`);
    for (const offset of [0, 1, path.narSize - 1, path.narSize]) {
      const answers = await ask(stream, send('fetch', ordinal, offset));
      assert.deepEqual(answers[0], { kind: 'header', size: path.narSize, offset });
      assert.deepEqual(answers.at(-1), { kind: 'trailer', complete: true });
      const frames = answers.slice(1, -1).map((answer) => (answer.kind === 'data' ? answer.bytes : new Uint8Array()));
      assert.ok(frames.every((frame) => frame.byteLength > 0 && frame.byteLength <= closureFrameBytes));
      assert.equal(Buffer.compare(Buffer.concat(frames), nar.subarray(offset)), 0);
    }
  }
});

test('requests that cannot be served end in an error and leave the stream usable', async () => {
  const stream = await openTo('home-1', 'shop-1');
  assert.equal(errorCode(await ask(stream, send('fetch', 0, 0, hashOf('unknown')))), 'manifest-unknown');
  assert.equal(errorCode(await ask(stream, send('fetch', 99))), 'malformed');
  assert.equal(errorCode(await ask(stream, send('fetch', 0, 10_000_000))), 'malformed');
  assert.equal(errorCode(await ask(stream, send('gather', 0))), 'wrong-site');
  assert.equal(errorCode(await ask(stream, send('fetch', 0))), undefined);
  const empty = await openTo('home-2', 'shop-1');
  assert.equal(errorCode(await ask(empty, send('fetch', 0))), 'not-held');
});

test('gather makes a site peer bring a path that it lacks, and keep it', async () => {
  const stream = await openTo('home-2', 'home-1');
  const answers = await ask(stream, send('gather', 1));
  assert.deepEqual(answers.at(-1), { kind: 'trailer', complete: true });
  const ordinals = toBitmap([0, 1], 2);
  const [held] = await ask(stream, { kind: 'have', unit: 'path', manifest: store.manifestHash, ordinals });
  assert.ok(held?.kind === 'held');
  assert.deepEqual(fromBitmap(held.ordinals, 2), [1]);
});

test('malformed, oversized and truncated requests reset their stream and nothing else', async () => {
  const seed = Date.now() % 1_000_000;
  console.log(`seed ${seed}`);
  const random = createRandom(seed);
  const valid = encode(send('fetch', 0));
  for (let round = 0; round < 300; round += 1) {
    const stream = await openTo('home-1', 'shop-1');
    const message = mutate(valid, random);
    try {
      await stream.send(message);
      await stream.close();
      for (let answers = 0; answers < 20 && (await stream.receive()) !== undefined; answers += 1);
    } catch (error) {
      assert.match(String(error), /stream/);
    }
    stream.abort(new Error('next'));
  }
  const stream = await openTo('home-1', 'shop-1');
  assert.deepEqual((await ask(stream, send('fetch', 0))).at(-1), { kind: 'trailer', complete: true });
  const held = { kind: 'held', ordinals: new Uint8Array(9_000), arriving: new Uint8Array(), partials: [] };
  assert.throws(() => decode(closureAnswerSchema, encode(held), closureMessageBytesMax), /at most 6250 bytes/);
});

/** Mulberry32: small, seeded, good enough to shuffle bytes. */
function createRandom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function mutate(valid: Uint8Array, random: (below: number) => number): Uint8Array {
  const kind = random(4);
  if (kind === 0) return Uint8Array.from({ length: random(200) }, () => random(256));
  if (kind === 1) return valid.slice(0, random(valid.byteLength));
  if (kind === 2) return new Uint8Array(closureMessageBytesMax).fill(random(256));
  const copy = Uint8Array.from(valid);
  for (let change = 0; change <= random(4); change += 1) copy[random(copy.byteLength)] = random(256);
  return copy;
}
