import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createBeats } from '../../node/control/beats.ts';
import { mergeAsync } from '../../node/control/merge-async.ts';
import { createPresence } from '../../node/control/presence.ts';
import type { Clock, ConnectedPeer, MessageStream } from '../../node/interfaces.ts';
import { type Beat, beatPeriodMs, beatProtocol, beatSchema } from '../../protocols/beat.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { buildState, memberOf, peerId, sampleBeat, silentLogger } from './helpers.ts';
import { streamPair } from './streams.ts';

/** A clock that stands still until it is moved. */
function manualClock(): Clock & { advance(byMs: number): void } {
  let now = 1_000_000;
  let timers: { readonly call: () => void; dueMs: number; readonly periodMs: number | undefined }[] = [];
  const add = (delayMs: number, call: () => void, periodMs?: number) => {
    const timer = { call, dueMs: now + delayMs, periodMs };
    timers.push(timer);
    return () => {
      timers = timers.filter((each) => each !== timer);
    };
  };
  return {
    nowMs: () => now,
    monotonicMs: () => now,
    after: (delayMs, call) => add(delayMs, call),
    every: (periodMs, call) => add(periodMs, call, periodMs),
    advance(byMs) {
      const endMs = now + byMs;
      for (;;) {
        const next = timers.filter((timer) => timer.dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs)[0];
        if (next === undefined) break;
        now = Math.max(now, next.dueMs);
        if (next.periodMs === undefined) timers = timers.filter((timer) => timer !== next);
        else next.dueMs += next.periodMs;
        next.call();
      }
      now = endMs;
    },
  };
}

const hub = memberOf('hub', ['voter']);
const web = memberOf('web1', ['member']);
const state = buildState({ members: [hub, web] });

function buildMesh(self: string) {
  let onPeer: (peer: string, connected: boolean) => void = () => undefined;
  let handler: (stream: MessageStream) => Promise<void> = async () => undefined;
  let connected: ConnectedPeer[] = [];
  return {
    self,
    connectedPeers: () => connected,
    onPeerChange: (listener: typeof onPeer) => {
      onPeer = listener;
      return () => undefined;
    },
    handle: (_protocol: string, given: typeof handler) => {
      handler = given;
    },
    connect(peer: string, isConnected: boolean) {
      connected = isConnected ? [{ peer, addresses: [] }] : [];
      onPeer(peer, isConnected);
    },
    serve: (stream: MessageStream) => handler(stream),
  };
}

function startPresence() {
  const clock = manualClock();
  const mesh = buildMesh(hub.peer);
  const presence = createPresence({ mesh, ledger: { state: () => state }, clock, logger: silentLogger });
  presence.start();
  const changes: string[] = [];
  const turns: boolean[] = [];
  presence.onChange((peer, turned) => {
    changes.push(`${peer === web.peer ? 'web1' : peer} ${presence.of(peer).online}`);
    if (turned) turns.push(presence.of(peer).online);
  });
  return { clock, mesh, presence, changes, turns };
}

test('createPresence() says who is online by connections, with a grace for those that come back', () => {
  const { clock, mesh, presence, changes } = startPresence();
  assert.deepEqual(presence.of(web.peer), { online: false, lastSeenMs: null, beat: null });
  assert.equal(presence.of(hub.peer).online, true);
  mesh.connect(web.peer, true);
  assert.equal(presence.of(web.peer).online, true);
  mesh.connect(web.peer, false);
  assert.equal(presence.of(web.peer).online, true);
  clock.advance(5_100);
  assert.equal(presence.of(web.peer).online, false);
  assert.deepEqual(changes, ['web1 true', 'web1 true', 'web1 false']);
});

test('createPresence() tells beats from peers that come and go', async () => {
  const { clock, mesh, changes, turns } = startPresence();
  mesh.connect(web.peer, true);
  const [near, far] = streamPair(web.peer, hub.peer);
  const serving = mesh.serve({ ...far, peer: web.peer });
  await near.send(encode(sampleBeat));
  await near.close();
  await serving;
  assert.deepEqual(turns, [true]);
  clock.advance(4 * beatPeriodMs);
  assert.deepEqual(turns, [true, false], 'its beats have stopped');
  assert.equal(changes.length, 3);
});

test('createPresence() takes a connected peer whose beats have stopped for absent', async () => {
  const { clock, mesh, presence } = startPresence();
  mesh.connect(web.peer, true);
  const [near, far] = streamPair(web.peer, hub.peer);
  const serving = mesh.serve({ ...far, peer: web.peer });
  await near.send(encode(sampleBeat));
  await near.close();
  await serving;
  assert.equal(presence.of(web.peer).beat?.journalSequence, 4);
  clock.advance(3 * beatPeriodMs - 1);
  assert.equal(presence.of(web.peer).online, true);
  clock.advance(beatPeriodMs);
  assert.equal(presence.of(web.peer).online, false);
});

test('createPresence() refuses malformed beats and forgets strangers', async () => {
  const { mesh, presence, clock } = startPresence();
  const stranger = peerId('stranger');
  for (const bytes of [encode({ version: 2 }), new Uint8Array([1, 2, 3]), encode({ ...sampleBeat, atMs: 'now' })]) {
    const [near, far] = streamPair(stranger, hub.peer);
    const serving = mesh.serve({ ...far, peer: stranger });
    await near.send(bytes);
    await assert.rejects(serving, { code: 'malformed' });
  }
  const [near, far] = streamPair(stranger, hub.peer);
  const serving = mesh.serve({ ...far, peer: stranger });
  await near.send(encode(sampleBeat));
  await near.close();
  await serving;
  assert.equal(presence.of(stranger).beat, null);
  mesh.connect(stranger, true);
  mesh.connect(stranger, false);
  clock.advance(2 * beatPeriodMs);
  assert.deepEqual(presence.of(stranger), { online: false, lastSeenMs: null, beat: null });
});

test('createBeats() beats to connected voters at once, on changes at most each 250 ms, and each period', async () => {
  const clock = manualClock();
  const mesh = buildMesh(web.peer);
  const received: Beat[] = [];
  let opened = 0;
  const taken: { resolve: () => void } = { resolve: () => undefined };
  const open = async (peer: string, protocol: string): Promise<MessageStream> => {
    assert.deepEqual([peer, protocol], [hub.peer, beatProtocol]);
    opened += 1;
    const [near] = streamPair(web.peer, peer);
    return {
      ...near,
      send: async (bytes) => {
        received.push(decode(beatSchema, bytes, 16_384));
        taken.resolve();
      },
    };
  };
  let sequence = 0;
  const own: Beat[] = [];
  const beats = createBeats({ release: '0.1.0' })({
    mesh: { ...mesh, open, connectedPeers: mesh.connectedPeers },
    ledger: { state: () => state },
    clock,
    logger: silentLogger,
    facts: () => ({
      incarnation: 1,
      journalSequence: sequence,
      running: null,
      booted: null,
      activity: null,
      traffic: {},
    }),
    recordOwn: (each) => own.push(each),
  });
  const next = () =>
    new Promise<void>((resolve) => {
      taken.resolve = resolve;
    });
  mesh.connect(hub.peer, true);
  await beats.start();
  let arrived = next();
  clock.advance(0);
  await arrived;
  arrived = next();
  for (sequence = 1; sequence < 5; sequence += 1) beats.changed();
  clock.advance(249);
  assert.equal(received.length, 1);
  clock.advance(1);
  await arrived;
  assert.deepEqual(
    received.map((each) => each.journalSequence),
    [0, 5],
  );
  arrived = next();
  clock.advance(beatPeriodMs);
  await arrived;
  assert.equal(received.length, 3);
  assert.equal(opened, 1);
  assert.equal(own.length, 3);
  const before = own.length;
  mesh.connect(peerId('web2'), true);
  clock.advance(1_000);
  assert.equal(own.length, before, 'a member that comes is no reason to beat');
  await beats.stop();
});

test('mergeAsync() gives the items of all sequences, ends with the last, and stops when it is aborted', async () => {
  async function* count(from: number, to: number) {
    for (let at = from; at < to; at += 1) yield at;
  }
  const merged = mergeAsync<number>(new AbortController().signal);
  merged.add(count(0, 3));
  merged.add(count(10, 12));
  const items: number[] = [];
  for await (const item of merged.items()) {
    items.push(item);
    if (item === 11) merged.add(count(20, 22));
  }
  assert.deepEqual(
    items.sort((a, b) => a - b),
    [0, 1, 2, 10, 11, 20, 21],
  );
  const stop = new AbortController();
  const endless = mergeAsync<number>(stop.signal);
  endless.add(count(0, Number.POSITIVE_INFINITY));
  let taken = 0;
  for await (const _ of endless.items()) if (++taken === 100) stop.abort();
  assert.equal(taken, 100);
});

test('mergeAsync() passes the error of a sequence on', async () => {
  const merged = mergeAsync<number>(new AbortController().signal);
  merged.add(
    (async function* () {
      yield 1;
      throw new Error('broken');
    })(),
  );
  await assert.rejects(async () => {
    for await (const _ of merged.items());
  }, /broken/);
});
