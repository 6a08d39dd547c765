// A real voter whose ledger's database cannot be read: it makes that anew by itself, or stops and says what to do.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { survey } from '../../node/recovery.ts';
import { ledgerFolderOf } from '../../node/wiring/vote-folder.ts';
import { compactLog, damageLedger, stoppedVoter } from './stopped-voter.ts';

const mainFile = resolve(import.meta.dirname, '../../node/main.ts');

/** Runs the peer until it has said this, or ends by itself. */
async function runPeer(t: TestContext, stateFolder: string, until: string): Promise<{ code: number; said: string }> {
  const words = [mainFile, 'run', '--state', stateFolder];
  const peer = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'], signal: t.signal });
  const ended = once(peer, 'exit');
  let said = '';
  const take = (part: string): void => {
    said += part;
    if (said.includes(until)) peer.kill('SIGTERM');
  };
  for (const stream of [peer.stdout, peer.stderr]) stream.setEncoding('utf8').on('data', take);
  const [code] = await ended;
  return { code: Number(code), said };
}

test('parley run makes a damaged ledger anew from the log, and stops where the log starts too late', async (t) => {
  const stateFolder = await stoppedVoter(t);
  await damageLedger(stateFolder);
  const healed = await runPeer(t, stateFolder, 'peer runs');
  assert.equal(healed.code, 0, healed.said);
  assert.match(healed.said, /sets its ledger aside/);
  const { index, ledgerDamage, generation } = await survey(stateFolder);
  assert.ok(index > 6 && ledgerDamage === null && generation === 0, `${index} ${ledgerDamage}`);
  await access(`${ledgerFolderOf(stateFolder)}.damaged`);

  await compactLog(stateFolder);
  await damageLedger(stateFolder);
  for (const _ of ['set aside', 'started again']) {
    const stopped = await runPeer(t, stateFolder, 'peer runs');
    assert.equal(stopped.code, 1);
    assert.match(
      stopped.said,
      /ends at entry 1: its log starts after entry 4\n.*only voter.*`ledger\.damaged`.*backup/,
    );
  }
  await access(`${ledgerFolderOf(stateFolder)}.damaged`);
});
