// The project room: the git repository with the fleet's flake. Every voter and builder holds it; commits are made by each of
// them from the ledger's intents and come out the same, so that any of them can lead.

import { ParleyError } from '../../protocols/errors.ts';
import type { CommitIntent } from '../../protocols/ledger-state.ts';
import type { Logger, Mesh, ProcessRunner } from '../interfaces.ts';
import { fetchPack, serveProject } from './exchange.ts';
import { createGit } from './git.ts';
import { createRepository, type Repository } from './repository.ts';
import { createWorkFolders, type WorkFolders } from './work-folder.ts';

export type { FileChange } from './git.ts';
export type { CommitRecord, TreePack } from './repository.ts';
export type { WorkFolderChange, WorkFolderTarget } from './work-folder.ts';

export interface ProjectInit {
  /** Absolute path of the bare repository; made when absent. */
  readonly repositoryFolder: string;
}

export interface ProjectComponents {
  readonly runner: ProcessRunner;
  readonly mesh: Pick<Mesh, 'handle' | 'open'>;
  readonly logger: Logger;
  /** The bytes of a blob, from here or from another peer. */
  readonly fetchBlob: (hash: string, options: { readonly signal: AbortSignal }) => Promise<Uint8Array>;
  /** Connected peers that hold the project (voters and builders). */
  readonly holders: () => readonly string[];
}

export interface Project
  extends Pick<Repository, 'open' | 'head' | 'has' | 'changes' | 'patch' | 'history' | 'checkout' | 'treeOf'> {
  /** Carries out a commit intent: gets what is missing, makes the commit, moves `main`. Idempotent; the same id on every peer. */
  executeCommit(intent: CommitIntent, options: { readonly signal: AbortSignal }): Promise<string>;
  /** Makes sure that a commit and all before it are here, asking the other holders. Moves `main` forward to it. */
  ensureRevision(revision: string, options: { readonly signal: AbortSignal }): Promise<void>;
  /** Makes sure that a draft's objects are here. */
  ensurePack(pack: string, options: { readonly signal: AbortSignal }): Promise<void>;
  readonly workFolders: WorkFolders;
}

/** @returns the project room; call `open` once before anything else. */
export function createProject(init: ProjectInit): (components: ProjectComponents) => Project {
  return ({ runner, mesh, logger, fetchBlob, holders }) => {
    const repository = createRepository(init.repositoryFolder, createGit(runner, ['--git-dir', init.repositoryFolder]));
    const addedPacks = new Set<string>();
    // One change of the repository at a time: two commits must not race for `main`.
    let turn: Promise<unknown> = Promise.resolve();
    const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
      const result = turn.then(work, work);
      turn = result.catch(() => undefined);
      return result;
    };

    async function ensurePack(pack: string, options: { readonly signal: AbortSignal }): Promise<void> {
      if (addedPacks.has(pack)) return;
      await repository.addPack(await fetchBlob(pack, options));
      addedPacks.add(pack);
    }

    async function fetchRevision(revision: string, signal: AbortSignal): Promise<void> {
      let lastError: unknown;
      for (const peer of holders()) {
        try {
          await repository.addPack(
            await fetchPack(mesh, peer, { want: revision, have: await repository.head() }, signal),
          );
          return;
        } catch (error) {
          signal.throwIfAborted();
          lastError = error;
          logger.info({ peer, revision, error: String(error) }, 'a peer could not give the commit');
        }
      }
      throw new ParleyError('revision-unknown', `no connected peer could give the commit '${revision}'`, {
        retryable: true,
        cause: lastError,
      });
    }

    async function ensureRevision(revision: string, options: { readonly signal: AbortSignal }): Promise<void> {
      if (!(await repository.has(revision))) await fetchRevision(revision, options.signal);
      await repository.advance(revision);
    }

    return {
      async open() {
        await repository.open();
        serveProject(mesh, repository);
      },
      head: repository.head,
      has: repository.has,
      changes: repository.changes,
      patch: repository.patch,
      history: repository.history,
      checkout: repository.checkout,
      treeOf: repository.treeOf,
      ensurePack,
      ensureRevision: (revision, options) => inTurn(() => ensureRevision(revision, options)),
      executeCommit: (intent, options) =>
        inTurn(async () => {
          if (intent.parent) await ensureRevision(intent.parent, options);
          await ensurePack(intent.pack, options);
          return repository.commit(intent);
        }),
      workFolders: createWorkFolders(runner, init.repositoryFolder),
    };
  };
}
