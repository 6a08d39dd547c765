// Shows that a journal is one chain without gaps over crashes, restarts and restored disks, and that others take nothing else.

import assert from 'node:assert/strict';
import { cp, rm } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { createJournal } from '../../node/journal/index.ts';
import { verifySignature } from '../../node/mesh/index.ts';
import { decode, encode } from '../../protocols/codec.ts';
import {
  firstPrevious,
  journalAnswerSchema,
  journalProtocol,
  type Report,
  reportHash,
  reportSigningBytes,
  reportsPerPageMax,
} from '../../protocols/journal.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import { createMemoryNetwork } from '../helpers/memory-mesh.ts';
import { seededRandom } from '../helpers/random.ts';
import { closure, identityOf, logger, startPeer, step } from './fixtures.ts';

const signal = AbortSignal.timeout(60_000);

test('append() chains, numbers and signs reports, and goes on after a restart', async (t) => {
  const peer = await startPeer(t, createMemoryNetwork(), 1);
  const first = await peer.journal.append(step(1));
  const [second, third] = await Promise.all([peer.journal.append(step(2)), peer.journal.append(step(3))]);
  assert.equal(first.previous, firstPrevious);
  assert.equal(second.previous, reportHash(first));
  assert.equal(third.previous, reportHash(second));
  assert.ok(verifySignature(peer.identity.peer, reportSigningBytes(third), third.signature));
  const again = await peer.restart();
  assert.deepEqual([again.journal.incarnation(), again.journal.lastSequence()], [1, 3]);
  const fourth = await again.journal.append(step(4));
  assert.deepEqual([fourth.sequence, fourth.previous], [4, reportHash(third)]);
  const sequences = (await again.journal.read(2, 10)).map((report) => report.sequence);
  assert.deepEqual(sequences, [2, 3, 4]);
});

test('append() writes what goes alongside with the report or not at all', async (t) => {
  const peer = await startPeer(t, createMemoryNetwork(), 1);
  await peer.journal.append(step(1), [{ type: 'put', key: 'beside', value: Uint8Array.of(7) }]);
  assert.deepEqual(await peer.store.get('beside'), Uint8Array.of(7));
  const tooLong = { ...step(2), running: 'no store path' };
  await assert.rejects(peer.journal.append(tooLong, [{ type: 'del', key: 'beside' }]), { code: 'malformed' });
  assert.deepEqual(await peer.store.get('beside'), Uint8Array.of(7));
  assert.equal(peer.journal.lastSequence(), 1);
});

test('start() begins a new incarnation when the database is behind the marker', async (t) => {
  const peer = await startPeer(t, createMemoryNetwork(), 1);
  await peer.journal.append(step(1));
  const backup = path.join(peer.folder, 'backup');
  const database = path.join(peer.folder, 'journal');
  const second = await peer.restart();
  await second.store.close();
  await cp(database, backup, { recursive: true });
  const third = await second.restart();
  await third.journal.append(step(2));
  await third.store.close();
  await rm(database, { recursive: true });
  await cp(backup, database, { recursive: true });
  const restored = await third.restart();
  assert.deepEqual([restored.journal.incarnation(), restored.journal.lastSequence()], [2, 0]);
  assert.equal((await restored.journal.append(step(3))).previous, firstPrevious);
  await restored.store.close();
  await rm(database, { recursive: true });
  const lost = await restored.restart();
  assert.deepEqual([lost.journal.incarnation(), lost.journal.lastSequence()], [3, 0]);
});

test('start() begins a new incarnation when the last report is damaged', async (t) => {
  const peer = await startPeer(t, createMemoryNetwork(), 1);
  await peer.journal.append(step(1));
  const [[key, value] = ['', new Uint8Array()]] = await peer.store.range({ gte: 'report/', lt: 'report0' });
  value[value.byteLength - 80] = (value[value.byteLength - 80] ?? 0) ^ 1;
  await peer.store.batch([{ type: 'put', key, value }], { sync: true });
  const again = await peer.restart();
  assert.deepEqual([again.journal.incarnation(), again.journal.lastSequence()], [2, 0]);
  assert.deepEqual(await again.journal.read(1, 10), []);
});

test('acknowledge() forgets what the ledger has, and begins anew when the ledger has more', async (t) => {
  const { journal } = await startPeer(t, createMemoryNetwork(), 1);
  for (let order = 1; order <= 5; order += 1) await journal.append(step(order));
  await journal.acknowledge({ incarnation: 1, sequence: 4 });
  const kept = await journal.read(1, 10);
  assert.deepEqual(
    kept.map((report) => report.sequence),
    [4, 5],
  );
  await journal.acknowledge({ incarnation: 1, sequence: 9 });
  assert.deepEqual([journal.incarnation(), journal.lastSequence()], [2, 0]);
});

test('acknowledge() before start() takes effect with it', async (t) => {
  const peer = await startPeer(t, createMemoryNetwork(), 1);
  await peer.journal.append(step(1));
  await peer.journal.stop();
  const init = { self: peer.identity.peer, name: 'peer1', markerFile: path.join(peer.folder, 'journal-marker') };
  const again = createJournal(init)({ ...peer, verifySignature, logger });
  await again.acknowledge({ incarnation: 1, sequence: 2 });
  assert.throws(() => again.incarnation(), { code: 'not-started' });
  await again.start();
  assert.deepEqual([again.incarnation(), again.lastSequence()], [2, 0]);
});

test('pull() pages through another journal and follows it into a new incarnation', async (t) => {
  const network = createMemoryNetwork();
  const device = await startPeer(t, network, 1);
  const { journal } = await startPeer(t, network, 2);
  const peer = device.identity.peer;
  for (let order = 1; order <= reportsPerPageMax + 3; order += 1) await device.journal.append(step(order));
  const first = await journal.pull({ peer, incarnation: 0, from: 1, signal });
  assert.equal(first.length, reportsPerPageMax);
  const second = await journal.pull({ peer, incarnation: 1, from: reportsPerPageMax + 1, signal });
  assert.deepEqual(
    second.map((report) => report.sequence),
    [1, 2, 3].map((more) => reportsPerPageMax + more),
  );
  assert.deepEqual(await journal.pull({ peer, incarnation: 1, from: reportsPerPageMax + 4, signal }), []);
  await device.journal.acknowledge({ incarnation: 4, sequence: 1 });
  await device.journal.append(step(100));
  const later = await journal.pull({ peer, incarnation: 1, from: reportsPerPageMax + 4, signal });
  assert.deepEqual(
    later.map((report) => [report.incarnation, report.sequence]),
    [[5, 1]],
  );
});

test('pull() shows a peer that is behind what is known of it', async (t) => {
  const network = createMemoryNetwork();
  const device = await startPeer(t, network, 1);
  const { journal } = await startPeer(t, network, 2);
  await device.journal.append(step(1));
  const pulled = journal.pull({ peer: device.identity.peer, incarnation: 1, from: 8, signal });
  await assert.rejects(pulled, { code: 'journal-behind', retryable: true });
});

/** A peer that answers with these reports, whatever is asked. */
async function startLiar(network: ReturnType<typeof createMemoryNetwork>, reports: () => readonly Report[]) {
  const identity = identityOf(9);
  const mesh = network.join(identity.peer);
  await mesh.start();
  mesh.handle(journalProtocol, async (stream) => {
    await stream.receive();
    const page = reports();
    const last = page.at(-1);
    const { incarnation, sequence } = last ?? { incarnation: 1, sequence: 0 };
    await stream.send(encode({ kind: 'page', incarnation, lastSequence: sequence, reports: page }));
  });
  const say = (sequence: number, order: number, previous: string): Report => {
    const { kind, running, booted, body } = { ...step(order), kind: 'order-step' as const };
    const unsigned = { version: 1 as const, peer: identity.peer, incarnation: 1, sequence, previous, timeMs: 1 };
    const report = { ...unsigned, kind, running, booted, body: body as { order: number; state: 'checked' } };
    return { ...report, signature: identity.sign(reportSigningBytes(report)) };
  };
  return { peer: identity.peer, say };
}

test('pull() stops at a peer that tells two stories under one number', async (t) => {
  const network = createMemoryNetwork();
  let reports: readonly Report[] = [];
  const { peer, say } = await startLiar(network, () => reports);
  const { journal } = await startPeer(t, network, 2);
  const one = say(1, 1, firstPrevious);
  const two = say(2, 2, reportHash(one));
  reports = [one, two];
  assert.equal((await journal.pull({ peer, incarnation: 1, from: 1, signal })).length, 2);
  const otherTwo = say(2, 7, reportHash(one));
  reports = [otherTwo, say(3, 3, reportHash(otherTwo))];
  await assert.rejects(journal.pull({ peer, incarnation: 1, from: 3, signal }), { code: 'journal-forked' });
  reports = [say(3, 3, reportHash(otherTwo))];
  await assert.rejects(journal.pull({ peer, incarnation: 1, from: 3, signal }), { code: 'journal-forked' });
  reports = [two, say(3, 3, reportHash(two))];
  assert.equal((await journal.pull({ peer, incarnation: 1, from: 3, signal })).length, 1);
});

test('pull() takes no report with a wrong signature, writer, order or chain', async (t) => {
  const network = createMemoryNetwork();
  let reports: readonly Report[] = [];
  const { peer, say } = await startLiar(network, () => reports);
  const { journal } = await startPeer(t, network, 2);
  const one = say(1, 1, firstPrevious);
  const pull = () => journal.pull({ peer, incarnation: 1, from: 1, signal });
  reports = [{ ...one, timeMs: 2 }];
  await assert.rejects(pull(), { code: 'malformed', message: /signature/ });
  reports = [{ ...one, peer: identityOf(3).peer }];
  await assert.rejects(pull(), { code: 'malformed', message: /writer/ });
  reports = [one, say(3, 3, reportHash(one))];
  await assert.rejects(pull(), { code: 'malformed', message: /follows/ });
  reports = [one, say(2, 2, 'f'.repeat(64))];
  await assert.rejects(pull(), { code: 'journal-forked' });
  reports = [say(1, 1, 'f'.repeat(64))];
  await assert.rejects(pull(), { code: 'malformed', message: /first/ });
});

test('the journal answers malformed requests with an error and takes malformed answers for one', async (t) => {
  const seed = Date.now() % 1_000_000;
  t.diagnostic(`seed ${seed}`);
  const random = seededRandom(seed);
  const network = createMemoryNetwork();
  const device = await startPeer(t, network, 1);
  const other = await startPeer(t, network, 2);
  await device.journal.append(step(1));
  const whole = encode({ version: 1, incarnation: 1, from: 1 });
  for (let round = 0; round < 300; round += 1) {
    const bytes = Uint8Array.from(whole.subarray(0, 1 + Math.floor(random() * whole.byteLength)));
    bytes[Math.floor(random() * bytes.byteLength)] = Math.floor(random() * 256);
    const stream = await other.mesh.open(device.identity.peer, journalProtocol, { signal });
    await stream.send(bytes);
    const answer = await stream.receive({ signal });
    assert.ok(answer !== undefined);
    decode(journalAnswerSchema, answer, messageBytesMax);
    await stream.close();
  }
  network.onMessage = ({ from, bytes }) => {
    if (from !== device.identity.peer) return bytes;
    const changed = Uint8Array.from(bytes.subarray(0, Math.ceil(random() * bytes.byteLength)));
    changed[Math.floor(random() * changed.byteLength)] = Math.floor(random() * 256);
    return changed;
  };
  for (let round = 0; round < 200; round += 1) {
    const pulled = await other.journal
      .pull({ peer: device.identity.peer, incarnation: 1, from: 1, signal })
      .catch((error: { code?: string }) => {
        assert.ok(
          ['malformed', 'journal-forked', 'journal-behind'].includes(String(error.code)),
          `seed ${seed}: ${error}`,
        );
        return [];
      });
    for (const report of pulled) assert.equal(report.running, closure, `seed ${seed}`);
  }
});
