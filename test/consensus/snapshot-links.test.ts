// Who may send a voter a snapshot, and which of several it receives: neither silence nor an older leader keeps out the one
// that is needed.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { SnapshotLinks } from '../../node/consensus/snapshot-links.ts';
import type { MessageStream } from '../../node/interfaces.ts';
import { encode, sha256Hex } from '../../protocols/codec.ts';
import { type SnapshotHeader, snapshotProtocol } from '../../protocols/consensus-message.ts';
import { genesisHash, noLearners, peerName, silentLogger } from './fleet.ts';
import { MemoryNetwork } from './memory-mesh.ts';

const body = new TextEncoder().encode('all that was said');
const within = { signal: AbortSignal.timeout(20_000) };

function headerOf(from: number, term: number): SnapshotHeader {
  const configuration = { voters: [1, 2, 3], ...noLearners };
  const snapshot = { index: term, term, chainHash: genesisHash, configuration };
  return { version: 1, from, to: 2, term, snapshot, bodyBytes: body.byteLength, bodyHash: sha256Hex(body) };
}

/** Voter 2, in term 5; peer 9 is a member that does not vote. */
function receiver() {
  const network = new MemoryNetwork();
  const members = {
    peerOf: (raftId: number) => peerName(raftId),
    raftIdOf: (peer: string) => [1, 2, 3].find((raftId) => peerName(raftId) === peer),
    voters: () => [1, 2, 3],
  };
  const mesh = network.mesh(peerName(2));
  const terms: number[] = [];
  const links = new SnapshotLinks(
    {
      ...{ raftId: 2, term: () => 5, onSent: () => undefined },
      onSnapshot: (message) => terms.push(message.term),
    },
    { mesh, logger: silentLogger, members },
  );
  mesh.handle(snapshotProtocol, (stream) => links.receive(stream));
  const openFrom = (from: number): Promise<MessageStream> =>
    network.mesh(peerName(from)).open(peerName(2), snapshotProtocol, within);
  /** Resolves to undefined once it is received whole. */
  const sendWhole = async (from: number, term: number): Promise<Uint8Array | undefined> => {
    const stream = await openFrom(from);
    await stream.send(encode(headerOf(from, term)));
    await stream.send(body);
    return stream.receive(within);
  };
  /** Says what it will send, and sends no more. */
  const begin = async (from: number, term: number): Promise<MessageStream> => {
    const stream = await openFrom(from);
    await stream.send(encode(headerOf(from, term)));
    await new Promise((resolve) => setImmediate(resolve));
    return stream;
  };
  return { network, terms, openFrom, sendWhole, begin };
}

/** Gives up what waits for so long or longer, at once. */
function hurry(t: TestContext, timeoutMs: number): void {
  const { timeout } = AbortSignal;
  t.mock.method(AbortSignal, 'timeout', (ms: number) => timeout.call(AbortSignal, ms <= timeoutMs ? 1 : ms));
}

test('receive() ends at once with a peer that does not vote, and its silence keeps nobody out', async () => {
  const { openFrom, sendWhole, terms } = receiver();
  const silent = await openFrom(9);
  await assert.rejects(silent.receive({ signal: AbortSignal.timeout(2_000) }), { code: 'stream-closed' });
  assert.equal(await sendWhole(1, 5), undefined);
  assert.deepEqual(terms, [5]);
});

test('receive() lets a voter that says nothing wait beside the one that sends, and not for long', async (t) => {
  const { openFrom, sendWhole, terms } = receiver();
  hurry(t, 5_000);
  const silent = await openFrom(3);
  assert.equal(await sendWhole(1, 5), undefined);
  await assert.rejects(silent.receive({ signal: AbortSignal.timeout(10_000) }), { code: 'stream-closed' });
  assert.deepEqual(terms, [5]);
});

test('receive() takes one snapshot at a time: that of the newest leader, and the newest of its own', async () => {
  const { begin, sendWhole, terms } = receiver();
  const first = await begin(1, 5);
  await assert.rejects(sendWhole(3, 5), { code: 'stream-closed' }, 'one leads a term');
  const again = await begin(1, 5);
  await assert.rejects(first.receive(within), { code: 'stream-closed' });
  assert.equal(await sendWhole(3, 6), undefined);
  await assert.rejects(again.receive(within), { code: 'stream-closed' });
  assert.deepEqual(terms, [6]);
});

test('receive() refuses the snapshot of a leader that was deposed, before its body', async () => {
  const { begin, sendWhole, terms } = receiver();
  const late = await begin(1, 4);
  await assert.rejects(late.receive(within), { code: 'stream-closed' });
  assert.equal(await sendWhole(3, 5), undefined);
  assert.deepEqual(terms, [5]);
});
