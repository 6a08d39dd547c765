// Owns the operator's own checkout of the project, the work folder: its changes become the draft, and what was committed or
// updated elsewhere is brought into it without touching what the operator is still working on.

import { ParleyError } from '../../protocols/errors.ts';
import type { ProcessRunner } from '../interfaces.ts';
import { changedFiles, createGit, type Git, resolve } from './git.ts';
import { emptyTree, type TreePack, withIndex } from './repository.ts';

/** The tree that this folder last took over from the fleet's draft; absent when it never did. */
const draftReference = 'refs/parley/draft';

export interface KnownDraft {
  readonly tree: string;
  readonly actor: string;
}

/** `tree` is what the folder holds. */
export type WorkFolderChange =
  | { readonly kind: 'unchanged'; readonly tree: string }
  /** The folder took part in the draft before and now equals the head: the draft is to be discarded. */
  | { readonly kind: 'reverted'; readonly tree: string }
  | ({ readonly kind: 'changed' } & TreePack);

export interface WorkFolderTarget {
  /** The commit to stand on; null leaves HEAD alone. */
  readonly head: string | null;
  /** The tree that the folder held when it was read. */
  readonly from: string;
  readonly tree: string;
  /** The draft's pack, where the tree is not part of a commit. */
  readonly pack: Uint8Array | null;
}

export interface WorkFolders {
  /**
   * Compares a work folder with the project's head and the fleet's draft. A folder without changes of its own follows the head.
   * @throws ParleyError `not-a-checkout`, `checkout-behind`, `draft-elsewhere`.
   */
  read(
    folder: string,
    project: { readonly head: string | null; readonly draft: KnownDraft | null },
  ): Promise<WorkFolderChange>;
  /**
   * Brings the folder to a commit or a draft. What was edited since `read` is kept where the target does not touch it.
   * @throws ParleyError `folder-changed` where it does; then the folder is as it was.
   */
  write(folder: string, target: WorkFolderTarget): Promise<void>;
}

/** @param repositoryFolder the peer's bare repository, where missing commits come from. */
export function createWorkFolders(runner: ProcessRunner, repositoryFolder: string): WorkFolders {
  const workFolders: WorkFolders = {
    async read(folder, { head, draft }) {
      const git = createGit(runner, ['-C', folder]);
      await assertTop(git, folder);
      const tree = await currentTree(git);
      const own = await resolve(git, 'HEAD^{commit}');
      if (head !== null && own !== head) {
        return { kind: 'unchanged', tree: await followHead(git, { folder, own, head, tree }) };
      }
      const headTree = head === null ? emptyTree : await resolve(git, `${head}^{tree}`);
      const taken = await resolve(git, draftReference);
      if (tree === headTree) return { kind: draft && taken === draft.tree ? 'reverted' : 'unchanged', tree };
      if (draft && draft.tree !== tree && draft.tree !== taken) {
        throw new ParleyError(
          'draft-elsewhere',
          `'${draft.actor}' has staged a draft that the work folder '${folder}' does not have`,
          { hint: 'Commit that draft from where it was made, or drop it with `discard`; then try again.' },
        );
      }
      const known = head === null ? '' : `^${head}\n`;
      const { bytes } = await git(['pack-objects', '--revs', '--stdout', '-q'], { input: `${tree}\n${known}` });
      await git(['update-ref', draftReference, tree]);
      return { kind: 'changed', tree, pack: bytes, files: await changedFiles(git, head ?? emptyTree, tree) };
    },
    async write(folder, target) {
      const git = createGit(runner, ['-C', folder]);
      await assertTop(git, folder);
      if (target.pack) await git(['unpack-objects', '-q'], { input: target.pack });
      if (target.head) await fetchHead(git, target.head);
      await merge(git, folder, target);
      if (target.head) await git(['update-ref', '-m', 'parley: follow the project', 'HEAD', target.head]);
      await git(['update-ref', draftReference, target.tree]);
    },
  };

  async function fetchHead(git: Git, head: string): Promise<void> {
    if (await resolve(git, `${head}^{commit}`)) return;
    await git(['fetch', '--quiet', '--no-tags', repositoryFolder, 'refs/heads/main']);
  }

  async function followHead(
    git: Git,
    at: { folder: string; own: string | null; head: string; tree: string },
  ): Promise<string> {
    await fetchHead(git, at.head);
    const ownTree = at.own === null ? emptyTree : await resolve(git, `${at.own}^{tree}`);
    const headTree = await resolve(git, `${at.head}^{tree}`);
    if (headTree && (at.tree === ownTree || at.tree === headTree)) {
      await workFolders.write(at.folder, { head: at.head, from: at.tree, tree: headTree, pack: null });
      return headTree;
    }
    throw new ParleyError(
      'checkout-behind',
      `the work folder '${at.folder}' has changes on top of '${at.own ?? 'nothing'}': the project's head is '${at.head}'`,
      { hint: `Run \`git pull --rebase --autostash ${repositoryFolder} main\` there, then try again.` },
    );
  }

  return workFolders;
}

/** Git's own two-tree merge, in an index that is thrown away: one that was refused must not leave its traces. */
async function merge(git: Git, folder: string, { from, tree }: WorkFolderTarget): Promise<void> {
  const refresh = ['update-index', '-q', '--refresh'];
  if (from !== tree) {
    await withIndex(async (environment) => {
      await git(['read-tree', from], { environment });
      await git(refresh, { environment, allowedExitCodes: [1] });
      await git(['read-tree', '-m', '-u', from, tree], { environment }).catch((cause: unknown) => {
        if (!(cause instanceof ParleyError) || cause.code !== 'git-failed') throw cause;
        const message = `'${folder}' was edited meanwhile, in files that would be written: ${cause.message}`;
        throw new ParleyError('folder-changed', message, { cause });
      });
    });
  }
  await git(['read-tree', tree]);
  await git(refresh, { allowedExitCodes: [1] });
}

async function assertTop(git: Git, folder: string): Promise<void> {
  const { text, exitCode } = await git(['rev-parse', '--show-prefix'], { allowedExitCodes: [128] });
  if (exitCode === 0 && text === '') return;
  const why = exitCode === 0 ? `it lies inside a checkout, at '${text}'` : 'it is no checkout of this user';
  throw new ParleyError('not-a-checkout', `'${folder}' cannot be used as the work folder: ${why}`, {
    hint: 'Run the command in the top folder of your clone of the project, or leave the work folder out.',
  });
}

/** The tree of the files as they are, untracked ones included and ignored ones left out; the folder's own index is not touched. */
async function currentTree(git: Git): Promise<string> {
  return withIndex(async (environment) => {
    if (await resolve(git, 'HEAD')) await git(['read-tree', 'HEAD'], { environment });
    await git(['add', '--all', '.'], { environment });
    return (await git(['write-tree'], { environment })).text;
  });
}
