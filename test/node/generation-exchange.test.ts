// How a generation reaches the peers of a fleet: what they believe, what they keep to, and whom they ask.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createGenerationExchange } from '../../node/wiring/generation-exchange.ts';
import { createRecoveryKey, signRecord } from '../../node/wiring/recovery-key.ts';
import type { VoteTurn } from '../../node/wiring/vote-plan.ts';
import { encode } from '../../protocols/codec.ts';
import { type GenerationRecord, generationHash } from '../../protocols/generation.ts';
import { generationProtocol, generationsMax } from '../../protocols/generation-exchange.ts';
import { createLedgerScript, hash, peerIdOf } from '../helpers/ledger-script.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { createMemoryNetwork } from '../helpers/memory-mesh.ts';
import { logger } from '../mesh/fixtures.ts';
import { contact, contacts, fleet, keys, recordOf } from './generation-records.ts';

/** What a peer that knows some records makes of those that another one has. */
async function told(
  known: readonly GenerationRecord[],
  theirs: readonly GenerationRecord[],
  { named = [], isFrozen = false }: { readonly named?: readonly string[]; readonly isFrozen?: boolean } = {},
): Promise<VoteTurn | undefined> {
  const network = createMemoryNetwork();
  const [asker, teller] = [network.join(peerIdOf('web1')), network.join(peerIdOf('n1'))];
  const turns: VoteTurn[] = [];
  const exchangeOf = (mesh: typeof asker, records: readonly GenerationRecord[], onTurn: (turn: VoteTurn) => void) =>
    createGenerationExchange({ fleet, recoveryKey: keys.publicKey, known: records, isFrozen })({
      ...{ mesh, onTurn, clock: createManualClock(), logger },
      namedHashes: async () => named,
      members: () => createLedgerScript().state().members,
    });
  const exchanges = [exchangeOf(teller, theirs, () => undefined), exchangeOf(asker, known, (turn) => turns.push(turn))];
  await Promise.all([asker.start(), teller.start()]);
  for (const exchange of exchanges) await exchange.start();
  await asker.open(teller.self, '/hello', { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
  for (let turn = 0; turn < 50 && turns.length === 0; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  for (const exchange of exchanges) await exchange.stop();
  await Promise.all([asker.stop(), teller.stop()]);
  return turns[0];
}

test('createGenerationExchange() accepts what the recovery key has signed, and tells it on', async () => {
  const record = recordOf(1);
  assert.deepEqual(await told([], [record]), { kind: 'new-generation', records: [record], contacts });
  assert.deepEqual(await told([record], [record, recordOf(2)]), {
    kind: 'new-generation',
    records: [recordOf(2)],
    contacts: [{ ...contact, raftId: 2_000_000 }],
  });
  assert.equal(await told([record], [record]), undefined);
  assert.equal(await told([recordOf(1), recordOf(2)], [record]), undefined, 'an older one is no news');
});

test('createGenerationExchange() tells of the newest generation of a fleet that was recovered often', async () => {
  const records = Array.from({ length: generationsMax }, (_, at) => recordOf(at + 1, { baseIndex: 10 + at }));
  const turn = await told(records.slice(0, -1), records);
  assert.deepEqual(turn?.kind === 'new-generation' && turn.records, records.slice(-1));
});

test('createGenerationExchange() asks who gave no answer once more, and nobody else', async () => {
  const network = createMemoryNetwork();
  const [asker, teller] = [network.join(peerIdOf('web1')), network.join(peerIdOf('n1'))];
  const clock = createManualClock();
  let asked = 0;
  teller.handle(generationProtocol, async (stream) => {
    asked += 1;
    if (asked === 1) throw new Error('not now');
    await stream.send(encode({ version: 1, records: [] }));
    await stream.close();
  });
  const exchange = createGenerationExchange({ fleet, recoveryKey: keys.publicKey, known: [], isFrozen: false })({
    ...{ mesh: asker, onTurn: () => undefined, clock, logger, namedHashes: async () => [] },
    members: () => createLedgerScript().state().members,
  });
  await Promise.all([asker.start(), teller.start()]);
  await exchange.start();
  await asker.open(teller.self, '/hello', { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
  for (const times of [1, 2, 2, 2]) {
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(asked, times);
    clock.advance(15_000);
  }
  await exchange.stop();
  await Promise.all([asker.stop(), teller.stop()]);
});

test('createGenerationExchange() believes no record without a right signature unless root has named it', async () => {
  const unsigned = recordOf(1, { signature: null });
  assert.equal(await told([], [unsigned]), undefined);
  const named = await told([], [unsigned], { named: [generationHash(unsigned)] });
  assert.deepEqual(named, { kind: 'new-generation', records: [unsigned], contacts });
  assert.equal(await told([], [{ ...recordOf(1), baseIndex: 11 }]), undefined, 'signed for another base');
  assert.equal(await told([], [recordOf(1, { fleet: hash('another') })]), undefined);
  const stranger = createRecoveryKey();
  const { signature: _, ...plain } = recordOf(1);
  assert.equal(await told([], [signRecord(stranger.privatePem, stranger.publicKey, plain)]), undefined);
});

test('createGenerationExchange() goes on when it cannot read what root has named, and takes it once it can', async () => {
  const network = createMemoryNetwork();
  const [asker, teller] = [network.join(peerIdOf('web1')), network.join(peerIdOf('n1'))];
  const clock = createManualClock();
  const unsigned = recordOf(1, { signature: null });
  const hasTold = Promise.withResolvers<void>();
  teller.handle(generationProtocol, async (stream) => {
    await stream.send(encode({ version: 1, records: [unsigned] }));
    await stream.close();
    hasTold.resolve();
  });
  const warned: string[] = [];
  let named: () => Promise<string[]> = async () => [];
  const turns: VoteTurn[] = [];
  const exchange = createGenerationExchange({ fleet, recoveryKey: keys.publicKey, known: [], isFrozen: false })({
    ...{ mesh: asker, onTurn: (turn) => turns.push(turn), clock, namedHashes: () => named() },
    logger: { ...logger, warn: (_fields: unknown, message?: string) => warned.push(message ?? '') },
    members: () => createLedgerScript().state().members,
  });
  const look = async (isDone: () => boolean): Promise<void> => {
    clock.advance(2_000);
    for (let turn = 0; turn < 50 && !isDone(); turn += 1) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(isDone());
  };
  await Promise.all([asker.start(), teller.start()]);
  await exchange.start();
  await asker.open(teller.self, '/hello', { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
  await hasTold.promise;
  await look(() => warned.length === 1);
  named = () => Promise.reject(new Error('EIO'));
  await look(() => warned.at(-1) === 'cannot tell whether root has named a generation');
  named = async () => [generationHash(unsigned)];
  await look(() => turns[0]?.kind === 'new-generation');
  await exchange.stop();
  await Promise.all([asker.stop(), teller.stop()]);
});

test('createGenerationExchange() names and takes what root trusts, whatever another member told before and whoever told it', async () => {
  const network = createMemoryNetwork();
  const [asker, honest, evil] = ['web1', 'n1', 'evil'].map((name) => network.join(peerIdOf(name)));
  assert.ok(asker && honest && evil);
  const clock = createManualClock();
  const real = recordOf(1, { signature: null });
  const invented = (round: number) =>
    Array.from({ length: generationsMax }, (_, at) => recordOf(1, { baseIndex: 100 * round + at, signature: null }));
  let rounds = 0;
  const tell = (mesh: typeof asker, recordsOf: () => readonly GenerationRecord[]): void =>
    mesh.handle(generationProtocol, async (stream) => {
      await stream.receive();
      await stream.send(encode({ version: 1, records: recordsOf() }));
      await stream.close();
    });
  tell(honest, () => [real]);
  tell(evil, () => {
    rounds += 1;
    return invented(rounds);
  });
  const advice: string[] = [];
  const named: string[] = [];
  const turns: VoteTurn[] = [];
  const exchange = createGenerationExchange({ fleet, recoveryKey: keys.publicKey, known: [], isFrozen: false })({
    ...{ mesh: asker, onTurn: (turn) => turns.push(turn), clock, namedHashes: async () => named },
    logger: { ...logger, warn: (_fields: unknown, message?: string) => advice.push(message ?? '') },
    members: () => createLedgerScript().state().members,
  });
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  };
  await Promise.all([asker, evil, honest].map((mesh) => mesh.start()));
  await exchange.start();
  const meet = async (mesh: typeof asker): Promise<void> => {
    await asker.open(mesh.self, '/hello', { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
    await settle();
  };
  await meet(evil);
  await meet(honest);
  const isRealNamed = (): boolean => advice.some((text) => text.includes(generationHash(real)));
  assert.ok(isRealNamed(), 'people cannot trust what nobody names');
  assert.ok(advice.length <= 10, `${advice.length} lines`);
  clock.advance(2_000);
  await settle();
  assert.equal(rounds, 1, 'nobody is asked again before root has named something');
  named.push(generationHash(real));
  clock.advance(2_000);
  await settle();
  assert.deepEqual(turns[0], { kind: 'new-generation', records: [real], contacts });
  for (let look = 0; look < 5; look += 1) {
    clock.advance(2_000);
    await settle();
  }
  assert.equal(rounds, 2, 'once for each name');
  assert.ok(advice.length <= 10, `${advice.length} lines`);
  await exchange.stop();
  await Promise.all([asker, evil, honest].map((mesh) => mesh.stop()));
});

test('createGenerationExchange() freezes at a rival of the record that it keeps to', async () => {
  const [first, rival] = [recordOf(1), recordOf(1, { baseIndex: 12 })];
  const frozen = await told([first], [rival]);
  assert.ok(frozen?.kind === 'freeze');
  assert.match(
    frozen.reason,
    new RegExp(`two generations 1 .*${generationHash(first).slice(0, 16)}, which this peer follows`),
  );
  assert.equal(
    await told([first], [recordOf(1, { baseIndex: 12, signature: null })]),
    undefined,
    'anybody can write that',
  );
});

test('createGenerationExchange() lives in peace with rivals that a newer generation has settled', async () => {
  const [first, rival, second] = [recordOf(1), recordOf(1, { baseIndex: 12 }), recordOf(2, { baseIndex: 11 })];
  assert.equal(await told([rival, second], [first, second]), undefined);
  assert.equal(await told([first, second], [rival]), undefined);
  const settled = { kind: 'new-generation', records: [second], contacts: [{ ...contact, raftId: 2_000_000 }] };
  for (const isFrozen of [false, true]) assert.deepEqual(await told([rival], [first, second], { isFrozen }), settled);
  assert.equal((await told([first, second], [recordOf(2, { baseIndex: 13 })]))?.kind, 'freeze');
});

test('createGenerationExchange() takes what root has named for any other of its number', async () => {
  const [signed, unsigned] = [recordOf(1), recordOf(1, { baseIndex: 12, signature: null })];
  const named = [generationHash(unsigned)];
  const taken = { kind: 'new-generation', records: [unsigned], contacts };
  for (const [what, known, theirs] of [
    ['both are new', [], [signed, unsigned]],
    ['both are new, in another order', [], [unsigned, signed]],
    ['a signed one was there first', [signed], [unsigned]],
  ] as const) {
    for (const isFrozen of [false, true]) assert.deepEqual(await told(known, theirs, { named, isFrozen }), taken, what);
  }
  assert.equal(await told([unsigned], [signed], { named }), undefined, 'it is there already');
  assert.equal(await told([signed, recordOf(2)], [unsigned], { named }), undefined, 'a newer one has settled it');
});
