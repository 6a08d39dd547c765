// Owns one client of the simulated fleet: it asks a voter, waits, and where nobody could tell asks again with the same
// command id, as people's front ends do. What it was told goes to the judge, and into the history that is judged at the end.

import { ParleyError } from '../../protocols/errors.ts';
import type { EntryDraft } from '../../protocols/ledger-entries.ts';
import type { CommandResult, LedgerState } from '../../protocols/ledger-state.ts';
import type { Operation } from '../conformance/linearizability.ts';
import type { RegisterInput, RegisterOutput } from '../conformance/models.ts';
import type { Chance } from './chance.ts';
import type { Fleet } from './fleet.ts';

/** One try at one voter. */
const tryMs = 1_500;
/** Then a client gives up for good and never learns what became of its command. */
const patienceMs = 8_000;

/** Codes that say nothing about the command itself: another voter, or the same one later, may take it. */
const transientCodes: readonly string[] = [
  ...['not-controller', 'busy', 'proposal-lost', 'outcome-unknown', 'held-up', 'not-started', 'stopped', 'timed-out'],
];

export type Answer<T> = { readonly value: T } | { readonly error: ParleyError } | undefined;
export type HistoryOperation = Operation<RegisterInput, RegisterOutput>;

type Voter = ReturnType<Fleet['voters']>[number];

export interface Client {
  /** What a command came to; an error is the ledger's refusal, undefined means that nobody ever said. */
  command(draft: EntryDraft, commandId: string): Promise<Answer<CommandResult>>;
  /** Writes a register that is replicated by the ledger: the address of a member. */
  write(peer: string, value: string): Promise<void>;
  /** Reads it from any voter, by the word of a majority. */
  read(peer: string): Promise<void>;
  /** What a voter takes for the ledger's state, however old that is. */
  glance(): LedgerState | undefined;
  pause(delayMs: number): Promise<void>;
}

/** What all clients of a run saw. */
export class History {
  readonly operations: HistoryOperation[] = [];
  #position = 0;

  now(): number {
    this.#position += 1;
    return this.#position;
  }
}

export function createClient(name: string, fleet: Fleet, history: History, chance: Chance): Client {
  const { time, judge } = fleet;
  let commands = 0;

  const pause = (delayMs: number): Promise<void> =>
    new Promise((resolve) => {
      time.schedule(delayMs, undefined, `${name} goes on`, resolve);
    });

  /** Mostly the leader is asked, at times anybody: whoever it was last time, or who a chat points to. */
  function choose(): Voter | undefined {
    const voters = fleet.voters();
    return chance.happens(0.8) ? voters[0] : voters[chance.below(Math.max(1, voters.length))];
  }

  /** Asks one voter once. It may die or stand still meanwhile, and its answer may come too late. */
  function tryOnce<T>(what: string, call: (voter: Voter, signal: AbortSignal) => Promise<T>): Promise<Answer<T>> {
    const { promise, resolve } = Promise.withResolvers<Answer<T>>();
    const giveUp = new AbortController();
    const voter = choose();
    time.schedule(tryMs, undefined, `${name} waits no longer`, () => {
      resolve(undefined);
      giveUp.abort(new ParleyError('timed-out', 'the client gave up', { retryable: true }));
    });
    if (voter === undefined) return promise;
    const reply = (answer: Answer<T>): void => {
      if (voter.life.isAlive) time.schedule(1, undefined, `${name} is answered`, () => resolve(answer));
    };
    time.schedule(1, voter.life, `is asked by ${name} to ${what}`, () => {
      call(voter, giveUp.signal).then(
        (value) => reply({ value }),
        (error: unknown) => {
          if (!(error instanceof ParleyError)) judge.accuse(`${what} failed at ${voter.life.name}: ${String(error)}`);
          else reply(transientCodes.includes(error.code) ? undefined : { error });
        },
      );
    });
    return promise;
  }

  async function ask<T>(
    what: string,
    call: (voter: Voter, signal: AbortSignal) => Promise<T>,
    onRetry: () => void,
  ): Promise<Answer<T>> {
    const endMs = time.nowMs + patienceMs;
    for (;;) {
      const answer = await tryOnce(what, call);
      if (answer !== undefined || time.nowMs > endMs) return answer;
      onRetry();
      await pause(chance.between(20, 300));
    }
  }

  async function command(draft: EntryDraft, commandId: string): Promise<Answer<CommandResult>> {
    const propose = async ({ ledger }: Voter, signal: AbortSignal): Promise<CommandResult> => {
      const { result } = await ledger.propose({ ...draft, commandId }, { signal });
      return result;
    };
    const answer = await ask(draft.kind, propose, () => fleet.count('repeatedCommands'));
    if (answer === undefined) fleet.count('unknownOutcomes');
    else if ('value' in answer) judge.acknowledged(commandId, answer.value);
    else fleet.count('refusedCommands');
    return answer;
  }

  function newId(): string {
    commands += 1;
    return `command-${name}-${commands}`;
  }

  async function record(key: string, input: RegisterInput, act: () => Promise<RegisterOutput | undefined>) {
    const calledAt = history.now();
    const output = await act();
    history.operations.push({ key, input, output, calledAt, returnedAt: history.now() });
  }

  return {
    command,
    async write(peer, value) {
      await record(peer, { kind: 'write', value }, async () => {
        const body = { peer, addresses: [`/sim/${value}`], system: 'x86_64-linux' };
        const answer = await command({ kind: 'member-updated', actor: 'controller', body }, newId());
        if (answer === undefined) return undefined;
        fleet.count('writes');
        return 'value' in answer;
      });
    },
    async read(peer) {
      const see = async ({ ledger, consensus }: Voter, signal: AbortSignal): Promise<string> => {
        await consensus.readIndex({ signal });
        return ledger.state().members[peer]?.addresses[0]?.slice('/sim/'.length) ?? 'nil';
      };
      await record(peer, { kind: 'read' }, async () => {
        const answer = await ask('read', see, () => undefined);
        if (answer === undefined || 'error' in answer) return undefined;
        fleet.count('reads');
        return answer.value;
      });
    },
    glance: () => choose()?.ledger.state(),
    pause,
  };
}
