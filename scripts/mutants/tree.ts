// Owns a copy of the project's sources in which one mutant after the other lives, and how the copy's tests end there.

import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { infect, type Mutant } from './mutant.ts';

/** One test file; a mutant may well make it hang. */
const timeoutMs = 120_000;
const folders = ['protocols', 'node', 'chatops', 'scripts', 'test'];

/** How a test file ends: no test failed; at least one did or it hung; or it did not get as far as a test. */
export type Ending = 'passes' | 'fails' | 'breaks';

export class Tree {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Copies the sources below `root`, with its packages linked. */
  static async copy(root: string): Promise<Tree> {
    const folder = await mkdtemp(join(tmpdir(), 'parley-mutants-'));
    for (const each of folders) await cp(join(root, each), join(folder, each), { recursive: true });
    await cp(join(root, 'package.json'), join(folder, 'package.json'));
    for (const link of ['node_modules', '.runtime']) await symlink(join(root, link), join(folder, link));
    await mkdir(join(folder, 'tmp'));
    return new Tree(folder);
  }

  /** Runs one test file in one process, which is ended by its first test that fails: what that leaves behind is in the tree. */
  run(file: string): Promise<Ending> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, ['--test-reporter=tap', file], {
        cwd: this.#folder,
        env: { ...process.env, TMPDIR: join(this.#folder, 'tmp') },
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      let hasFailed = false;
      const fail = (): void => {
        hasFailed = true;
        child.kill('SIGKILL');
      };
      const late = setTimeout(fail, timeoutMs);
      createInterface(child.stdout).on('line', (line) => {
        if (/^\s*not ok /.test(line)) fail();
      });
      child.on('error', reject);
      child.on('close', (code) => {
        clearTimeout(late);
        if (hasFailed) resolve('fails');
        else resolve(code === 0 ? 'passes' : 'breaks');
      });
    });
  }

  /** The tests that should have failed with the mutant, and how they end instead. */
  async survivedBy(mutant: Mutant): Promise<string[]> {
    const cure = await infect(this.#folder, mutant);
    try {
      const quiet: string[] = [];
      for (const file of mutant.tests) {
        const ending = await this.run(file);
        if (ending !== 'fails') quiet.push(`${file} ${ending}`);
      }
      return quiet;
    } finally {
      await cure();
    }
  }

  async remove(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
