// How a generation begins on a survivor and what it makes of a peer that follows: what is checked, and that a crash between any
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
import { isSignedByRecoveryKey } from '../../node/wiring/recovery-key.ts';
import { createVoteFolder, type FolderFiles } from '../../node/wiring/vote-folder.ts';
import { check } from '../../protocols/codec.ts';
import { configSchema } from '../../protocols/config.ts';
import { type GenerationRecord, generationHash, isOverruled } from '../../protocols/generation.ts';
import { hash, peerIdOf } from '../helpers/ledger-script.ts';
import { contact, contacts, recordOf } from './generation-records.ts';

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

test('parley recover --show begins nothing, whatever is said with it', async (t) => {
  const stateFolder = await survivor(t);
  const key = keyOf(stateFolder);
  for (const words of [
    ['--yes'],
    ['--key', key],
    ['--key', key, '--yes'],
    ['--without-key'],
    ['--without-key', '--yes'],
  ]) {
    const all = ['recover', '--show', ...words, '--state', stateFolder];
    await assert.rejects(async () => carryOutPeerCommand(parsePeerArguments(all), process.stdin), {
      code: 'usage',
      message: /--show goes alone/,
    });
  }
  assert.equal((await loadMembership(stateFolder)).generations, undefined);
});

test('parley recover names the generation that it has accepted and the one that it would begin', async (t) => {
  const stateFolder = await survivor(t);
  const run = (...words: string[]) =>
    carryOutPeerCommand(parsePeerArguments(['recover', ...words, '--state', stateFolder]), process.stdin);
  await recover({ stateFolder, keyFile: keyOf(stateFolder) });
  const shown = (await run('--show')).join('\n');
  assert.match(shown, /, generation 1, has the ledger up to\n {2}term 1, entry 1,/);
  assert.match(shown, /A recovery here begins generation 2\./);
  await createVoteFolder(stateFolder).carryOut({ kind: 'new-generation', records: [recordOf(2)], contacts });
  const [document = ''] = await run('--show', '--json');
  const { generation, nextGeneration } = JSON.parse(document);
  assert.deepEqual([generation, nextGeneration], [2, 3]);
  await assert.rejects(run('--without-key'), { code: 'usage', hint: /begin generation 3/ });
  assert.equal((await recover({ stateFolder, keyFile: keyOf(stateFolder) })).record.number, 3);
});

test('parsePeerArguments() refuses what recover and trust do not understand', () => {
  const both = ['recover', '--key', 'recovery.key', '--without-key'];
  for (const words of [['recover'], ['recover', '--yes'], both, ['trust'], ['trust', 'abc']]) {
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
