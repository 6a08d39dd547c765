// Owns one peer's process of the demo: started with a pipe on its standard input that closes when the demo dies, so that no
// peer outlives it; signalled by its own id only; its log in its state folder.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

const program = path.resolve(import.meta.dirname, '../parley');
/** A peer that was asked to stop writes its last records in this time. */
const stopGraceMs = 10_000;

export type PeerState = 'running' | 'paused' | 'stopped';

export interface PeerProcess {
  readonly name: string;
  readonly stateFolder: string;
  readonly logFile: string;
  state(): PeerState;
  /** How it ended last, when nobody asked it to. */
  crashed(): string | undefined;
  pid(): number | undefined;
  start(): void;
  /** Asks it to stop and waits until it has. */
  stop(): Promise<void>;
  /** Ends it at once, as a power cut would. */
  kill(): Promise<void>;
  pause(): void;
  resume(): void;
}

/** `prefix` are words before the program's own, such as those that enter a network namespace. */
export function createPeerProcess(name: string, stateFolder: string, prefix: readonly string[] = []): PeerProcess {
  const logFile = path.join(stateFolder, 'peer.log');
  let child: ChildProcess | undefined;
  let paused = false;
  let wanted = false;
  let crash: string | undefined;

  function onExit(code: number | null, signal: NodeJS.Signals | null): void {
    if (wanted) crash = signal === null ? `exit status ${code}` : `signal ${signal}`;
    child = undefined;
    paused = false;
  }

  async function ended(): Promise<void> {
    if (child !== undefined) await once(child, 'exit');
  }

  return {
    name,
    stateFolder,
    logFile,
    state: () => (child === undefined ? 'stopped' : paused ? 'paused' : 'running'),
    crashed: () => crash,
    pid: () => child?.pid,
    start() {
      if (child !== undefined) return;
      const log = openSync(logFile, 'a', 0o600);
      const words = [...prefix, program, 'run', '--state', stateFolder, '--until-stdin-closes'];
      child = spawn(words[0] ?? program, words.slice(1), {
        stdio: ['pipe', log, log],
        // A group of its own: Ctrl-C in the demo's terminal is not meant for the peers.
        detached: true,
      });
      closeSync(log);
      crash = undefined;
      wanted = true;
      child.once('exit', onExit);
      child.stdin?.on('error', () => {});
    },
    async stop() {
      wanted = false;
      child?.kill('SIGCONT');
      child?.kill('SIGTERM');
      const late = new AbortController();
      const killLate = async () => {
        await wait(stopGraceMs, undefined, { signal: late.signal });
        child?.kill('SIGKILL');
      };
      killLate().catch(() => {});
      await ended();
      late.abort();
    },
    async kill() {
      wanted = false;
      child?.kill('SIGKILL');
      await ended();
    },
    pause() {
      if (child?.kill('SIGSTOP') === true) paused = true;
    },
    resume() {
      if (child?.kill('SIGCONT') === true) paused = false;
    },
  };
}
