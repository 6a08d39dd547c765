// Owns what a simulated peer's state folder says about its vote: the real one's record and steps (node/wiring/vote-folder.ts)
// on a disk that holds each change at once. Crashes between two steps are tested with the real one.

import type { Identity } from '../../node/mesh/index.ts';
import type { VoteFolder } from '../../node/wiring/vote-folder.ts';
import type { VoteTurn } from '../../node/wiring/vote-plan.ts';
import type { JoinContact } from '../../protocols/join.ts';
import type { Role } from '../../protocols/primitives.ts';

export interface VoteRecord {
  readonly roles: readonly Role[];
  /** 0 for a peer that does not vote. */
  readonly raftId: number;
  readonly key: Identity | undefined;
  readonly contacts: readonly JoinContact[];
  /** Since which entry the contacts vote; undefined before that was noted. */
  readonly votersIndex: number | undefined;
  readonly hasLog: boolean;
}

export class SimulatedVoteFolder
  implements Pick<VoteFolder, 'key' | 'makeKey' | 'dropKey' | 'noteVoters' | 'logBegun' | 'carryOut'>
{
  record: VoteRecord;
  readonly #makeKey: () => Identity;
  readonly #clearLog: () => void;

  constructor(record: VoteRecord, makeKey: () => Identity, clearLog: () => void) {
    this.record = record;
    this.#makeKey = makeKey;
    this.#clearLog = clearLog;
  }

  async key(): Promise<string | null> {
    return this.record.key?.peer ?? null;
  }

  async makeKey(): Promise<string> {
    const key = this.record.key ?? this.#makeKey();
    this.#change({ key });
    return key.peer;
  }

  async dropKey(): Promise<void> {
    this.#change({ key: undefined });
  }

  async noteVoters(contacts: readonly JoinContact[], votersIndex: number): Promise<void> {
    if (votersIndex >= (this.record.votersIndex ?? 0)) this.#change({ contacts, votersIndex });
  }

  async logBegun(): Promise<void> {
    this.#change({ hasLog: true });
  }

  async carryOut(turn: VoteTurn): Promise<void> {
    this.#clearLog();
    if (turn.kind === 'take-up') this.#change({ raftId: turn.raftId, roles: turn.roles, hasLog: false });
    else this.#change({ raftId: 0, key: undefined, hasLog: false });
    if (turn.kind === 'give-up') this.#change({ roles: turn.roles });
  }

  #change(change: Partial<VoteRecord>): void {
    this.record = { ...this.record, ...change };
  }
}
