// Owns the peer's bare copy of the project: commits as pure functions of their intents, drafts' trees, history and diffs.
// The branch `main` moves only forward, by compare-and-swap.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import type { CommitIntent } from '../../protocols/ledger-state.ts';
import { blobBytesMax } from '../../protocols/limits.ts';
import { diffBytesMax } from '../../protocols/views.ts';
import { changedFiles, type FileChange, type Git, resolve } from './git.ts';

export const branch = 'refs/heads/main';
/** Git's id of the tree without files, known to every repository. */
export const emptyTree = '4b825dc642cb6eb9a060e54bf8d69288fbee4904';
const noRevision = '0'.repeat(40);

export interface CommitRecord {
  readonly revision: string;
  readonly author: string;
  readonly atMs: number;
  readonly message: string;
}

/** A tree that is not committed, with the objects that its base lacks. */
export interface TreePack {
  readonly tree: string;
  readonly pack: Uint8Array;
  readonly files: readonly FileChange[];
}

export interface Repository {
  open(): Promise<void>;
  head(): Promise<string | null>;
  has(object: string): Promise<boolean>;
  /** Adds a pack's objects. Adding the same twice is free. @throws ParleyError `pack-damaged` */
  addPack(pack: Uint8Array): Promise<void>;
  /**
   * Makes the commit that the intent names and moves `main` from the intent's parent to it. A redo gives the same id.
   * @throws ParleyError `head-moved` when `main` stands elsewhere.
   */
  commit(intent: CommitIntent): Promise<string>;
  /** Moves `main` forward to a revision that is already here; never backward or aside. */
  advance(revision: string): Promise<void>;
  /** All objects that `want` reaches and `have` does not. */
  packOf(want: string, have: string | null): Promise<Uint8Array>;
  changes(base: string | null, tree: string): Promise<FileChange[]>;
  /** Unified diff, cut at diffBytesMax. */
  patch(base: string | null, tree: string): Promise<string>;
  history(limit: number): Promise<CommitRecord[]>;
  /** Writes a commit's or tree's files into an empty folder. */
  checkout(treeish: string, folder: string): Promise<void>;
  /** The draft that a folder's files amount to, relative to base; ignored files included, `.git` never. */
  treeOf(folder: string, base: string | null): Promise<TreePack>;
}

export function createRepository(folder: string, git: Git): Repository {
  const repository: Repository = {
    async open() {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await git(['init', '--quiet', '--bare', '--initial-branch=main', folder]);
    },
    async head() {
      return resolve(git, branch);
    },
    async has(object) {
      return (await git(['cat-file', '-e', object], { allowedExitCodes: [1, 128] })).exitCode === 0;
    },
    async addPack(pack) {
      try {
        await git(['unpack-objects', '-q', '--strict'], { input: pack });
      } catch (cause) {
        throw new ParleyError(
          'pack-damaged',
          `a pack of ${pack.byteLength} bytes cannot be read: ${(cause as Error).message}`,
          { cause },
        );
      }
    },
    async commit(intent) {
      const revision = await writeCommit(git, intent);
      const head = await repository.head();
      if (head === revision) return revision;
      if (head && (await isAncestor(git, revision, head))) return revision;
      if (head !== intent.parent) {
        throw new ParleyError(
          'head-moved',
          `the project's head is '${head}': the commit was made for '${intent.parent}'`,
        );
      }
      await git(['update-ref', branch, revision, intent.parent ?? noRevision]);
      return revision;
    },
    async advance(revision) {
      const head = await repository.head();
      if (head === revision || (head && (await isAncestor(git, revision, head)))) return;
      if (head && !(await isAncestor(git, head, revision))) {
        throw new ParleyError(
          'head-moved',
          `cannot move the project from '${head}' to '${revision}': it does not follow`,
        );
      }
      await git(['update-ref', branch, revision, head ?? noRevision]);
    },
    async packOf(want, have) {
      const known = have && (await repository.has(have)) ? `^${have}\n` : '';
      const input = `${want}\n${known}`;
      const { bytes } = await git(['pack-objects', '--revs', '--stdout', '-q'], {
        input,
        stdoutBytesMax: 4 * blobBytesMax,
      });
      return bytes;
    },
    async changes(base, tree) {
      return changedFiles(git, base ?? emptyTree, tree);
    },
    async patch(base, tree) {
      const { text } = await git(['diff', '--no-color', '--no-ext-diff', '--no-textconv', base ?? emptyTree, tree], {
        stdoutBytesMax: blobBytesMax,
      });
      return text.length <= diffBytesMax
        ? text
        : `${text.slice(0, diffBytesMax)}\n… cut: the whole diff has ${text.length} characters`;
    },
    async history(limit) {
      if ((await repository.head()) === null) return [];
      const { text } = await git(['log', '-z', `--max-count=${limit}`, '--format=%H%x1f%an%x1f%ct%x1f%B', branch]);
      return text.split('\0').filter(Boolean).map(parseLogRecord);
    },
    async checkout(treeish, target) {
      await withIndex(async (index) => {
        const place = ['--work-tree', target];
        await git([...place, 'read-tree', treeish], { environment: index });
        await git([...place, 'checkout-index', '--all', '--force'], { environment: index });
      });
    },
    async treeOf(source, base) {
      const tree = await withIndex(async (index) => {
        if (base) await git(['read-tree', base], { environment: index });
        await git(['--work-tree', source, 'add', '--all', '--force', '.'], { environment: index });
        return (await git(['write-tree'], { environment: index })).text;
      });
      return { tree, pack: await repository.packOf(tree, base), files: await repository.changes(base, tree) };
    },
  };
  return repository;
}

/** The commit object: names, dates and message come from the intent alone, so that every peer makes the same id. */
async function writeCommit(git: Git, intent: CommitIntent): Promise<string> {
  const date = `@${Math.floor(intent.timeMs / 1000)} +0000`;
  const name = intent.author;
  const email = `${intent.author.replaceAll('@', '.')}@parley.invalid`;
  const { text } = await git(
    [
      '-c',
      'i18n.commitEncoding=UTF-8',
      'commit-tree',
      ...(intent.parent ? ['-p', intent.parent] : []),
      '-F',
      '-',
      intent.tree,
    ],
    {
      input: `${intent.message.trimEnd()}\n`,
      environment: {
        GIT_AUTHOR_NAME: name,
        GIT_AUTHOR_EMAIL: email,
        GIT_AUTHOR_DATE: date,
        GIT_COMMITTER_NAME: name,
        GIT_COMMITTER_EMAIL: email,
        GIT_COMMITTER_DATE: date,
      },
    },
  );
  return text;
}

async function isAncestor(git: Git, ancestor: string, revision: string): Promise<boolean> {
  return (
    (await git(['merge-base', '--is-ancestor', ancestor, revision], { allowedExitCodes: [1, 128] })).exitCode === 0
  );
}

/** Runs with an index file of its own, so that no other call is disturbed. */
export async function withIndex<T>(use: (environment: { GIT_INDEX_FILE: string }) => Promise<T>): Promise<T> {
  const scratch = await mkdtemp(join(tmpdir(), 'parley-index-'));
  try {
    return await use({ GIT_INDEX_FILE: join(scratch, 'index') });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function parseLogRecord(record: string): CommitRecord {
  const [revision = '', author = '', seconds = '0', message = ''] = record.split('\x1f');
  return { revision, author, atMs: Number(seconds) * 1000, message: message.trimEnd() };
}
