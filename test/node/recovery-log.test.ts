// What a recovery makes of a voter's log: it goes on from the log's end, or from the end of what is sound, and loses neither
// a word nor the log itself on the way.

import assert from 'node:assert/strict';
import { access, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parsePeerArguments } from '../../node/arguments.ts';
import { openLogStore } from '../../node/consensus/log-store.ts';
import { writeMembership } from '../../node/enrolment.ts';
import { carryOutPeerCommand } from '../../node/peer-command.ts';
import { recover, survey } from '../../node/recovery.ts';
import { createTentativeStore, openStore } from '../../node/store/index.ts';
import { createVoteFolder, type FolderFiles, logFolderOf } from '../../node/wiring/vote-folder.ts';
import { MemoryStore } from '../consensus/memory-store.ts';
import { entry, keyOf, stoppedVoter, withLog } from './stopped-voter.ts';

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

async function snapshotsOf(stateFolder: string): Promise<number[]> {
  const store = await openStore(join(stateFolder, 'ledger'));
  const pairs = await store.range({ gte: 'snapshot/', lt: 'snapshot0' }).finally(() => store.close());
  return pairs.filter(([key]) => key.endsWith('/head')).map(([key]) => Number.parseInt(key.slice(9), 10));
}

test('recover() goes on from the end of the log, whatever its last batch knew to be committed', async (t) => {
  const stateFolder = await stoppedVoter(t);
  const found = await survey(stateFolder);
  assert.deepEqual([found.term, found.index, found.uncertain, found.damage, found.lost], [2, 6, 3, null, 0]);
  assert.deepEqual(await snapshotsOf(stateFolder), [], 'others may yet overwrite what is not committed');
  const { record, oldLog } = await recover({ stateFolder, keyFile: keyOf(stateFolder) });
  assert.deepEqual([record.baseIndex, record.baseTerm, record.baseHash], [6, 2, found.chainHash]);
  assert.deepEqual(await snapshotsOf(stateFolder), [6]);
  assert.equal(await isThere(logFolderOf(stateFolder)), false);
  assert.ok(oldLog !== null && (await readdir(oldLog)).includes('CURRENT'));
});

test('parley recover says what it keeps and what it loses of a damaged log, and sets that aside', async (t) => {
  const stateFolder = await stoppedVoter(t);
  const run = async (...words: string[]): Promise<string> =>
    (await carryOutPeerCommand(parsePeerArguments(['recover', ...words, '--state', stateFolder]), process.stdin)).join(
      '\n',
    );
  assert.match(
    await run('--show'),
    /term 2, entry 6,.*\nNobody knows whether its last 3 entries were ever acknowledged/,
  );
  const key = 'entry/0000000000000005';
  await withLog(stateFolder, async ({ store }) => {
    const value = (await store.get(key)) ?? assert.fail();
    await store.batch([{ type: 'put', key, value: value.map((byte, at) => (at === 40 ? byte ^ 4 : byte)) }], {
      sync: true,
    });
  });
  const shown = await run('--show');
  assert.match(shown, /term 2, entry 4,/);
  const loss =
    /Its log is damaged \(.*\)\. What is sound of it, up to entry 4, is kept\. The 2 entries after that are lost\./;
  assert.match(shown, loss);
  const done = await run('--key', keyOf(stateFolder), '--yes');
  assert.match(done, /after entry 4\./);
  assert.match(done, loss);
  const oldLog = `${logFolderOf(stateFolder)}.before-generation-1`;
  assert.ok(done.includes(`Its earlier log was set aside: ${oldLog}`));
  await withLog(
    stateFolder,
    async ({ store }) => assert.ok(await store.get(key), 'whoever can make more of it still has it'),
    oldLog,
  );
  assert.deepEqual(await snapshotsOf(stateFolder), [4]);
});

test('survey() uses what is left where the last batch is lost, and says so where all is', async (t) => {
  const stateFolder = await stoppedVoter(t);
  await withLog(stateFolder, async (disk) => {
    const tail = (await disk.store.get('tail')) ?? assert.fail();
    const log = await openLogStore(disk, () => undefined);
    await log.write({ hardState: { term: 2, vote: 1, commit: 6 }, entries: [entry(7)] });
    const del = { type: 'del', key: 'entry/0000000000000007' } as const;
    await disk.store.batch([{ type: 'put', key: 'tail', value: tail }, del], { sync: true });
  });
  const left = await survey(stateFolder);
  assert.deepEqual([left.index, left.lost], [6, null]);
  assert.match(left.damage ?? '', /batch 4 was acknowledged/);
  await rename(logFolderOf(stateFolder), `${logFolderOf(stateFolder)}.elsewhere`);
  const gone = await survey(stateFolder);
  assert.deepEqual([gone.index, gone.lost], [1, null]);
  assert.match(gone.damage ?? '', /it is gone/);
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

test('recover() loses no entry wherever it was cut off before it is done again', async (t) => {
  for (let steps = 0; ; steps += 1) {
    const stateFolder = await stoppedVoter(t);
    const init = { stateFolder, keyFile: keyOf(stateFolder) };
    const cutOff = await recover({ ...init, folder: createVoteFolder(stateFolder, crashing(steps)) }).then(
      () => false,
      () => true,
    );
    if (!cutOff) return assert.ok(steps > 5);
    const { record } = await recover(init);
    assert.equal(record.baseIndex, 6, `cut off after ${steps}`);
    assert.deepEqual(await snapshotsOf(stateFolder), [6]);
  }
});

test('createTentativeStore() shows its changes and keeps them from the disk until they are to last', async () => {
  const disk = new MemoryStore();
  const byte = (value: number): Uint8Array => Uint8Array.of(value);
  const put = (key: string, value: number) => ({ type: 'put', key, value: byte(value) }) as const;
  await disk.batch([put('a', 1), put('b', 2), put('d', 4)], { sync: true });
  const store = createTentativeStore(disk);
  await store.batch([put('c', 3), put('b', 9), { type: 'del', key: 'd' }, put('x', 8)], { sync: true });
  const all = { gte: 'a', lt: 'w' };
  assert.deepEqual(await store.range(all), [
    ['a', byte(1)],
    ['b', byte(9)],
    ['c', byte(3)],
  ]);
  assert.deepEqual(await store.range({ ...all, limit: 1, reverse: true }), [['c', byte(3)]]);
  assert.deepEqual([await store.get('d'), await store.get('b')], [undefined, byte(9)]);
  assert.deepEqual(disk.keys(), ['a', 'b', 'd']);
  await store.keep();
  assert.deepEqual(disk.keys(), ['a', 'b', 'c', 'x']);
});
