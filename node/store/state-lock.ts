// Owns the rule that one state folder belongs to one running peer. The lock is the one LevelDB takes on its own LOCK file
// (fcntl): the kernel drops it with the process, children do not inherit it, and a reused process id cannot fool it.
// A file beside it only names the holder for people.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { ParleyError } from '../../protocols/errors.ts';
import { toStoreError } from './store-errors.ts';

/** Holds the state folder until it is released or the process ends. */
export interface StateLock {
  release(): Promise<void>;
}

/**
 * Takes the state folder for this process, making it when it is missing.
 * @throws ParleyError `state-in-use` when another peer runs on it, `disk-full` (retryable) or `store-failed`.
 */
export async function lockStateFolder(folder: string): Promise<StateLock> {
  const holderFile = join(folder, 'peer.pid');
  const lockFolder = join(folder, 'lock');
  const lock = new ClassicLevel(lockFolder, { cacheSize: 0, writeBufferSize: 64 * 1024 });
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await lock.open();
    await writeFile(holderFile, `${process.pid}\n`, { mode: 0o600 });
    return { release: () => lock.close() };
  } catch (cause) {
    await lock.close();
    const error = toStoreError('lock the state folder', folder, cause);
    if (error.code !== 'store-locked') throw error;
    const holder = (await readFile(holderFile, 'utf8').catch(() => '')).trim();
    const processText = /^[1-9][0-9]*$/.test(holder) ? `process ${holder}` : 'another process';
    throw new ParleyError('state-in-use', `cannot use the state folder '${folder}': ${processText} runs a peer on it`, {
      hint: 'Stop that peer first, or choose another folder with --state.',
      cause,
    });
  }
}
