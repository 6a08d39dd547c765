// What becomes of a peer whose ledger's database cannot be read: a copy stays, its log makes the ledger anew where that reaches
// back far enough, and nobody is told to give up what is whole.

import assert from 'node:assert/strict';
import { access, rm } from 'node:fs/promises';
import { test } from 'node:test';
import { recover, survey } from '../../node/recovery.ts';
import { createVoteFolder, ledgerFolderOf, logFolderOf } from '../../node/wiring/vote-folder.ts';
import { compactLog, damageLedger, keyOf, stoppedVoter } from './stopped-voter.ts';

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

test('recover() goes on from the end of a whole log where the ledger is damaged, and keeps a copy of that', async (t) => {
  const stateFolder = await stoppedVoter(t);
  const { chainHash } = await survey(stateFolder);
  await damageLedger(stateFolder);
  for (const _ of ['asking', 'changes nothing']) {
    const found = await survey(stateFolder);
    assert.deepEqual([found.index, found.chainHash, found.damage], [6, chainHash, null]);
    assert.match(found.ledgerDamage ?? '', /cannot open the store/);
  }
  const { record } = await recover({ stateFolder, keyFile: keyOf(stateFolder) });
  assert.deepEqual([record.baseIndex, record.baseHash], [6, chainHash]);
  assert.ok(await isThere(`${ledgerFolderOf(stateFolder)}.damaged`));
  await rm(`${logFolderOf(stateFolder)}.before-generation-1`, { recursive: true });
  const kept = await survey(stateFolder);
  assert.deepEqual([kept.index, kept.ledgerDamage], [6, null], 'the new ledger has it all');
});

test('recover() begins nothing where the ledger is damaged and the log starts too late or is gone', async (t) => {
  const stateFolder = await stoppedVoter(t);
  await damageLedger(stateFolder);
  await compactLog(stateFolder);
  const init = { stateFolder, keyFile: keyOf(stateFolder) };
  await assert.rejects(recover(init), { code: 'state-behind-log', hint: /backup.*on a member/ });
  await rm(logFolderOf(stateFolder), { recursive: true });
  await assert.rejects(recover(init), { code: 'store-damaged', hint: /on another survivor/ });
  assert.equal(await isThere(`${ledgerFolderOf(stateFolder)}.damaged`), false);
  assert.notEqual(await createVoteFolder(stateFolder).key(), null, 'it votes as before');
});
