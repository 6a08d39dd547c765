// Owns the state folder of a stopped voter for tests, the founder of a fleet with a log, and what may happen to it.

import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { beginLog, type LogDisk } from '../../node/consensus/index.ts';
import { openLogStore } from '../../node/consensus/log-store.ts';
import { foundFleet } from '../../node/enrolment.ts';
import { readGenesis } from '../../node/ledger/index.ts';
import { survey } from '../../node/recovery.ts';
import { createWitnessFile, openStore } from '../../node/store/index.ts';
import { createVoteFolder, ledgerFolderOf, logFolderOf, witnessFileOf } from '../../node/wiring/vote-folder.ts';
import { check } from '../../protocols/codec.ts';
import { configSchema } from '../../protocols/config.ts';
import { plainConfiguration, type RaftEntry } from '../../protocols/consensus-record.ts';

const config = check(configSchema, {
  version: 1,
  listen: ['/ip4/127.0.0.1/tcp/0'],
  discovery: 'none',
  logLevel: 'info',
});
export const entry = (index: number): RaftEntry => ({ index, term: 2, type: 'normal', data: new Uint8Array(0) });
export const keyOf = (stateFolder: string): string => join(stateFolder, 'recovery.key');

export async function withLog(
  stateFolder: string,
  work: (disk: LogDisk) => Promise<void>,
  folder = logFolderOf(stateFolder),
): Promise<void> {
  const store = await openStore(folder);
  const witness = createWitnessFile(witnessFileOf(stateFolder));
  await work({ store, witness }).finally(() => Promise.all([store.close(), witness.close()]));
}

/** The stopped founder of a fleet: its log has the entries 2 to 6, of which its last batch knew 3 to be committed. */
export async function stoppedVoter(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-recovery-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const stateFolder = join(folder, 'state');
  const { membership } = await foundFleet({
    stateFolder,
    config,
    name: 'gate',
    site: 'home',
    nowMs: 1_700_000_000_000,
  });
  const { index, term, chainHash } = readGenesis(membership.genesis).state;
  await withLog(stateFolder, async (disk) => {
    await beginLog(disk, { index, term, chainHash, configuration: plainConfiguration([1]) }, []);
    const log = await openLogStore(disk, () => undefined);
    await log.write({ hardState: { term: 2, vote: 1, commit: 1 }, entries: [entry(2), entry(3)] });
    await log.write({ hardState: { term: 2, vote: 1, commit: 3 }, entries: [entry(4), entry(5)] });
    await log.write({ hardState: { term: 2, vote: 1, commit: 3 }, entries: [entry(6)] });
  });
  await createVoteFolder(stateFolder).logBegun();
  return stateFolder;
}

/** Leaves a database that cannot be opened. */
export async function damageLedger(stateFolder: string): Promise<void> {
  await survey(stateFolder);
  const folder = ledgerFolderOf(stateFolder);
  const manifest = (await readdir(folder)).find((name) => name.startsWith('MANIFEST'));
  await truncate(join(folder, manifest ?? assert.fail('no manifest')));
}

/** The log begins after entry 4: what came before is in the ledger alone. */
export async function compactLog(stateFolder: string): Promise<void> {
  await withLog(stateFolder, async (disk) => {
    const log = await openLogStore(disk, () => undefined);
    const chainHash = log.chainHash(4) ?? assert.fail();
    await log.compact({ index: 4, term: 2, chainHash, configuration: plainConfiguration([1]) });
  });
}
