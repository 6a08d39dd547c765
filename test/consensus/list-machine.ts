// A state machine for tests of consensus: entries are words of a list.

import type { StateMachine, StateMachineSnapshot } from '../../node/consensus/index.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import { Gate } from '../helpers/gate.ts';

/** Applies entries as words of a list; its durability is the object's. */
export class ListMachine implements StateMachine {
  applied = 1;
  words: string[] = [];
  hashes = new Map<number, string>();
  entries: CommittedEntry[] = [];
  restores = 0;
  failure: Error | undefined;
  /** Where apply() comes before it does anything. */
  readonly gate = new Gate();

  appliedIndex(): number {
    return this.applied;
  }

  async apply(entries: readonly CommittedEntry[]): Promise<void> {
    await this.gate.pass();
    if (this.failure) throw this.failure;
    for (const entry of entries) {
      if (entry.index !== this.applied + 1) throw new Error(`entry ${entry.index} follows on ${this.applied}`);
      this.applied = entry.index;
      this.entries.push(entry);
      this.hashes.set(entry.index, entry.chainHash);
      if (entry.type === 'normal' && entry.data.byteLength > 0) this.words.push(new TextDecoder().decode(entry.data));
    }
  }

  async snapshot(): Promise<{ index: number; data: Uint8Array }> {
    return { index: this.applied, data: Buffer.from(JSON.stringify(this.words)) };
  }

  async restore({ index, chainHash, data }: StateMachineSnapshot): Promise<void> {
    this.words = JSON.parse(Buffer.from(data).toString());
    this.applied = index;
    this.hashes.set(index, chainHash);
    this.restores += 1;
  }
}
