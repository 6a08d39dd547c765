// Frames from other voters: what the schemas take, and that no bytes at all harm a running voter.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from '../../protocols/codec.ts';
import {
  consensusFrameSchema,
  consensusProtocol,
  type RaftMessage,
  snapshotProtocol,
} from '../../protocols/consensus-message.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { Fleet, genesisHash, noLearners, peerName, silentLogger } from './fleet.ts';
import { createRandom } from './simulator.ts';

const take = (message: object): unknown =>
  decode(consensusFrameSchema, encode({ version: 1, messages: [message] }), 1024 * 1024).messages[0];
const head = { from: 1, to: 2, term: 3 };
const entry = { index: 5, term: 3, type: 'normal', data: new Uint8Array(3) };

test('consensusFrameSchema fills in what is absent', () => {
  assert.deepEqual(take({ type: 'heartbeat', ...head }), {
    type: 'heartbeat',
    ...head,
    index: 0,
    logTerm: 0,
    commit: 0,
    reject: false,
    rejectHint: 0,
    context: '',
    entries: [],
  });
});

test('consensusFrameSchema refuses messages that no voter sends', () => {
  const bad = [
    { type: 'propose', ...head },
    { type: 'storage-append-response', ...head },
    { type: 'append', ...head, term: 0 },
    { type: 'read-index', ...head },
    { type: 'append', ...head, from: 0 },
    { type: 'append', ...head, index: -1 },
    { type: 'append', ...head, index: 1.5 },
    { type: 'append', ...head, term: 2 ** 50 },
    { type: 'vote', ...head, index: 4, entries: [entry] },
    { type: 'append', ...head, index: 3, logTerm: 3, entries: [entry] },
    { type: 'append', ...head, index: 4, logTerm: 4, entries: [entry] },
    { type: 'append', ...head, index: 4, logTerm: 2, entries: [{ ...entry, term: 4 }] },
    { type: 'append', ...head, index: 4, logTerm: 2, entries: [{ ...entry, data: new Uint8Array(70_000) }] },
    { type: 'heartbeat', ...head, context: 'x'.repeat(65) },
  ];
  for (const message of bad) assert.throws(() => take(message), ParleyError, JSON.stringify(message));
  take({ type: 'append', ...head, index: 4, logTerm: 2, entries: [entry, { ...entry, index: 6 }] });
});

test('no frame of a member harms a voter, well-formed or not', async () => {
  const seed = Number(process.env.PARLEY_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`seed ${seed}`);
  const random = createRandom(seed);
  const fleet = new Fleet({ voters: 1, others: 1 });
  const voter = fleet.voter(1);
  await fleet.bootstrap(voter);
  await voter.consensus.start();
  await fleet.leader([1]);
  const member = fleet.network.mesh(peerName(2));
  const signal = AbortSignal.timeout(20_000);
  for (let round = 0; round < 300; round += 1) {
    const protocol = random(4) === 0 ? snapshotProtocol : consensusProtocol;
    const stream = await member.open(peerName(1), protocol, { signal });
    await stream
      .send(protocol === snapshotProtocol ? randomHeader(random) : randomFrame(random))
      .catch(() => undefined);
    if (random(2) === 0)
      await stream.send(Uint8Array.from({ length: random(40) }, () => random(256))).catch(() => undefined);
    await stream.close();
    await stream.receive({ signal }).catch(() => undefined);
  }
  // A member outside the configuration has no vote; whatever it said, this fleet of one goes on.
  await fleet.leader([1]);
  await fleet.propose(voter, 'alive');
  assert.equal(voter.consensus.status().failure, undefined);
  await fleet.stop();
});

test('a voter takes no term that voters cannot come to, from any peer and of any kind', async () => {
  const fleet = new Fleet({ voters: 3, others: 0 });
  const voters = [fleet.voter(1), fleet.voter(2)];
  for (const voter of voters) {
    await fleet.bootstrap(voter);
    await voter.consensus.start();
  }
  await fleet.leader([1, 2]);
  const { term } = fleet.voter(1).consensus.status();
  const third = fleet.network.mesh(peerName(3));
  const signal = AbortSignal.timeout(20_000);
  for (const type of [
    'append',
    'vote-response',
    'pre-vote-response',
    'heartbeat-response',
    'append-response',
  ] as const) {
    for (const to of [1, 2]) {
      const stream = await third.open(peerName(to), consensusProtocol, { signal });
      await stream.send(encode({ version: 1, messages: [{ type, from: 3, to, term: 2 ** 40 }] }));
      await stream.close();
      await stream.receive({ signal }).catch(() => undefined);
    }
  }
  await fleet.propose(await fleet.leader([1, 2]), 'alive');
  for (const voter of voters) assert.ok(voter.consensus.status().term < term + 100);
  await fleet.stop();
});

/** Says something in a member's name and waits until it is dealt with. */
async function say(fleet: Fleet, from: number, message: Partial<RaftMessage> & { readonly to: number }): Promise<void> {
  const signal = AbortSignal.timeout(5_000);
  const stream = await fleet.network.mesh(peerName(from)).open(peerName(message.to), consensusProtocol, { signal });
  await stream.send(encode({ version: 1, messages: [{ from, ...message }] }));
  await stream.close();
  assert.equal(await stream.receive({ signal }), undefined);
}

test('a voter is alarmed by what others say of entries that it lacks, not by what is late, and once a minute', async () => {
  const alarms: unknown[] = [];
  const logger = { ...silentLogger, error: (fields: unknown) => alarms.push(fields) };
  const fleet = new Fleet({ voters: 1, others: 1, logger });
  const voter = fleet.voter(1);
  await fleet.bootstrap(voter);
  await voter.consensus.start();
  await fleet.leader([1]);
  const { term, lastIndex } = voter.consensus.status();
  const acknowledgement = { to: 1, type: 'append-response' as const, term, index: lastIndex + 10 };
  await say(fleet, 2, { ...acknowledgement, term: term - 1 });
  assert.deepEqual(alarms, [], 'it is of a term in which there was such an entry');
  for (let times = 0; times < 3; times += 1) await say(fleet, 2, acknowledgement);
  assert.equal(alarms.length, 1);
  await say(fleet, 2, { to: 1, type: 'heartbeat', term: term + 1, commit: lastIndex + 10 });
  assert.equal(voter.consensus.status().failure, undefined, 'who does not vote does not lead');
  assert.equal(voter.consensus.status().lastIndex, lastIndex);
  await fleet.stop();
});

test("a follower hands no other voter's read on: the leader would drop all that it says", async () => {
  const fleet = new Fleet({ voters: 3 });
  for (const raftId of [1, 2]) {
    await fleet.bootstrap(fleet.voter(raftId));
    await fleet.voter(raftId).consensus.start();
  }
  const leader = await fleet.leader([1, 2]);
  const follower = fleet.voter(leader.raftId === 1 ? 2 : 1);
  await say(fleet, 3, { to: follower.raftId, type: 'read-index', context: 'r' });
  // What the follower says to the leader comes in order: its own read after what it handed on.
  await follower.consensus.readIndex({ signal: AbortSignal.timeout(5_000) });
  assert.deepEqual(fleet.network.errors, []);
  await fleet.stop();
});

const types = [
  'append',
  'append-response',
  'vote',
  'vote-response',
  'pre-vote',
  'pre-vote-response',
  'heartbeat',
  'heartbeat-response',
  'timeout-now',
  'read-index',
  'read-index-response',
];

function randomFrame(random: (below: number) => number): Uint8Array {
  const small = (): number => random(12);
  const type = types[random(types.length)];
  const index = small();
  const term = type === 'read-index' ? 0 : 1 + random(4);
  const logTerm = random(4);
  const entries = Array.from({ length: type === 'append' ? random(4) : 0 }, (_, position) => ({
    index: index + 1 + position,
    term: Math.min(logTerm + position, term),
    type: random(3) === 0 ? 'configuration' : 'normal',
    data: Uint8Array.from({ length: random(20) }, () => random(256)),
  }));
  const fields = { index, logTerm, commit: small(), rejectHint: small(), reject: random(2) === 0 };
  const message = { type, from: 2, to: 1, term, ...fields, context: ['', 'transfer', '3', 'x'][random(4)], entries };
  return flipped(encode({ version: 1, messages: [message] }), random);
}

function randomHeader(random: (below: number) => number): Uint8Array {
  const configuration = { voters: [1 + random(3)], ...noLearners };
  const snapshot = { index: random(20), term: 1 + random(3), chainHash: genesisHash, configuration };
  const sizes = { bodyBytes: random(60), bodyHash: genesisHash };
  return flipped(encode({ version: 1, from: 2, to: 1, term: 1 + random(4), snapshot, ...sizes }), random);
}

/** Half of the time some bits are wrong. */
function flipped(bytes: Uint8Array, random: (below: number) => number): Uint8Array {
  if (random(2) === 0) return bytes;
  const copy = bytes.slice(0, random(5) === 0 ? random(bytes.byteLength) : bytes.byteLength);
  for (let count = random(4); count > 0 && copy.byteLength > 0; count -= 1) {
    const at = random(copy.byteLength);
    copy[at] = (copy[at] ?? 0) ^ (1 << random(8));
  }
  return copy;
}
