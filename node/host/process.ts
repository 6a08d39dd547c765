// Owns the running of external programs. Each runs in a process group of its own, is ended with all that it started, gets
// exactly the environment that the caller gave and no shell, and has bounds on what is kept of its output.

import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import { ParleyError, type ParleyErrorInit } from '../../protocols/errors.ts';
import { logLineCharactersMax } from '../../protocols/limits.ts';
import type { Logger, ProcessRequest, ProcessResult, ProcessRunner } from '../interfaces.ts';
import { timerDelayMsMax } from './clock.ts';
import { createLineSplitter } from './lines.ts';
import { descendantsOf, isRunning, killProcess, type ProcessIdentity } from './process-tree.ts';

/** Between asking a program to end and killing it: git and nix remove their locks and temporary files in this time. */
const terminateGraceMs = 5_000;
/** What descendants have after the program itself is gone. */
const descendantsGraceMs = 500;
const familyPollMs = 25;
const stdoutBytesMaxDefault = 16 * 1024 * 1024;
/** What an error message may need of standard error; the rest went to onStderrLine. */
const stderrBytesKept = 64 * 1024;

export interface ProcessRunnerComponents {
  readonly logger: Logger;
}

/**
 * Creates the only way to an external program. Besides the codes of ProcessRunner, `run` rejects with ParleyError
 * `program-failed-to-start` when the program exists but cannot be started (not executable, arguments too long, no such cwd).
 */
export function createProcessRunner(components: ProcessRunnerComponents): ProcessRunner {
  const logger = components.logger.child({ room: 'host' });
  return {
    async run(request) {
      const startedMs = performance.now();
      const result = await runOnce(request);
      const durationMs = Math.round(performance.now() - startedMs);
      logger.debug({ program: request.program, exitCode: result.exitCode, durationMs }, 'program ended');
      return result;
    },
  };
}

async function runOnce(request: ProcessRequest): Promise<ProcessResult> {
  // Loaded with the first program: many a device runs none for weeks, and it takes 7 MiB.
  const { execa } = await import('execa');
  if (request.signal?.aborted) throw cancelled(request);
  const [program, programArguments] = withGuard(request);
  const subprocess = execa(program, programArguments, {
    env: { ...inheritedEnvironment(), ...request.environment },
    extendEnv: false,
    killDescendants: true,
    forceKillAfterDelay: false,
    buffer: false,
    reject: false,
    stdin: request.input === undefined ? 'ignore' : 'pipe',
    stdout: 'pipe',
    stderr: 'pipe',
    ...(request.input === undefined ? {} : { input: request.input }),
    ...(request.cwd === undefined ? {} : { cwd: request.cwd }),
  });
  const ending = createEnding(subprocess.pid, (signal) => subprocess.kill(signal));
  const onAbort = () => ending.begin(cancelled(request));
  const timer =
    request.timeoutMs === undefined
      ? undefined
      : setTimeout(() => ending.begin(timedOut(request)), Math.min(request.timeoutMs, timerDelayMsMax));
  request.signal?.addEventListener('abort', onAbort, { once: true });
  const output = collectOutput(request, subprocess, ending.begin);
  const result = await subprocess;
  output.end();
  clearTimeout(timer);
  request.signal?.removeEventListener('abort', onAbort);
  await ending.finish();
  const failure = ending.reason();
  if (failure !== undefined) throw failure;
  const cause =
    result.exitCode === undefined && result.signal === undefined
      ? result.cause
      : guardFailure(result.exitCode, output.stderr());
  if (cause !== undefined) throw startFailure(request, cause);
  return { exitCode: exitCodeOf(result), stdout: output.stdout(), stderr: output.stderr() };
}

/** Where util-linux' setpriv is; undefined on systems without. */
const guardProgram = ['/usr/bin/setpriv', '/bin/setpriv', '/run/current-system/sw/bin/setpriv'].find((file) =>
  existsSync(file),
);

/** A program must not outlive the peer: a builder left behind would go on for hours and hold Nix's locks against the next peer. */
function withGuard(request: ProcessRequest): [program: string, programArguments: string[]] {
  if (guardProgram === undefined) return [request.program, [...request.arguments]];
  return [guardProgram, ['--pdeathsig', 'TERM', '--', request.program, ...request.arguments]];
}

/** What kept the guard from starting the program, as the kernel names it; undefined where it started. */
function guardFailure(
  exitCode: number | undefined,
  stderr: string,
): { readonly code: string; readonly message: string } | undefined {
  if (guardProgram === undefined || (exitCode !== 126 && exitCode !== 127)) return undefined;
  const message = /^setpriv: failed to execute .*: (.*)$/m.exec(stderr)?.[1];
  return message === undefined
    ? undefined
    : Object.assign(new Error(message), { code: exitCode === 127 ? 'ENOENT' : 'EACCES' });
}

interface Ending {
  /** Asks the program and its descendants to end, and kills them after the grace. Only the first reason counts. */
  begin(reason: unknown): void;
  /** Resolves when what was begun is over; call it after the program itself has ended. */
  finish(): Promise<void>;
  reason(): unknown;
}

function createEnding(pid: number | undefined, kill: (signal: 'SIGTERM' | 'SIGKILL') => void): Ending {
  let reason: unknown;
  let family: ProcessIdentity[] = [];
  let killTimer: NodeJS.Timeout | undefined;
  const look = () => {
    if (pid !== undefined) family = [...family, ...descendantsOf(pid)];
  };
  return {
    begin(why) {
      if (reason !== undefined) return;
      reason = why;
      look();
      kill('SIGTERM');
      killTimer = setTimeout(() => {
        look();
        kill('SIGKILL');
        family.forEach(killProcess);
      }, terminateGraceMs);
    },
    async finish() {
      clearTimeout(killTimer);
      if (reason === undefined) return;
      const deadlineMs = performance.now() + descendantsGraceMs;
      while (family.some(isRunning) && performance.now() < deadlineMs) await wait(familyPollMs);
      kill('SIGKILL');
      family.forEach(killProcess);
    },
    reason: () => reason,
  };
}

/** Exactly these two pass from our own environment; a request may replace them. */
function inheritedEnvironment(): Record<string, string> {
  const { PATH, HOME } = process.env;
  return { ...(PATH === undefined ? {} : { PATH }), ...(HOME === undefined ? {} : { HOME }) };
}

interface OutputStreams {
  readonly stdout: NodeJS.ReadableStream;
  readonly stderr: NodeJS.ReadableStream;
}

interface CollectedOutput {
  end(): void;
  stdout(): Uint8Array;
  stderr(): string;
}

/** @param fail is called when the program has to end: too much output, or a listener that threw. */
function collectOutput(
  request: ProcessRequest,
  streams: OutputStreams,
  fail: (reason: unknown) => void,
): CollectedOutput {
  const stdoutBytesMax = request.stdoutBytesMax ?? stdoutBytesMaxDefault;
  const lineCharactersMax = request.lineCharactersMax ?? logLineCharactersMax;
  const stdoutLines = createLineSplitter(lineCharactersMax, (line) => request.onStdoutLine?.(line));
  const stderrLines = createLineSplitter(lineCharactersMax, (line) => request.onStderrLine?.(line));
  const stdoutChunks: Buffer[] = [];
  let stdoutBytes = 0;
  let stderrTail: Buffer = Buffer.alloc(0);
  let failed = false;

  function guarded(action: () => void): void {
    if (failed) return;
    try {
      action();
    } catch (error) {
      failed = true;
      fail(error);
    }
  }

  streams.stdout.on('data', (chunk: Buffer) =>
    guarded(() => {
      const fits = stdoutBytes + chunk.byteLength <= stdoutBytesMax;
      if (!fits && request.dropsLongOutput !== true) throw outputTooLarge(request, stdoutBytesMax);
      if (fits) {
        stdoutBytes += chunk.byteLength;
        stdoutChunks.push(chunk);
      }
      if (request.onStdoutLine !== undefined) stdoutLines.push(chunk);
    }),
  );
  streams.stderr.on('data', (chunk: Buffer) =>
    guarded(() => {
      stderrTail = Buffer.concat([stderrTail, chunk]).subarray(-stderrBytesKept);
      if (request.onStderrLine !== undefined) stderrLines.push(chunk);
    }),
  );

  return {
    end: () =>
      guarded(() => {
        stdoutLines.end();
        stderrLines.end();
      }),
    stdout: () => Buffer.concat(stdoutChunks, stdoutBytes),
    stderr: () => stderrTail.toString('utf8'),
  };
}

function exitCodeOf(result: { readonly exitCode?: number; readonly signal?: NodeJS.Signals }): number {
  if (result.exitCode !== undefined) return result.exitCode;
  return 128 + (result.signal === undefined ? 0 : constants.signals[result.signal]);
}

function cancelled(request: ProcessRequest): ParleyError {
  return failureOf('cancelled', request, 'cancelled by its caller', { cause: request.signal?.reason });
}

function timedOut(request: ProcessRequest): ParleyError {
  return failureOf('timed-out', request, `still running after ${request.timeoutMs} ms`, { retryable: true });
}

function outputTooLarge(request: ProcessRequest, bytesMax: number): ParleyError {
  return failureOf('output-too-large', request, `wrote more than ${bytesMax} bytes to standard output`, {});
}

function startFailure(request: ProcessRequest, cause: unknown): ParleyError {
  const code = (cause as { code?: unknown } | undefined)?.code;
  if (request.cwd !== undefined && !existsSync(request.cwd)) {
    return failureOf('program-failed-to-start', request, `its working folder '${request.cwd}' does not exist`, {
      cause,
    });
  }
  // A folder of PATH that we may not read makes the kernel answer EACCES for a bare name that is nowhere.
  if (code === 'ENOENT' || (code === 'EACCES' && !request.program.includes('/'))) {
    const hint = `Install '${request.program}', or put the folder that holds it on PATH.`;
    return failureOf('program-missing', request, 'not found', { cause, hint });
  }
  return failureOf('program-failed-to-start', request, (cause as Error | undefined)?.message ?? 'unknown reason', {
    cause,
  });
}

function failureOf(code: string, request: ProcessRequest, state: string, init: ParleyErrorInit): ParleyError {
  return new ParleyError(code, `program '${request.program}' failed: ${state}`, init);
}
