// How a generation begins on a survivor and reaches the others: what is checked, what is kept to, and that a crash between any
// two changes leaves no vote behind that could do harm.

import assert from 'node:assert/strict';
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parsePeerArguments } from '../../node/arguments.ts';
import { foundFleet, loadMembership, writeMembership } from '../../node/enrolment.ts';
import { carryOutPeerCommand } from '../../node/peer-command.ts';
import { recover, survey } from '../../node/recovery.ts';
import { createGenerationExchange } from '../../node/wiring/generation-exchange.ts';
import { createRecoveryKey, isSignedByRecoveryKey, signRecord } from '../../node/wiring/recovery-key.ts';
import { createVoteFolder, type FolderFiles } from '../../node/wiring/vote-folder.ts';
import type { VoteTurn } from '../../node/wiring/vote-plan.ts';
import { check, encode } from '../../protocols/codec.ts';
import { configSchema } from '../../protocols/config.ts';
import { type GenerationRecord, generationHash, isOverruled } from '../../protocols/generation.ts';
import { generationProtocol, generationsMax } from '../../protocols/generation-exchange.ts';
import { createLedgerScript, hash, peerIdOf } from '../helpers/ledger-script.ts';
import { createManualClock } from '../helpers/manual-clock.ts';
import { createMemoryNetwork } from '../helpers/memory-mesh.ts';
import { logger } from '../mesh/fixtures.ts';

const config = check(configSchema, { version: 1, listen: ['/ip4/127.0.0.1/tcp/4400'] });

async function survivor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-recovery-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const stateFolder = join(folder, 'state');
  await foundFleet({ stateFolder, config, name: 'gate', site: 'home', nowMs: 1_700_000_000_000 });
  return stateFolder;
}

const keyOf = (stateFolder: string): string => join(stateFolder, 'recovery.key');

test('recover() begins the next generation after the last entry, with one voter under a new key and number', async (t) => {
  const stateFolder = await survivor(t);
  const before = await loadMembership(stateFolder);
  const keyBefore = await readFile(join(stateFolder, 'voter.key'), 'utf8');
  const { record, survey: found } = await recover({ stateFolder, keyFile: keyOf(stateFolder) });
  assert.deepEqual([record.number, record.baseIndex, record.baseHash], [1, found.index, found.chainHash]);
  assert.deepEqual(
    record.voters.map(({ raftId, peer }) => [raftId, peer]),
    [[1_000_000, found.peer]],
  );
  assert.ok(isSignedByRecoveryKey(found.recoveryKey, record));
  assert.notEqual(await readFile(join(stateFolder, 'voter.key'), 'utf8'), keyBefore);
  const after = await loadMembership(stateFolder);
  assert.deepEqual(
    [before.raftId, after.raftId, after.generations, after.logBegun],
    [1, 1_000_000, [record], undefined],
  );
  const again = await recover({ stateFolder, keyFile: keyOf(stateFolder) });
  assert.deepEqual([again.record.number, again.record.voters[0]?.raftId], [2, 2_000_000]);
});

test('recover() gives nothing up for a wrong key or one that is none', async (t) => {
  const stateFolder = await survivor(t);
  const other = await survivor(t);
  await assert.rejects(recover({ stateFolder, keyFile: keyOf(other) }), { code: 'recovery-key-wrong' });
  const noKey = join(stateFolder, 'config.json');
  await assert.rejects(recover({ stateFolder, keyFile: noKey }), { code: 'recovery-key-unusable' });
  await assert.rejects(recover({ stateFolder, keyFile: join(stateFolder, 'nothing') }), {
    code: 'recovery-key-unusable',
  });
  assert.equal((await loadMembership(stateFolder)).raftId, 1);
  assert.equal((await survey(stateFolder)).generation, 0);
});

test('parley recover asks for --yes, and shows what would be lost', async (t) => {
  const stateFolder = await survivor(t);
  const run = (...words: string[]) =>
    carryOutPeerCommand(parsePeerArguments(['recover', ...words, '--state', stateFolder]), process.stdin);
  const shown = (await run('--show')).join('\n');
  assert.match(shown, /'gate' of fleet [0-9a-f]{12}, generation 0, has the ledger up to\n {2}term 1, entry 1,/);
  await assert.rejects(run('--key', keyOf(stateFolder)), {
    code: 'usage',
    hint: /Give --yes as well to begin generation 1/,
  });
  assert.equal((await loadMembership(stateFolder)).generations, undefined);
  const unsigned = (await run('--without-key', '--yes')).join('\n');
  const [record] = (await loadMembership(stateFolder)).generations ?? [];
  assert.ok(record?.signature === null);
  assert.match(unsigned, new RegExp(`as root: parley trust ${generationHash(record)}`));
});

test('parsePeerArguments() refuses what recover and trust do not understand', () => {
  for (const words of [['recover'], ['recover', '--show', '--without-key'], ['trust'], ['trust', 'abc']]) {
    assert.throws(() => parsePeerArguments(words), { code: 'usage' });
  }
  assert.equal(parsePeerArguments(['trust', hash('record')]).token, hash('record'));
});

/** Changes to a folder, of which only the first few happen. */
function crashing(after: number): FolderFiles {
  let left = after;
  const step = async (change: () => Promise<void>): Promise<void> => {
    left -= 1;
    if (left < 0) throw new Error('the power is gone');
    await change();
  };
  return {
    remove: (path) => step(() => rm(path, { recursive: true, force: true })),
    replace: (from, to) => step(() => rename(from, to)),
    write: (folder, membership) => step(() => writeMembership(folder, membership)),
  };
}

test('beginGeneration() leaves no old raft id with a new key, wherever it is cut off, and can be done again', async (t) => {
  for (let steps = 0; ; steps += 1) {
    const stateFolder = await survivor(t);
    const oldKey = await createVoteFolder(stateFolder).key();
    const record = (key: string): GenerationRecord =>
      recordOf(1, { voters: [{ raftId: 1_000_000, peer: peerIdOf('n1'), key }] });
    const cutOff = await createVoteFolder(stateFolder, crashing(steps))
      .beginGeneration(record, async () => undefined)
      .then(
        () => false,
        () => true,
      );
    const isUnfinished = await createVoteFolder(stateFolder)
      .settle()
      .then(
        () => false,
        (error) => error.code === 'recovery-unfinished',
      );
    const { raftId, generations } = await loadMembership(stateFolder);
    assert.equal(isUnfinished, cutOff && steps > 0, `cut off after ${steps}`);
    const key = await createVoteFolder(stateFolder).key();
    if (raftId === 1) assert.ok(key === oldKey || key === null, `cut off after ${steps}`);
    if (raftId === 1_000_000) assert.notEqual(key, oldKey);
    if (!cutOff) return assert.equal(raftId, 1_000_000);
    const again = await recover({ stateFolder, keyFile: keyOf(stateFolder) });
    assert.equal(again.record.number, generations === undefined ? 1 : 2, 'others may have heard of the first');
    const settled = await createVoteFolder(stateFolder).settle();
    assert.equal(settled.raftId, again.record.voters[0]?.raftId);
  }
});

const fleet = hash('fleet');
const keys = createRecoveryKey();

function recordOf(number: number, fields: Partial<GenerationRecord> = {}): GenerationRecord {
  const { signature: _, ...record } = {
    ...{ version: 1 as const, fleet, number, baseIndex: 10, baseTerm: 2, baseHash: hash('base'), signature: null },
    voters: [{ raftId: number * 1_000_000, peer: peerIdOf('n1'), key: peerIdOf('n1 votes') }],
    ...fields,
  };
  return fields.signature === null
    ? { ...record, signature: null }
    : signRecord(keys.privatePem, keys.publicKey, record);
}

const contact = { peer: peerIdOf('n1'), addresses: ['/ip4/127.0.0.1/tcp/4400'], raftId: 1_000_000 };
const contacts = [contact];

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

test("carryOut() of 'new-generation' replaces a rival together with the ledger that followed it", async (t) => {
  const stateFolder = await survivor(t);
  const folder = createVoteFolder(stateFolder);
  await folder.carryOut({ kind: 'new-generation', records: [recordOf(1)], contacts });
  const ledgerFolder = join(stateFolder, 'ledger');
  await mkdir(ledgerFolder);
  await folder.carryOut({ kind: 'new-generation', records: [recordOf(2)], contacts });
  await access(ledgerFolder);
  const rival = recordOf(2, { baseIndex: 12 });
  await folder.carryOut({ kind: 'new-generation', records: [rival], contacts });
  assert.deepEqual((await folder.settle()).generations, [recordOf(1), rival]);
  await assert.rejects(access(ledgerFolder), { code: 'ENOENT' });
});

test("carryOut() of 'new-generation' gives the older vote up and keeps the records; 'freeze' keeps the reason", async (t) => {
  const stateFolder = await survivor(t);
  const folder = createVoteFolder(stateFolder);
  await folder.carryOut({ kind: 'new-generation', records: [recordOf(1)], contacts });
  assert.deepEqual([await folder.key(), (await folder.settle()).raftId], [null, 0]);
  await folder.carryOut({
    kind: 'new-generation',
    records: [recordOf(2)],
    contacts: [{ ...contact, raftId: 2_000_000 }],
  });
  await folder.carryOut({ kind: 'freeze', reason: 'two of them' });
  const { generations, frozen } = await folder.settle();
  assert.deepEqual([generations?.map(({ number }) => number), frozen], [[1, 2], 'two of them']);
  await folder.carryOut({ kind: 'new-generation', records: [recordOf(3)], contacts });
  assert.equal((await folder.settle()).frozen, undefined, 'the next one settles it');
});

test('parley trust names a generation on a device, whether its peer runs or not', async (t) => {
  const stateFolder = await survivor(t);
  await writeFile(join(stateFolder, 'generations.named'), `${hash('earlier')}\n`);
  const given = parsePeerArguments(['trust', hash('record'), '--state', stateFolder]);
  await carryOutPeerCommand(given, process.stdin);
  assert.deepEqual(await createVoteFolder(stateFolder).namedGenerations(), [hash('earlier'), hash('record')]);
});

test('isOverruled() is what an older generation has after the base of a newer one', () => {
  const records = [recordOf(1), recordOf(2, { baseIndex: 20 })];
  assert.equal(isOverruled(records, { generation: 0, index: 10 }), false);
  assert.equal(isOverruled(records, { generation: 0, index: 11 }), true);
  assert.equal(isOverruled(records, { generation: 1, index: 20 }), false);
  assert.equal(isOverruled(records, { generation: 1, index: 21 }), true);
  assert.equal(isOverruled(records, { generation: 2, index: 99 }), false);
});
