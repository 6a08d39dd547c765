// Owns evaluation: what a committed revision's flake says of its fleet and its hosts. First one pure evaluation for policy and
// host names, then one bounded process for each host, so that a host that fails, loops or eats all memory fails alone.

import { availableParallelism, totalmem } from 'node:os';
import { stripVTControlCharacters } from 'node:util';
import type { EvaluatedHost, EvaluateRequest, Evaluation } from '../../protocols/build-job.ts';
import { evaluatedHostSchema } from '../../protocols/build-job.ts';
import { check } from '../../protocols/codec.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import { membersMax } from '../../protocols/limits.ts';
import type { ProcessRunner } from '../interfaces.ts';
import type { BuildNix, JobOptions } from './index.ts';

/** Processes at once: an evaluation of NixOS takes a core and up to a gigabyte. */
const processesMax = 4;
const policyTimeoutMs = 5 * 60_000;
const hostTimeoutMs = 10 * 60_000;
const gibibyte = 1024 ** 3;
/** Heap of one evaluation: a large NixOS host takes about a gigabyte, and the machine must live on. */
const heapBytesMax = Math.min(4 * gibibyte, Math.floor(totalmem() * 0.75));
/** Characters of an error kept for a host: errors of many hosts travel in one result. */
const errorCharactersMax = 1_500;

export interface EvaluatorInit {
  /** Bare repository of the project. */
  readonly repositoryFolder: string;
}

export interface EvaluatorComponents {
  readonly nix: BuildNix;
  readonly runner: ProcessRunner;
}

export type Evaluator = (request: EvaluateRequest, options: JobOptions) => Promise<Evaluation>;

/** @returns the function that evaluates; the revision must be in the repository. */
export function createEvaluator(init: EvaluatorInit): (components: EvaluatorComponents) => Evaluator {
  return ({ nix, runner }) => {
    return async (request, options) => {
      const url = await flakeUrl(runner, init.repositoryFolder, request.revision, options);
      const { parley, hosts } = await evaluateFleet(nix, url, options);
      const { known, unusable } = sortNames(hosts);
      for (const name of unusable) {
        options.onLog?.({
          level: 'warning',
          text: `nixosConfigurations.${JSON.stringify(name)} is left out: no host name`,
        });
      }
      const wanted = request.hosts ?? known;
      const evaluated = await inParallel(wanted, processCount(), (name) =>
        known.includes(name) ? evaluateHost(nix, url, name, options) : unknownHost(name, known),
      );
      return { revision: request.revision, parley: parley ?? null, hostNames: known, hosts: evaluated };
    };
  };
}

/** No more than the cores, nor than the memory carries. */
function processCount(): number {
  return Math.max(1, Math.min(processesMax, availableParallelism(), Math.floor(totalmem() / gibibyte)));
}

/** The revision as Nix fetches it from a bare repository. Nix 2.8 asks for the branch `master` unless a ref is named. */
async function flakeUrl(runner: ProcessRunner, folder: string, revision: string, options: JobOptions): Promise<string> {
  const { stdout } = await runner.run({
    program: 'git',
    arguments: ['--git-dir', folder, 'for-each-ref', '--count=1', '--format=%(refname)', '--contains', revision],
    environment: { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' },
    signal: options.signal,
  });
  const reference = Buffer.from(stdout).toString('utf8').trim();
  if (reference === '') {
    throw new ParleyError('revision-unknown', `the project has no commit '${revision}' on any branch`, {
      retryable: true,
    });
  }
  return `git+file://${encodeURI(folder)}?ref=${encodeURIComponent(reference)}&rev=${revision}`;
}

async function evaluateFleet(
  nix: BuildNix,
  url: string,
  options: JobOptions,
): Promise<{ readonly parley?: unknown; readonly hosts: readonly unknown[] }> {
  const expression = `let f = builtins.getFlake ${nixString(url)}; in {
    parley = f.parley or null;
    hosts = builtins.attrNames (f.nixosConfigurations or { });
  }`;
  const json = await evaluateJson(nix, expression, policyTimeoutMs, options).catch((error: unknown) => {
    throw explained(error, 'the flake cannot be evaluated', options);
  });
  const { parley, hosts } = json as { parley?: unknown; hosts: unknown[] };
  if (hosts.length > 0) return { parley, hosts };
  throw new ParleyError('no-hosts', "the flake has no hosts: its output 'nixosConfigurations' is missing or empty", {
    hint: 'Give the flake one nixosConfigurations entry for each device, commit, and try again.',
  });
}

async function evaluateHost(nix: BuildNix, url: string, name: string, options: JobOptions): Promise<EvaluatedHost> {
  const expression = `let
    t = (builtins.getFlake ${nixString(url)}).nixosConfigurations.${nixString(name)}.config.system.build.toplevel;
  in { inherit (t) drvPath; storePath = t.outPath; system = t.system or ""; }`;
  try {
    const toplevel = await evaluateJson(nix, expression, hostTimeoutMs, options);
    return check(evaluatedHostSchema, { name, toplevel, error: null }, `the toplevel of '${name}'`);
  } catch (error) {
    options.signal.throwIfAborted();
    return {
      name,
      toplevel: null,
      error: toErrorRecord(explained(error, `host '${name}' cannot be evaluated`, options)),
    };
  }
}

async function evaluateJson(
  nix: BuildNix,
  expression: string,
  timeoutMs: number,
  options: JobOptions,
): Promise<unknown> {
  const { stdout } = await nix.runChecked({
    program: 'nix',
    // The evaluation cache would answer with paths of derivations that were deleted since.
    arguments: ['eval', '--json', '--no-write-lock-file', '--option', 'eval-cache', 'false', '--expr', expression],
    environment: { GC_MAXIMUM_HEAP_SIZE: String(heapBytesMax) },
    signal: options.signal,
    timeoutMs,
    onStderrLine: (line) => reportLine(line, options),
  });
  return JSON.parse(Buffer.from(stdout).toString('utf8'));
}

/** Warnings and traces as they come; errors are told once, at the end. Waiting for each other's locks is no news. */
function reportLine(line: string, options: JobOptions): void {
  const plain = stripVTControlCharacters(line).trim();
  const warning = /^(?:evaluation )?warning:\s*(.*)$/.exec(plain)?.[1];
  if (warning !== undefined && !/SQLite database .* is busy/.test(warning)) {
    options.onLog?.({ level: 'warning', text: warning });
  } else if (plain.startsWith('trace:')) options.onLog?.({ level: 'info', text: plain });
}

function unknownHost(name: string, known: readonly string[]): Promise<EvaluatedHost> {
  const message = `the flake has no host '${name}': it has ${listNames(known)}`;
  return Promise.resolve({ name, toplevel: null, error: toErrorRecord(new ParleyError('unknown-host', message)) });
}

function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 20).map((name) => `'${name}'`);
  return names.length > shown.length ? `${shown.join(', ')} and ${names.length - shown.length} more` : shown.join(', ');
}

function sortNames(hosts: readonly unknown[]): { readonly known: string[]; readonly unusable: string[] } {
  const isName = (name: string) => /^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?$/.test(name);
  const names = hosts.map(String);
  return { known: names.filter(isName).slice(0, membersMax), unusable: names.filter((name) => !isName(name)) };
}

/** Says what could not be evaluated, why in one line, and for the usual reasons what to do; all that Nix said is in the log. */
function explained(error: unknown, what: string, options: JobOptions): ParleyError {
  if (!(error instanceof ParleyError)) {
    return new ParleyError('evaluation-failed', `${what}: ${(error as Error).message}`, { cause: error });
  }
  if (error.code === 'cancelled' || error.code === 'disk-full') return error;
  const state = error.message.replace(/^nix failed: /, '').slice(0, errorCharactersMax);
  options.onLog?.({ level: 'error', text: `${what}: ${state}` });
  const hint = hintFor(state);
  const init = { cause: error, retryable: error.retryable, ...(hint === undefined ? {} : { hint }) };
  return new ParleyError('evaluation-failed', `${what}: ${inOneLine(state)}`, init);
}

/** Nix's words without the excerpt of the file, and the place if it is in the project; our own expression is nobody's place. */
function inOneLine(state: string): string {
  const lines = state.split('\n').map((line) => line.trim());
  const end = lines.findIndex((line) => /^(at\s|\d+\|)/.test(line));
  const words = (end === -1 ? lines : lines.slice(0, end)).filter((line) => line !== '').join(' ');
  const place = /\sat \S*\/nix\/store\/[^/\s]+\/(\S+?:\d+:\d+)/.exec(state)?.[1];
  return place === undefined ? words : `${words} (${place})`;
}

function hintFor(state: string): string | undefined {
  if (
    /cannot update flake input .* in pure mode|requires lock file changes|cannot write modified lock file/.test(state)
  ) {
    return "The commit's flake.lock does not fit its flake.nix: run `update`, commit, and try again.";
  }
  if (/out of memory/i.test(state))
    return 'The evaluation needs more memory than one host is given: look for an endless recursion.';
  if (/does not contain a '.*flake\.nix'/.test(state)) return 'The project needs a flake.nix at its top, added to git.';
  return undefined;
}

/** A Nix string literal. */
function nixString(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&').replaceAll('${', '\\${')}"`;
}

async function inParallel<Item, Result>(
  items: readonly Item[],
  workersMax: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const queue = items.entries();
  const worker = async () => {
    for (const [index, item] of queue) results[index] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(workersMax, items.length) }, worker));
  return results;
}
