// A voter's disk in memory that dies at a chosen step: each batch and each witness is one step, which takes effect or not,
// and after which nothing more is written. What is left is what a restart finds.

import type { LogDisk } from '../../node/consensus/log-store.ts';
import { MemoryStore } from './memory-store.ts';
import { MemoryWitness } from './memory-witness.ts';

export interface Death {
  /** Writes that still succeed. */
  readonly afterSteps: number;
  /** The write that fails has landed all the same. */
  readonly late: boolean;
}

export class FaultyDisk {
  readonly store: MemoryStore;
  readonly witness: MemoryWitness;
  #death: Death | undefined;
  #steps = 0;

  constructor(store = new MemoryStore(), witness = new MemoryWitness()) {
    this.store = store;
    this.witness = witness;
  }

  dieAt(death: Death): void {
    this.#death = death;
    this.#steps = 0;
  }

  /** As consensus sees it. */
  disk(): LogDisk {
    const { store, witness } = this;
    return {
      store: {
        get: (key) => store.get(key),
        range: (options) => store.range(options),
        batch: (operations, options) => this.#step(() => store.batch(operations, options)),
        close: () => store.close(),
      },
      witness: { read: () => witness.read(), write: (record) => this.#step(() => witness.write(record)) },
    };
  }

  /** What is left after a power cut, without the fault. */
  left(): FaultyDisk {
    const copy = new FaultyDisk(this.store.clone(), this.witness.clone());
    return copy;
  }

  async #step(write: () => Promise<void>): Promise<void> {
    const death = this.#death;
    const dead = death !== undefined && this.#steps >= death.afterSteps;
    if (!dead || (death.late && this.#steps === death.afterSteps)) await write();
    this.#steps += 1;
    if (dead) throw new Error('the power is cut');
  }
}
