// Small systems for tests: real store paths in a diverted store, whose programs are shell scripts for the container.

import assert from 'node:assert/strict';
import { chmod, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { createLogger, createNix, createProcessRunner } from '../../node/host/index.ts';

export const silentLogger = createLogger({ level: 'silent' });
export const runner = createProcessRunner({ logger: silentLogger });

export interface Workshop {
  readonly folder: string;
  readonly storeRoot: string;
  readonly rootFolder: string;
  readonly nix: ReturnType<ReturnType<typeof createNix>>;
  /** Adds a toplevel; `$busybox` in scripts stands for a busybox in the store. */
  addToplevel(files: Readonly<Record<string, string>>): Promise<string>;
}

/** A temporary folder with a diverted store that holds a busybox. */
export async function makeWorkshop(t: TestContext): Promise<Workshop> {
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-device-'));
  t.after(async () => {
    await runner.run({ program: 'chmod', arguments: ['-R', 'u+w', folder] });
    await rm(folder, { recursive: true, force: true });
  });
  const storeRoot = path.join(folder, 'store');
  const nix = createNix({ store: storeRoot, cacheHome: path.join(folder, 'cache') })({ runner });

  async function add(source: string): Promise<string> {
    const { stdout } = await nix.runChecked({ program: 'nix-store', arguments: ['--add', source] });
    return Buffer.from(stdout).toString('utf8').trim();
  }

  const userland = path.join(folder, 'userland');
  await mkdir(path.join(userland, 'bin'), { recursive: true });
  await cp('/bin/busybox', path.join(userland, 'bin/busybox'));
  const busybox = `${await add(userland)}/bin/busybox`;

  return {
    folder,
    storeRoot,
    rootFolder: path.join(folder, 'root'),
    nix,
    async addToplevel(files) {
      const source = await mkdtemp(path.join(folder, 'toplevel-'));
      for (const [name, text] of Object.entries({ 'nixos-version': '24.11', ...files })) {
        const file = path.join(source, name);
        await mkdir(path.dirname(file), { recursive: true });
        await writeFile(file, text.replaceAll('$busybox', busybox));
        await chmod(file, 0o755);
      }
      const toplevel = await add(source);
      assert.match(toplevel, /^\/nix\/store\//);
      return toplevel;
    },
  };
}

/** A switch program that runs these shell lines. */
export function switchProgram(...lines: readonly string[]): Readonly<Record<string, string>> {
  return { 'bin/switch-to-configuration': ['#!$busybox sh', ...lines, ''].join('\n') };
}

/** Lines that make the system the running one, as `activate` does. */
export const becomeCurrent = '$busybox ln -sfn "$($busybox dirname "$($busybox dirname "$0")")" /run/current-system';
