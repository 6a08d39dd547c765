// Owns every use of a Nix store by the peer, be it the machine's own or a diverted one: what is valid, what is rooted, what
// is fetched from where under whose signature. Other rooms see store paths and never the differences between Nix versions.

import { mkdir, readdir, readlink, rm } from 'node:fs/promises';
import path from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import type { ProcessRequest, ProcessResult, ProcessRunner } from '../interfaces.ts';
import { type NixSettings, nixEnvironment, prepareFolders, storeArguments } from './nix-environment.ts';
import { nixFailure, trimNixError } from './nix-failure-core.ts';
import { type PathInfo, parseNixVersion, parsePathInfo } from './nix-format-core.ts';

/** Debian 12's; older ones lack flakes as we use them. */
const oldestVersion = { major: 2, minor: 8 };
/** Paths per command line, far below the kernel's limit of 2 MiB for arguments. */
const pathsPerCommand = 2_000;
/** 50,000 paths with their references in JSON. */
const pathInfoBytesMax = 512 * 1024 * 1024;

export type NixProgram = 'nix' | 'nix-store' | 'nix-env';

/** A run of a nix program: the store, configuration and environment are added. */
export type NixRequest = Omit<ProcessRequest, 'program'> & { readonly program: NixProgram };

export interface RealiseOptions {
  /** URL of the only binary cache to fetch from; without it only what is valid already is realised. */
  readonly substituter?: string;
  /** `name:base64` keys of which one must have signed every path that is fetched. */
  readonly trustedPublicKeys?: readonly string[];
  /** Where to leave a garbage-collector root for the path. */
  readonly root?: string;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly onLog?: (line: string) => void;
}

export interface Nix {
  /** True for a diverted store. */
  readonly isDiverted: boolean;
  /** Runs a nix program; a non-zero exit is a result. */
  run(request: NixRequest): Promise<ProcessResult>;
  /** Runs a nix program; a non-zero exit is a ParleyError (codes of nixFailure). */
  runChecked(request: NixRequest): Promise<ProcessResult>;
  /** Nix's version as it prints it. Rejects with `nix-missing` or `nix-too-old`, whose hints say what to do. */
  requireVersion(): Promise<string>;
  /** Records of the valid ones among paths, or with `closure` of all that they refer to. */
  pathInfo(
    paths: readonly string[],
    options?: { readonly closure?: boolean; readonly signal?: AbortSignal },
  ): Promise<PathInfo[]>;
  /** Those of the paths that are not valid in the store. */
  missingPaths(paths: readonly string[], options?: { readonly signal?: AbortSignal }): Promise<string[]>;
  /** Fetches a path and all that it refers to, checking signatures, unless it is valid already. */
  realise(storePath: string, options?: RealiseOptions): Promise<void>;
  /** Makes link a garbage-collector root for a valid path; an older target of the link is let go. */
  addRoot(link: string, storePath: string): Promise<void>;
  removeRoot(link: string): Promise<void>;
  /** Names of the roots in a folder; none where there is no such folder. */
  rootsIn(folder: string): Promise<string[]>;
  /** Makes storePath the newest generation of a profile. */
  setProfile(profile: string, storePath: string): Promise<void>;
  /** The store path that a profile's newest generation, or a root, names; undefined where there is none. */
  readProfile(profile: string): Promise<string | undefined>;
  /** Deletes paths that nothing keeps alive; a path that is kept alive is `path-in-use`. */
  deletePaths(paths: readonly string[]): Promise<void>;
  collectGarbage(options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** What a person needs of a nix program's standard error. */
  explain(stderr: string): string;
  /** Where the files of a store path lie on this machine. */
  physicalPath(storePath: string): string;
}

/** Creates the access to one store. Nothing is run or written before the first use. */
export function createNix(settings: NixSettings): (components: { readonly runner: ProcessRunner }) => Nix {
  if (settings.store !== undefined && !path.isAbsolute(settings.store)) {
    throw new ParleyError('bad-store-folder', `the store's folder '${settings.store}' is not absolute`);
  }
  return ({ runner }) => createOn(settings, runner);
}

function createOn(settings: NixSettings, runner: ProcessRunner): Nix {
  const environment = nixEnvironment(settings);
  let prepared: Promise<void> | undefined;
  let version: Promise<string> | undefined;

  async function run(request: NixRequest): Promise<ProcessResult> {
    prepared ??= prepareFolders(settings);
    await prepared;
    return await runner.run({
      ...request,
      arguments: [...storeArguments(settings), ...request.arguments],
      environment: { ...environment, ...request.environment },
    });
  }

  async function runChecked(request: NixRequest): Promise<ProcessResult> {
    const result = await run(request);
    if (result.exitCode !== 0) throw nixFailure(request.program, result.exitCode, result.stderr);
    return result;
  }

  const physicalPath = (storePath: string) => path.join(settings.store ?? '/', storePath);

  return {
    isDiverted: settings.store !== undefined,
    run,
    runChecked,
    physicalPath,
    explain: trimNixError,
    requireVersion() {
      version ??= readVersion(runner, environment).catch((error: unknown) => {
        version = undefined;
        throw error;
      });
      return version;
    },
    async pathInfo(paths, options = {}) {
      const infos = new Map<string, PathInfo>();
      for (const part of partsOf(paths)) {
        const { stdout } = await runChecked({
          program: 'nix',
          arguments: ['path-info', '--json', ...(options.closure ? ['--recursive'] : []), ...part],
          stdoutBytesMax: pathInfoBytesMax,
          ...signalOf(options),
        });
        for (const info of parsePathInfo(Buffer.from(stdout).toString('utf8'))) infos.set(info.path, info);
      }
      return [...infos.values()];
    },
    async missingPaths(paths, options = {}) {
      const missing: string[] = [];
      for (const part of partsOf(paths)) {
        const { stdout } = await runChecked({
          program: 'nix-store',
          arguments: ['--check-validity', '--print-invalid', ...part],
          ...signalOf(options),
        });
        missing.push(...Buffer.from(stdout).toString('utf8').split('\n').filter(Boolean));
      }
      return missing;
    },
    async realise(storePath, options = {}) {
      if (options.root !== undefined) await mkdir(path.dirname(options.root), { recursive: true });
      await runChecked({ program: 'nix-store', ...realiseRequest(storePath, options) });
    },
    async addRoot(link, storePath) {
      await mkdir(path.dirname(link), { recursive: true });
      await runChecked({ program: 'nix-store', ...realiseRequest(storePath, { root: link }) });
    },
    removeRoot: (link) => rm(link, { force: true }),
    rootsIn: (folder) => readdir(folder).catch(() => []),
    async setProfile(profile, storePath) {
      await mkdir(path.dirname(profile), { recursive: true });
      await runChecked({ program: 'nix-env', arguments: ['--profile', profile, '--set', storePath, ...noSubstitutes] });
    },
    readProfile,
    async deletePaths(paths) {
      for (const part of partsOf(paths)) {
        await runChecked({ program: 'nix-store', arguments: ['--delete', ...part] });
      }
    },
    async collectGarbage(options = {}) {
      await runChecked({ program: 'nix-store', arguments: ['--gc'], ...signalOf(options) });
    },
  };
}

/** Signatures are required whatever the machine's configuration says. */
function realiseRequest(storePath: string, options: RealiseOptions): Omit<NixRequest, 'program'> {
  const fetching =
    options.substituter === undefined
      ? noSubstitutes
      : [
          ['--option', 'substituters', options.substituter],
          ['--option', 'trusted-public-keys', (options.trustedPublicKeys ?? []).join(' ')],
          ['--option', 'require-sigs', 'true'],
        ].flat();
  const root = options.root === undefined ? [] : ['--add-root', options.root];
  return {
    arguments: ['--realise', storePath, ...root, ...fetching],
    ...signalOf(options),
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    ...(options.onLog === undefined ? {} : { onStderrLine: options.onLog }),
  };
}

const noSubstitutes = ['--option', 'substitute', 'false'];

async function readVersion(runner: ProcessRunner, environment: Record<string, string>): Promise<string> {
  const hint =
    "Install Nix 2.8 or newer: `apt-get install nix-bin busybox-static` on Debian, or nixos.org's installer.";
  const result = await runner.run({ program: 'nix', arguments: ['--version'], environment }).catch((cause: unknown) => {
    if (!(cause instanceof ParleyError) || cause.code !== 'program-missing') throw cause;
    throw new ParleyError('nix-missing', "Nix is needed here: there is no program 'nix' on PATH", { hint, cause });
  });
  const text = Buffer.from(result.stdout).toString('utf8').trim();
  const version = parseNixVersion(text);
  if (result.exitCode !== 0 || version === undefined) throw nixFailure('nix', result.exitCode, result.stderr || text);
  const isOld =
    version.major < oldestVersion.major ||
    (version.major === oldestVersion.major && version.minor < oldestVersion.minor);
  if (!isOld) return text;
  const wanted = `${oldestVersion.major}.${oldestVersion.minor}`;
  throw new ParleyError('nix-too-old', `Nix ${wanted} or newer is needed: this machine has '${text}'`, { hint });
}

async function readProfile(profile: string): Promise<string | undefined> {
  let target = profile;
  // A profile names its generation, and the generation the store path.
  for (let step = 0; step < 8; step += 1) {
    const next = await readlink(target).catch(() => undefined);
    if (next === undefined) return undefined;
    if (next.startsWith('/nix/store/')) return next;
    target = path.resolve(path.dirname(target), next);
  }
  return undefined;
}

function signalOf(options: { readonly signal?: AbortSignal | undefined }): { readonly signal?: AbortSignal } {
  return options.signal === undefined ? {} : { signal: options.signal };
}

function partsOf(paths: readonly string[]): string[][] {
  const parts: string[][] = [];
  for (let start = 0; start < paths.length; start += pathsPerCommand)
    parts.push(paths.slice(start, start + pathsPerCommand));
  return parts;
}
