// Owns the processes of a bench's voters: started, told what to do over their channels, ended by their own ids. A voter whose
// bench dies sees its channel close and ends too.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePorts } from '../lib/demo-fleet.ts';
import type { VoterPlan, VoterTask } from './voter-process.ts';

const program = path.resolve(import.meta.dirname, 'voter-process.ts');
const startMsMax = 20_000;
const ledMsMax = 20_000;

type Told =
  | { readonly event: 'ready' }
  | { readonly event: 'led'; readonly raftId: number }
  | { readonly event?: never; readonly id: number; readonly result?: unknown; readonly error?: string };

interface Voter {
  readonly plan: VoterPlan;
  child: ChildProcess | undefined;
  /** Tasks that it has not told the result of, by their ids. */
  readonly waiting: Map<number, PromiseWithResolvers<unknown>>;
}

export class VoterGroup {
  readonly #voters: readonly Voter[];
  readonly #folder: string;
  #ledListeners: ((raftId: number) => void)[] = [];
  #tasks = 0;
  #leader = 0;

  private constructor(folder: string, ports: readonly number[]) {
    this.#folder = folder;
    this.#voters = ports.map((_, position) => {
      const raftId = position + 1;
      return { plan: { raftId, folder: path.join(folder, `${raftId}`), ports }, child: undefined, waiting: new Map() };
    });
  }

  /** Starts this many voters and waits until one leads. */
  static async start(count: number): Promise<VoterGroup> {
    const folder = await mkdtemp(path.join(tmpdir(), 'parley-voters-'));
    const group = new VoterGroup(folder, await freePorts(count));
    try {
      const led = group.nextLeader();
      await Promise.all(group.raftIds.map((raftId) => group.startVoter(raftId)));
      await led;
      return group;
    } catch (error) {
      await group.stop();
      throw error;
    }
  }

  get raftIds(): readonly number[] {
    return this.#voters.map(({ plan }) => plan.raftId);
  }

  /** The voter that said last that it leads and has committed. */
  get leader(): number {
    return this.#leader;
  }

  /** Resolves when a voter has become leader and has committed an entry of its own. */
  nextLeader(): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const late = setTimeout(() => reject(new Error(`nobody leads after ${ledMsMax} ms`)), ledMsMax);
    this.#ledListeners.push((raftId) => {
      clearTimeout(late);
      resolve(raftId);
    });
    return promise;
  }

  async startVoter(raftId: number): Promise<void> {
    const voter = this.#voter(raftId);
    const child = fork(program, [JSON.stringify(voter.plan)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    voter.child = child;
    const ready = Promise.withResolvers<void>();
    child.on('message', (told: Told) => {
      if (told.event === 'ready') ready.resolve();
      else this.#take(voter, told);
    });
    child.once('exit', () => {
      const ended = new Error(`voter ${raftId} has ended`);
      ready.reject(ended);
      for (const { reject } of voter.waiting.values()) reject(ended);
      voter.waiting.clear();
    });
    const late = setTimeout(() => ready.reject(new Error(`voter ${raftId} does not start`)), startMsMax);
    await ready.promise.finally(() => clearTimeout(late));
  }

  signal(raftId: number, signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    this.#voter(raftId).child?.kill(signal);
  }

  async kill(raftId: number): Promise<void> {
    const { child } = this.#voter(raftId);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** Has a voter do something; resolves with what it measured. */
  async ask<Result>(raftId: number, task: VoterTask): Promise<Result> {
    const { child, waiting } = this.#voter(raftId);
    if (!child?.connected) throw new Error(`voter ${raftId} does not run`);
    this.#tasks += 1;
    const asked = Promise.withResolvers<unknown>();
    waiting.set(this.#tasks, asked);
    child.send({ id: this.#tasks, task });
    return (await asked.promise) as Result;
  }

  async stop(): Promise<void> {
    await Promise.all(this.raftIds.map((raftId) => this.kill(raftId)));
    await rm(this.#folder, { recursive: true, force: true });
  }

  #voter(raftId: number): Voter {
    const voter = this.#voters[raftId - 1];
    if (voter === undefined) throw new Error(`there is no voter ${raftId}`);
    return voter;
  }

  #take({ waiting }: Voter, told: Exclude<Told, { event: 'ready' }>): void {
    if (told.event === 'led') {
      this.#leader = told.raftId;
      for (const listener of this.#ledListeners.splice(0)) listener(told.raftId);
      return;
    }
    const asked = waiting.get(told.id);
    waiting.delete(told.id);
    if (told.error === undefined) asked?.resolve(told.result);
    else asked?.reject(new Error(told.error));
  }
}
