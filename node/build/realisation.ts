// Owns the building of one derivation and the signed manifest of what came out. The result is rooted, so that it can be
// served to peers until newer builds have pushed it out.

import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { BuildRequest, BuildResult } from '../../protocols/build-job.ts';
import { check } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { logLineCharactersMax, membersMax } from '../../protocols/limits.ts';
import { type Manifest, manifestSchema, manifestVersion } from '../../protocols/manifest.ts';
import type { BuilderKey } from './builder-key.ts';
import type { Evaluator } from './evaluate.ts';
import type { BuildNix } from './index.ts';
import { createInternalJsonReader, type InternalJsonReader } from './internal-json-core.ts';
import type { Watcher } from './shared-jobs.ts';

/** Results kept alive: one for each of the most hosts that a fleet has, and their predecessors. */
const rootsKeptMax = 2 * membersMax;
/** An error with its trace is one line of the structured log. */
const structuredLineCharactersMax = 64 * logLineCharactersMax;
/** Characters of a failure's message: an error record holds 8,000. */
const failureCharactersMax = 6_000;

/** Nix says nothing of these two; they are what goes wrong on new machines. */
const sandboxHint =
  'Perhaps the sandbox cannot be set up: on Debian install busybox-static, and the kernel must allow user namespaces.';

export interface RealiserInit {
  /** Folder of the results' garbage-collector roots. */
  readonly rootsFolder: string;
}

export interface RealiserComponents {
  readonly nix: BuildNix;
  readonly key: () => Promise<BuilderKey>;
  readonly evaluate: Evaluator;
}

export type Realiser = (request: BuildRequest, watcher: Watcher) => Promise<BuildResult>;

/** @returns the function that builds. */
export function createRealiser(init: RealiserInit): (components: RealiserComponents) => Realiser {
  return ({ nix, key, evaluate }) => {
    return async (request, watcher) => {
      const { drvPath } = request;
      const options = { signal: watcher.signal };
      if ((await nix.missingPaths([drvPath], options)).length > 0) await instantiate(evaluate, request, watcher);
      await mkdir(init.rootsFolder, { recursive: true, mode: 0o700 });
      const root = path.join(init.rootsFolder, path.basename(drvPath, '.drv'));
      await rm(root, { force: true });
      await realise(nix, drvPath, root, watcher);
      const storePath = await nix.readProfile(root);
      if (storePath === undefined) throw new ParleyError('build-failed', `'${drvPath}' was built: it left no result`);
      await pruneRoots(init.rootsFolder);
      return { storePath, manifest: await makeManifest(nix, await key(), storePath, watcher.signal) };
    };
  };
}

/** A builder that did not evaluate the derivation itself makes it again from the commit that it comes from. */
async function instantiate(evaluate: Evaluator, request: BuildRequest, watcher: Watcher): Promise<void> {
  const { drvPath, source } = request;
  if (source === undefined) {
    throw new ParleyError(
      'derivation-missing',
      `cannot build '${drvPath}': this builder does not have the derivation`,
      {
        hint: 'Evaluate the commit on this builder first.',
      },
    );
  }
  const { hosts } = await evaluate({ revision: source.revision, hosts: [source.host] }, watcher);
  const host = hosts[0];
  if (host?.error) throw new ParleyError(host.error.code, host.error.message);
  const found = host?.toplevel?.drvPath;
  if (found === drvPath) return;
  throw new ParleyError(
    'derivation-missing',
    `host '${source.host}' of commit '${source.revision}' is '${found}' on this builder: expected '${drvPath}'`,
  );
}

async function realise(nix: BuildNix, drvPath: string, root: string, watcher: Watcher): Promise<void> {
  const reader = createInternalJsonReader({
    onLog: (line) => watcher.onLog?.(line),
    onProgress: (progress) => watcher.onProgress?.(progress),
  });
  const result = await nix.run({
    program: 'nix-store',
    arguments: ['--realise', drvPath, '--add-root', root, '--log-format', 'internal-json', '-v'],
    signal: watcher.signal,
    lineCharactersMax: structuredLineCharactersMax,
    onStderrLine: (line) => reader.push(line),
  });
  if (result.exitCode !== 0) throw buildFailure(nix, drvPath, reader, result.exitCode);
}

/** Names the derivation that failed, which is rarely the one that was asked for, and shows the end of its log. */
function buildFailure(nix: BuildNix, drvPath: string, reader: InternalJsonReader, exitCode: number): ParleyError {
  const failure = reader.failure();
  const allErrors = reader.errors().join('\n');
  const errors = nix.explain(allErrors);
  if (/No space left on device|database or disk is full/i.test(allErrors)) {
    const hint = "Free space on the file system that holds the builder's store, then retry.";
    return new ParleyError('disk-full', `building '${drvPath}' failed: ${errors}`, { hint, retryable: true });
  }
  const foreign = /a '([^']+)' with features .* is required to build '([^']+)'/.exec(allErrors);
  if (foreign !== null) {
    const hint = `Give a peer that is a '${foreign[1]}' the role builder, or this machine an emulator or a remote builder.`;
    const message = `building '${foreign[2]}' failed: this builder cannot build for the system '${foreign[1]}'`;
    return new ParleyError('system-unsupported', message, { hint });
  }
  if (failure === undefined) {
    const state = errors || `nix-store ended with status ${exitCode} without a message`;
    const message = `building '${drvPath}' failed: ${state}`.slice(0, failureCharactersMax);
    return new ParleyError('build-failed', message, /unexpected EOF/.test(state) ? { hint: sandboxHint } : {});
  }
  if (failure.lastLines.length === 0) {
    const message = `building '${failure.drvPath}' ${failure.reason} without a log: ${errors}`;
    return new ParleyError('build-failed', message.slice(0, failureCharactersMax), { hint: sandboxHint });
  }
  const hint = `See the whole log on the builder with \`nix log ${failure.drvPath}\`.`;
  const kept = failure.lastLines.join('\n').slice(-failureCharactersMax);
  return new ParleyError('build-failed', `building '${failure.drvPath}' ${failure.reason}:\n${kept}`, { hint });
}

async function makeManifest(nix: BuildNix, key: BuilderKey, root: string, signal: AbortSignal): Promise<Manifest> {
  const infos = await nix.pathInfo([root], { closure: true, signal });
  const paths = infos
    .sort((left, right) => (left.path < right.path ? -1 : 1))
    .map(({ path: storePath, narHash, narSize, references, deriver }) => {
      const entry = { storePath, narHash, narSize, references: [...references] };
      return { ...entry, ...(deriver === undefined ? {} : { deriver }), signature: key.sign(entry) };
    });
  return check(manifestSchema, { version: manifestVersion, root, key: key.name, paths }, `the manifest of '${root}'`);
}

/** Removes the oldest roots beyond the limit; what they kept alive may then be collected. */
async function pruneRoots(folder: string): Promise<void> {
  const names = await readdir(folder);
  if (names.length <= rootsKeptMax) return;
  const roots = await Promise.all(
    names.map(async (name) => ({
      name,
      madeMs: (await lstat(path.join(folder, name)).catch(() => undefined))?.mtimeMs ?? 0,
    })),
  );
  const oldest = roots.sort((left, right) => left.madeMs - right.madeMs).slice(0, names.length - rootsKeptMax);
  await Promise.all(oldest.map(({ name }) => rm(path.join(folder, name), { force: true })));
}
