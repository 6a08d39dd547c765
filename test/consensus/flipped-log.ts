// Flips bits of a real LevelDB's log file behind a voter's back and looks what opening the voter's log makes of each.

import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bootstrapLog, type LogDisk, openLogStore } from '../../node/consensus/log-store.ts';
import { createWitnessFile, openStore } from '../../node/store/index.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { genesisHash, noLearners } from './fleet.ts';

const base = { index: 1, term: 1, chainHash: genesisHash, configuration: { voters: [1], ...noLearners } };
const hardState = { term: 2, vote: 1, commit: 1 };

export interface LogShape {
  readonly batches: number;
  /** LevelDB gives up on the rest of a block of 32 KiB; what lies in later blocks, it reads. */
  readonly entryBytes: number;
  /** One bit of each so many bytes is flipped. */
  readonly stride: number;
}

export interface Flips {
  /** Flips that left everything that was acknowledged. */
  whole: number;
  /** Flips after which opening says that the log, or the database, is damaged. */
  refused: number;
  /** Those of them where the database by itself had opened without an error, its own records in order. */
  onlyWitness: number;
}

/** Flips bits of one log, one at a time. Fails when a log opens that lacks anything. */
export async function flipBits({ batches, entryBytes, stride }: LogShape): Promise<Flips> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-flips-'));
  try {
    const whole = join(folder, 'whole');
    await withDisk(whole, join(folder, 'witness'), (disk) => fill(disk, batches, entryBytes));
    const logName = (await readdir(whole)).find((name) => name.endsWith('.log'));
    assert.ok(logName);
    const image = await readFile(join(whole, logName));
    const flips: Flips = { whole: 0, refused: 0, onlyWitness: 0 };
    for (let at = 0; at < image.byteLength; at += stride) {
      const flipped = Buffer.from(image);
      flipped.writeUInt8(flipped.readUInt8(at) ^ (1 << (at % 8)), at);
      const copy = join(folder, `copy-${at}`);
      await cp(whole, copy, { recursive: true });
      await writeFile(join(copy, logName), flipped);
      flips[await judge(copy, join(folder, 'witness'), base.index + batches)] += 1;
      await rm(copy, { recursive: true });
    }
    flips.refused += flips.onlyWitness;
    return flips;
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function withDisk<Result>(
  folder: string,
  witnessPath: string,
  work: (disk: LogDisk) => Promise<Result>,
): Promise<Result> {
  const store = await openStore(folder);
  const witness = createWitnessFile(witnessPath);
  try {
    return await work({ store, witness });
  } finally {
    await store.close();
    await witness.close();
  }
}

async function fill(disk: LogDisk, batches: number, entryBytes: number): Promise<void> {
  await bootstrapLog(disk, base);
  const log = await openLogStore(disk, () => undefined);
  for (let offset = 1; offset <= batches; offset += 1) {
    const data = new Uint8Array(entryBytes).fill(offset);
    await log.write({ hardState, entries: [{ index: base.index + offset, term: 2, type: 'normal', data }] });
  }
}

async function judge(folder: string, witnessPath: string, lastIndex: number): Promise<keyof Flips> {
  try {
    await withDisk(folder, witnessPath, async (disk) => {
      const opened = await openLogStore(disk, () => undefined);
      assert.equal(opened.log.lastIndex(), lastIndex);
      assert.deepEqual(opened.hardState(), hardState);
    });
    return 'whole';
  } catch (error) {
    if (!(error instanceof ParleyError) || !['damaged-log', 'store-damaged'].includes(error.code)) throw error;
    return /was acknowledged/.test(error.message) ? 'onlyWitness' : 'refused';
  }
}
