// Owns the two things about files that are easy to forget: a new name is durable only once its folder is synced, and a
// file must never be seen half-written.

import { open, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Makes names that were added to or removed from a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Makes or replaces a whole file: writes it under a temporary name, syncs it, gives it its name and syncs the folder. Leaves
 * nothing behind on failure.
 */
export async function replaceDurably(
  path: string,
  content: Uint8Array | string,
  temporaryPath = `${path}.new`,
): Promise<void> {
  try {
    await writeFile(temporaryPath, content, { mode: 0o600, flush: true });
    await rename(temporaryPath, path);
  } catch (error) {
    await rm(temporaryPath, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}
