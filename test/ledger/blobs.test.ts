// Bodies named by hash: fetched from whoever has them, brought to a majority, refused when they are not what they should
// be.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Mesh, MessageStream } from '../../node/interfaces.ts';
import { serveBlobs } from '../../node/ledger/blob-server.ts';
import { blobAnswerSchema, blobMessageBytesMax, blobProtocol } from '../../protocols/blob-exchange.ts';
import { decode, encode, sha256Hex } from '../../protocols/codec.ts';
import { blobBytesMax } from '../../protocols/limits.ts';
import { Gate } from '../helpers/gate.ts';
import { createLedgerFleet, patient } from '../helpers/ledger-peers.ts';
import { hash, peerIdOf } from '../helpers/ledger-script.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { seededRandom } from '../helpers/random.ts';
import { logger } from '../mesh/fixtures.ts';

const body = (size: number, fill = 1): Uint8Array => new Uint8Array(size).fill(fill);

test('fetchBlob() gets a blob from a voter, checks it and keeps it', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  const bytes = body(3_000_000);
  const name = await n1.blobs.put(bytes);
  assert.deepEqual(await web1.ledger.fetchBlob(name, { signal: patient() }), bytes);
  fleet.network.kill(n1.peer);
  assert.deepEqual(await web1.ledger.fetchBlob(name, { signal: patient() }), bytes);
});

test('kept() of a voter counts what nobody gives, and tells when it has come', async (t) => {
  const fleet = await createLedgerFleet(t);
  const clock = createManualClock();
  const n1 = await fleet.add('n1', 'consensus', { clock });
  const bytes = body(1_000);
  const draft = { base: null, tree: 'a'.repeat(40), pack: sha256Hex(bytes), files: [], fileCount: 0, previous: null };
  await fleet.propose('draft-staged', draft);
  let told = 0;
  n1.ledger.onKept(() => {
    told += 1;
  });
  async function lookUntil(lacking: number): Promise<void> {
    const giveUp = patient();
    while (n1.ledger.kept()?.lacking !== lacking) {
      giveUp.throwIfAborted();
      clock.advance(1_000);
      await nextTurn();
    }
  }
  await lookUntil(1);
  assert.equal(n1.ledger.kept()?.index, n1.ledger.state().index);
  assert.equal(told, 1);
  await n1.blobs.put(bytes);
  await lookUntil(0);
  assert.equal(told, 2);
});

test('createLedger() of a new voter gathers the blobs that its ledger names', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const pack = await n1.blobs.put(body(1_000));
  const draft = { base: null, tree: 'a'.repeat(40), pack, files: [], fileCount: 0, previous: null };
  await fleet.propose('draft-staged', draft);
  await fleet.enrol('n2', ['voter']);
  const n2 = await fleet.add('n2', 'consensus');
  const giveUp = patient();
  while (!(await n2.blobs.has(pack))) {
    giveUp.throwIfAborted();
    await nextTurn();
  }
});

test('fetchBlob() takes empty blobs and blobs of exactly one part', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  for (const size of [0, 1, 256 * 1024, 256 * 1024 + 1]) {
    const name = await n1.blobs.put(body(size));
    assert.equal((await web1.ledger.fetchBlob(name, { signal: patient() })).byteLength, size);
  }
});

test('fetchBlob() says so when nobody has the blob', async (t) => {
  const fleet = await createLedgerFleet(t);
  await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await assert.rejects(web1.ledger.fetchBlob(hash('nothing'), { signal: patient() }), {
    code: 'blob-unavailable',
    retryable: true,
  });
  const gone = AbortSignal.abort(new Error('enough'));
  await assert.rejects(web1.ledger.fetchBlob(hash('nothing'), { signal: gone }), /enough/);
});

test('fetchBlob() passes by a peer that sends something else, and takes it from the next', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  const liar = fleet.network.join(peerIdOf('liar'));
  let asked = 0;
  liar.handle(blobProtocol, async (stream) => {
    asked += 1;
    await stream.receive();
    await stream.send(encode({ kind: 'found', bytes: 5 }));
    await stream.send(encode({ kind: 'part', data: body(5, 9) }));
    await stream.close();
  });
  await liar.start();
  t.after(() => liar.stop());
  const name = await n1.blobs.put(body(5, 1));
  const peers = [peerIdOf('liar'), peerIdOf('nobody'), n1.peer];
  assert.deepEqual(await web1.ledger.fetchBlob(name, { signal: patient(), peers }), body(5, 1));
  assert.equal(asked, 1);
});

test('fetchBlob() survives truncated, endless and senseless answers', async (t) => {
  const fleet = await createLedgerFleet(t);
  await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  const seed = Number(process.env.SEED ?? 11);
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const good = [
    { kind: 'found', bytes: 600_000 },
    { kind: 'part', data: body(200_000) },
    { kind: 'part', data: body(250_000) },
  ];
  const liar = fleet.network.join(peerIdOf('liar'));
  liar.handle(blobProtocol, async (stream) => {
    await stream.receive();
    for (const message of [...good, ...good.slice(1), { kind: 'stored' }]) {
      const bytes = Uint8Array.from(encode(message));
      if (random() < 0.3) bytes[Math.floor(random() * 40)] = Math.floor(random() * 256);
      await stream.send(random() < 0.2 ? bytes.subarray(0, Math.floor(random() * bytes.length)) : bytes);
      if (random() < 0.1) break;
    }
    await stream.close();
  });
  await liar.start();
  t.after(() => liar.stop());
  for (let number = 0; number < 25; number += 1) {
    const asked = web1.ledger.fetchBlob(hash(`blob ${number}`), { signal: patient(), peers: [peerIdOf('liar')] });
    await assert.rejects(asked, { code: 'blob-unavailable' });
  }
  assert.deepEqual(await web1.blobs.list(), []);
});

test('fetchBlob() that waits for its turn ends with its signal, and leaves its turn to the others', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  const slow = fleet.network.join(peerIdOf('slow'));
  const release = new AbortController();
  let asked = 0;
  slow.handle(blobProtocol, async (stream) => {
    asked += 1;
    await stream.receive({ signal: release.signal });
    await stream.receive({ signal: release.signal });
  });
  await slow.start();
  t.after(() => slow.stop());
  const fetchSlow = (count: number) =>
    web1.ledger.fetchBlob(hash(`slow ${count}`), { signal: patient(), peers: [slow.self] });
  let ended = 0;
  const held = Array.from({ length: 8 }, async (_, count) => {
    await assert.rejects(fetchSlow(count), { code: 'blob-unavailable' });
    ended += 1;
  });
  const giveUp = patient();
  while (asked < 8) {
    giveUp.throwIfAborted();
    await nextTurn();
  }
  const name = await n1.blobs.put(body(10));
  t.mock.method(web1.blobs, 'get', async () => undefined);
  const enough = new AbortController();
  const impatient = web1.ledger.fetchBlob(name, { signal: enough.signal });
  const waiting = web1.ledger.fetchBlob(name, { signal: patient() });
  await nextTurn();
  enough.abort(new Error('enough'));
  await assert.rejects(impatient, /enough/);
  assert.equal(ended, 0, 'it did not wait for a turn');
  release.abort(new Error('released'));
  await Promise.all(held);
  assert.deepEqual(await waiting, body(10));
});

test('replicateBlob() resolves once a majority of the voters has the blob on disk', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const n2 = await fleet.add('n2', 'consensus');
  const n3 = await fleet.add('n3', 'consensus');
  await fleet.enrol('n2', ['voter']);
  await fleet.enrol('n3', ['voter']);
  fleet.network.kill(n3.peer);
  const name = await n1.blobs.put(body(700_000, 3));
  await n1.ledger.replicateBlob(name, { signal: patient() });
  assert.ok(await n2.blobs.has(name));
  fleet.network.kill(n2.peer);
  const lonely = await n1.blobs.put(body(10, 4));
  const replicated = n1.ledger.replicateBlob(lonely, { signal: patient() });
  fleet.network.revive(n3.peer);
  await replicated;
  assert.ok(await n3.blobs.has(lonely));
});

test('replicateBlob() from a member needs a majority of the voters beside itself, and a signal ends it', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('web1', ['builder']);
  const name = await web1.blobs.put(body(10));
  await web1.ledger.replicateBlob(name, { signal: patient() });
  assert.ok(await n1.blobs.has(name));
  fleet.network.kill(n1.peer);
  const other = await web1.blobs.put(body(11));
  await assert.rejects(web1.ledger.replicateBlob(other, { signal: AbortSignal.timeout(300) }), {
    name: 'TimeoutError',
  });
  await assert.rejects(web1.ledger.replicateBlob(hash('none'), { signal: patient() }), { code: 'blob-unavailable' });
});

test('serveBlobs() refuses wrong content, broken requests, and puts by plain members and where the peer is no voter', async (t) => {
  const fleet = await createLedgerFleet(t);
  const n1 = await fleet.add('n1', 'consensus');
  const web1 = await fleet.add('web1', 'voters');
  await fleet.enrol('client', ['builder']);
  await fleet.enrol('plain', ['member']);
  const mesh = fleet.network.join(peerIdOf('client'));
  await mesh.start();
  t.after(() => mesh.stop());
  const plain = fleet.network.join(peerIdOf('plain'));
  await plain.start();
  t.after(() => plain.stop());
  const ask = (peer: string, ...messages: Uint8Array[]): Promise<string> => askFrom(mesh, peer, ...messages);
  const askFrom = async (from: Mesh, peer: string, ...messages: Uint8Array[]): Promise<string> => {
    const stream = await from.open(peer, blobProtocol, { signal: patient() });
    let answers = '';
    for (const message of messages) await stream.send(message).catch(() => undefined);
    await stream.close();
    for (;;) {
      const answer = await stream.receive({ signal: patient() }).catch(() => undefined);
      if (answer === undefined) return answers;
      answers += Buffer.from(answer).toString('latin1');
    }
  };
  const put = encode({ version: 1, kind: 'put', hash: sha256Hex(body(5)), bytes: 5 });
  assert.match(await ask(n1.peer, put, encode({ kind: 'part', data: body(5, 2) })), /malformed/);
  assert.match(await ask(n1.peer, put, encode({ kind: 'part', data: body(6) })), /malformed/);
  assert.match(await ask(n1.peer, put, encode({ kind: 'part', data: body(2) })), /stream-closed/);
  assert.match(await ask(n1.peer, new Uint8Array([1, 2])), /malformed/);
  assert.match(await ask(n1.peer, encode({ version: 1, kind: 'put', hash: hash('x'), bytes: 1e9 })), /malformed/);
  assert.match(await ask(web1.peer, put), /not-voter/);
  assert.match(await askFrom(plain, n1.peer, put), /not-allowed/);
  const replicated = web1.ledger.replicateBlob(await web1.blobs.put(body(7)), { signal: patient() });
  await assert.rejects(replicated, { code: 'not-allowed' }, 'who may not is told so, and does not go on asking');
  assert.deepEqual(await n1.blobs.list(), []);
  assert.match(await ask(n1.peer, put, encode({ kind: 'part', data: body(5) })), /stored/);
  assert.deepEqual(await n1.blobs.list(), [sha256Hex(body(5))]);
});

test('serveBlobs() gives no more at once than two of the largest, and many small ones', async () => {
  let serve: (stream: MessageStream) => Promise<void> = () => assert.fail('nothing is registered');
  const sizes = new Map([
    [hash('large'), blobBytesMax],
    [hash('small'), 1_000],
  ]);
  const gate = new Gate();
  const blobs = {
    ...{ put: async () => '', has: async () => true, delete: async () => {}, list: async () => [] },
    facts: async (name: string) => ({ bytes: sizes.get(name) ?? 0, storedAtMs: 0 }),
    onPut: () => () => {},
    get: async () => gate.pass().then(() => new Uint8Array(0)),
  };
  const mesh = {
    handle(_: string, handler: typeof serve) {
      serve = handler;
    },
  };
  serveBlobs({ mesh, blobs, clock: createManualClock(), logger, taking: undefined });
  /** What each of some that ask for a blob is answered, while all are served at once. */
  async function answersTo(names: readonly string[]): Promise<(string | undefined)[]> {
    const { entered, open } = gate.shut();
    const answers = names.map(() => '');
    const serving = names.map((name, at) =>
      serve({
        peer: peerIdOf(`client ${at}`),
        receive: async () => encode({ version: 1, kind: 'get', hash: name }),
        send: async (message) => {
          const answer = decode(blobAnswerSchema, message, blobMessageBytesMax);
          answers[at] = answer.kind === 'refused' ? answer.error.code : answer.kind;
        },
        close: async () => {},
        abort: () => {},
      }),
    );
    await entered;
    await nextTurn();
    open();
    await Promise.all(serving);
    return answers;
  }
  assert.deepEqual(await answersTo(Array(4).fill(hash('large'))), ['found', 'found', 'busy', 'busy']);
  assert.deepEqual(await answersTo(Array(40).fill(hash('small'))), Array(40).fill('found'));
});
