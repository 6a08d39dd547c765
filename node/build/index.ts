// The build room: evaluates commits, builds and signs closures, refreshes inputs. It runs on peers with the role builder; the
// controller asks a builder elsewhere through the same interface, over the mesh.

import type {
  BuildLogLine,
  BuildProgress,
  BuildRequest,
  BuildResult,
  EvaluateRequest,
  Evaluation,
  UpdateRequest,
  UpdateResult,
} from '../../protocols/build-job.ts';
import { hashOf } from '../../protocols/codec.ts';
import { programRunText } from '../../protocols/program-run.ts';
import type { Nix } from '../host/index.ts';
import type { Clock, Logger, ProcessRunner, ProgramRecorder } from '../interfaces.ts';
import type { LogInput, TaskLog } from '../journal/index.ts';
import { type BuilderKey, loadBuilderKey } from './builder-key.ts';
import { createEvaluator } from './evaluate.ts';
import { createRealiser } from './realisation.ts';
import { createSharedJobs, type Watcher } from './shared-jobs.ts';
import { createUpdater } from './update.ts';

export { loadBuilderKey } from './builder-key.ts';
export { createBuildClient } from './client.ts';
export { diffClosures } from './closure-diff-core.ts';
export { serveBuildJobs } from './server.ts';

/** The part of the host room's store that this room uses. */
export type BuildNix = Pick<
  Nix,
  'run' | 'runChecked' | 'requireVersion' | 'pathInfo' | 'missingPaths' | 'readProfile' | 'explain'
>;

/** The part of the project room that this room uses. */
export interface BuildProject {
  ensureRevision(revision: string, options: { readonly signal: AbortSignal }): Promise<void>;
  ensurePack(pack: string, options: { readonly signal: AbortSignal }): Promise<void>;
  checkout(treeish: string, folder: string): Promise<void>;
}

export interface JobOptions {
  /** Aborting ends the job unless others wait for it too. */
  readonly signal: AbortSignal;
  /** The task whose log, on the builder, takes the job's lines. A builder elsewhere then sends none of them. */
  readonly task?: string | undefined;
  readonly onLog?: ((line: BuildLogLine) => void) | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

/** What any builder does, be it this peer or another one. All reject with ParleyError `cancelled` when the signal aborts. */
export interface BuildJobs {
  /**
   * Reads a commit's policy and its hosts' derivations. A host that fails is in the result with its error.
   * @throws ParleyError `revision-unknown`, `evaluation-failed` (the flake as a whole), `no-hosts`, `nix-missing`, `nix-too-old`.
   */
  evaluate(request: EvaluateRequest, options: JobOptions): Promise<Evaluation>;
  /**
   * Builds a derivation and signs its closure. Asked for twice at once, it is built once.
   * @throws ParleyError `build-failed` (the derivation that failed and the end of its log), `disk-full`, `system-unsupported`,
   * `derivation-missing`.
   */
  build(request: BuildRequest, options: JobOptions): Promise<BuildResult>;
  /** Refreshes a tree's inputs. @throws ParleyError `update-failed`, `unknown-input`. */
  update(request: UpdateRequest, options: JobOptions): Promise<UpdateResult>;
}

export interface Builder extends BuildJobs {
  /** `name:base64`; the key is made at the first call. @throws ParleyError `builder-key-damaged`. */
  publicKey(): Promise<string>;
  /** Rejects with `nix-missing` or `nix-too-old` where this peer cannot build. */
  requireNix(): Promise<string>;
  /** Nix systems that this peer builds for. */
  readonly systems: readonly string[];
}

export interface BuilderInit {
  /** Bare repository of the project. */
  readonly repositoryFolder: string;
  /** The signing key; made, mode 0600, where it does not exist. */
  readonly keyFile: string;
  /** First part of a new key's name: the peer's name. */
  readonly keyName: string;
  /** Garbage-collector roots of what was built. */
  readonly rootsFolder: string;
  readonly systems: readonly string[];
}

export interface BuilderComponents {
  readonly runner: ProcessRunner & ProgramRecorder;
  readonly nix: BuildNix;
  readonly project: BuildProject;
  /** The log of a task on this peer. */
  readonly taskLog: (task: string) => Pick<TaskLog, 'append'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Creates this peer's own builder. */
export function createBuilder(init: BuilderInit): (components: BuilderComponents) => Builder {
  return ({ runner, nix, project, taskLog, clock, logger }) => {
    const log = logger.child({ room: 'build' });
    const keepLine = (task: string, line: BuildLogLine) => taskLog(task).append([toLogInput(line)]);
    const evaluations = createSharedJobs<Evaluation>(clock, keepLine);
    const builds = createSharedJobs<BuildResult>(clock, keepLine);
    const updates = createSharedJobs<UpdateResult>(clock, keepLine);
    const evaluator = createEvaluator(init)({ nix, runner });
    const realise = createRealiser(init)({ nix, key, evaluate: evaluateFetched });
    const update = createUpdater({ nix, project });
    let loadedKey: Promise<BuilderKey> | undefined;

    function key(): Promise<BuilderKey> {
      loadedKey ??= loadBuilderKey(init.keyFile, init.keyName).catch((error: unknown) => {
        loadedKey = undefined;
        throw error;
      });
      return loadedKey;
    }

    async function evaluateFetched(request: EvaluateRequest, watcher: Watcher): Promise<Evaluation> {
      await nix.requireVersion();
      await project.ensureRevision(request.revision, { signal: watcher.signal });
      return await evaluator(request, watcher);
    }

    /** Does a job's work: its programs go to its log, its end to this peer's. */
    async function carryOut<T>(
      what: string,
      fields: object,
      { onLog }: Pick<Watcher, 'onLog'>,
      work: () => Promise<T>,
    ): Promise<T> {
      const startedMs = clock.monotonicMs();
      const tell = (outcome: string) =>
        log.info({ ...fields, outcome, durationMs: Math.round(clock.monotonicMs() - startedMs) }, what);
      try {
        const result = await runner.recording(
          (program) =>
            onLog?.({ level: program.exitCode === 0 ? 'debug' : 'info', text: programRunText(program), program }),
          work,
        );
        tell('finished');
        return result;
      } catch (error) {
        tell(error instanceof Error ? error.message.slice(0, 200) : 'failed');
        throw error;
      }
    }

    return {
      systems: init.systems,
      publicKey: async () => (await key()).publicKey,
      requireNix: () => nix.requireVersion(),
      evaluate: (request, options) =>
        evaluations.run(hashOf(request), options, (watcher) =>
          carryOut('evaluation ended', { revision: request.revision }, watcher, () =>
            evaluateFetched(request, watcher),
          ),
        ),
      build: (request, options) =>
        builds.run(request.drvPath, options, (watcher) =>
          carryOut('build ended', { drvPath: request.drvPath }, watcher, async () => {
            await nix.requireVersion();
            return await realise(request, watcher);
          }),
        ),
      update: (request, options) =>
        updates.run(hashOf(request), options, (watcher) =>
          carryOut('update ended', { tree: request.tree }, watcher, () => update(request, watcher)),
        ),
    };
  };
}

/** A line as the task's log keeps it. */
function toLogInput({ level, text, program }: BuildLogLine): LogInput {
  if (program !== undefined) return { stream: 'parley', level: level === 'build' ? 'info' : level, text, program };
  return level === 'build' ? { stream: 'stderr', level: 'info', text } : { stream: 'nix', level, text };
}
