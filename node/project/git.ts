// Owns how git is called: no configuration of the machine's, no hooks, no prompts, and errors that name the command.

import { ParleyError } from '../../protocols/errors.ts';
import type { ProcessRunner } from '../interfaces.ts';

export interface GitCall {
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: Uint8Array | string;
  readonly signal?: AbortSignal | undefined;
  /** Exit statuses that are answers, not failures; 0 always is. */
  readonly allowedExitCodes?: readonly number[];
  readonly stdoutBytesMax?: number;
}

export interface GitResult {
  readonly exitCode: number;
  readonly bytes: Uint8Array;
  /** Standard output without its last line break. */
  readonly text: string;
}

/** Runs git in one place: a bare repository (`--git-dir`) or a checkout (`-C`). */
export type Git = (gitArguments: readonly string[], call?: GitCall) => Promise<GitResult>;

const quietConfiguration = ['core.hooksPath=/dev/null', 'core.fsmonitor=false', 'gc.auto=0', 'core.quotePath=false'];
const environment = {
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_TERMINAL_PROMPT: '0',
  GIT_OPTIONAL_LOCKS: '0',
  LC_ALL: 'C',
};

/**
 * @param place arguments that name the repository, such as `['--git-dir', folder]`.
 * @throws (from the returned function) ParleyError `git-failed` with git's last words, or the runner's own errors.
 */
export function createGit(runner: ProcessRunner, place: readonly string[]): Git {
  return async (gitArguments, call = {}) => {
    const input = typeof call.input === 'string' ? new TextEncoder().encode(call.input) : call.input;
    const result = await runner.run({
      program: 'git',
      arguments: [...quietConfiguration.flatMap((setting) => ['-c', setting]), ...place, ...gitArguments],
      environment: { ...environment, ...call.environment },
      ...(input ? { input } : {}),
      ...(call.signal ? { signal: call.signal } : {}),
      ...(call.stdoutBytesMax ? { stdoutBytesMax: call.stdoutBytesMax } : {}),
      timeoutMs: 120_000,
    });
    if (result.exitCode !== 0 && !call.allowedExitCodes?.includes(result.exitCode)) {
      const words = result.stderr.trim().split('\n').slice(-4).join(' ');
      throw new ParleyError('git-failed', `git ${gitArguments[0]} failed with status ${result.exitCode}: ${words}`);
    }
    const text = new TextDecoder().decode(result.stdout).replace(/\n$/, '');
    return { exitCode: result.exitCode, bytes: result.stdout, text };
  };
}

export interface FileChange {
  readonly path: string;
  readonly change: 'added' | 'modified' | 'deleted';
}

const changeWords = { A: 'added', D: 'deleted', M: 'modified', T: 'modified' } as const;

/** The files that differ between two trees or commits. */
export async function changedFiles(git: Git, base: string, tree: string): Promise<FileChange[]> {
  const { text } = await git(['diff-tree', '-r', '-z', '--no-renames', '--name-status', base, tree]);
  const fields = text.split('\0');
  return fields.flatMap((letter, at) => {
    const path = fields[at + 1];
    const change = changeWords[letter as keyof typeof changeWords];
    return at % 2 === 0 && path && change ? [{ path, change }] : [];
  });
}

/** The object id that a name stands for; null when there is none. */
export async function resolve(git: Git, name: string): Promise<string | null> {
  const { text, exitCode } = await git(['rev-parse', '--quiet', '--verify', name], { allowedExitCodes: [1, 128] });
  return exitCode === 0 ? text : null;
}
