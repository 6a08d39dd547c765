// Several voters in one process: each with its store, a list as its state machine, and a mesh between them.

import { randomBytes } from 'node:crypto';
import { bootstrapLog, type Consensus, createConsensus, type StateMachine } from '../../node/consensus/index.ts';
import { systemClock } from '../../node/host/clock.ts';
import type { Clock, KeyValueStore, Logger } from '../../node/interfaces.ts';
import { hashOf } from '../../protocols/codec.ts';
import { CertifiedList, peerOf } from './certified-list.ts';
import { ListMachine } from './list-machine.ts';
import { MemoryNetwork } from './memory-mesh.ts';
import { MemoryStore } from './memory-store.ts';
import { MemoryWitness } from './memory-witness.ts';

export const genesisHash = hashOf('genesis');
export const noLearners = { votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };

export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLogger,
};

export interface Voter {
  readonly raftId: number;
  readonly store: KeyValueStore;
  readonly witness: MemoryWitness;
  readonly machine: ListMachine;
  consensus: Consensus;
}

export interface FleetOptions {
  readonly voters: number;
  /** Peers that exist but are not in the first configuration. */
  readonly others?: number;
  readonly heartbeatMs?: number;
  readonly electionMinMs?: number;
  readonly clock?: Clock;
  readonly logger?: Logger;
  /** Voters that certify what they apply. */
  readonly certifies?: boolean;
}

export const peerName = peerOf;

/** Peers that may speak under a raft id, strangers to a fleet among them. */
const raftIds = Array.from({ length: 9 }, (_, position) => position + 1);

export class Fleet {
  readonly network = new MemoryNetwork();
  readonly voters: Voter[] = [];
  readonly #options: FleetOptions;

  constructor(options: FleetOptions) {
    this.#options = options;
    for (let raftId = 1; raftId <= options.voters + (options.others ?? 0); raftId += 1) {
      const store = new MemoryStore();
      const machine = options.certifies ? new CertifiedList(options.voters) : new ListMachine();
      const witness = new MemoryWitness();
      const consensus = this.#create(raftId, { store, witness }, machine);
      this.voters.push({ raftId, store, witness, machine, consensus });
    }
  }

  /** Bootstraps and starts everybody. */
  async start(): Promise<void> {
    for (const voter of this.voters) {
      await this.bootstrap(voter);
      await voter.consensus.start();
    }
  }

  async bootstrap(voter: Voter): Promise<void> {
    const voters = this.voters.slice(0, this.#options.voters).map(({ raftId }) => raftId);
    await bootstrapLog(voter, {
      index: 1,
      term: 1,
      chainHash: genesisHash,
      configuration: { voters, ...noLearners },
    });
  }

  async stop(): Promise<void> {
    await Promise.all(this.voters.map(async ({ consensus }) => consensus.stop()));
  }

  voter(raftId: number): Voter {
    const voter = this.voters[raftId - 1];
    if (!voter) throw new Error(`no voter ${raftId}`);
    return voter;
  }

  /** The voter is off the network at once and stops, its running write too; what was not synced is lost. */
  async unplug(raftId: number): Promise<void> {
    const voter = this.voter(raftId);
    this.network.remove(peerName(raftId));
    await voter.consensus.stop();
    if (voter.store instanceof MemoryStore) voter.store.crash();
  }

  async restart(raftId: number): Promise<void> {
    const voter = this.voter(raftId);
    voter.consensus = this.#create(raftId, voter, voter.machine);
    await voter.consensus.start();
  }

  /** A leader that a majority of the running voters follows. */
  async leader(among: readonly number[] = this.voters.map(({ raftId }) => raftId)): Promise<Voter> {
    let found: Voter | undefined;
    await until(() => {
      const running = this.voters
        .filter(({ raftId }) => among.includes(raftId))
        .flatMap((voter) => {
          try {
            return [{ voter, status: voter.consensus.status() }];
          } catch {
            return [];
          }
        });
      found = running.find(({ voter, status }) => {
        if (status.role !== 'leader') return false;
        const followers = running.filter(
          (other) => other.status.leader === voter.raftId && other.status.term === status.term,
        );
        return followers.length * 2 > status.voters.length;
      })?.voter;
      return found !== undefined;
    });
    if (!found) throw new Error('no leader');
    return found;
  }

  async propose(voter: Voter, word: string): Promise<number> {
    const { index } = await voter.consensus.propose(new TextEncoder().encode(word), {
      signal: AbortSignal.timeout(5_000),
    });
    return index;
  }

  #create(raftId: number, { store, witness }: Pick<Voter, 'store' | 'witness'>, stateMachine: StateMachine): Consensus {
    const { heartbeatMs = 10, electionMinMs = 50, clock = systemClock, logger = silentLogger } = this.#options;
    const members = {
      peerOf: (id: number) => (id <= this.voters.length ? peerName(id) : undefined),
      raftIdOf: (peer: string) => raftIds.find((raftId) => peerName(raftId) === peer),
      voters: () => this.voters.slice(0, this.#options.voters).map((voter) => voter.raftId),
    };
    const mesh = this.network.mesh(peerName(raftId));
    const components = { store, witness, mesh, clock, logger, randomBytes, members, stateMachine };
    const certifying = stateMachine instanceof CertifiedList ? stateMachine.certifying(raftId) : undefined;
    return createConsensus({ raftId, heartbeatMs, electionMinMs })({
      ...components,
      ...(certifying && { certifying }),
    });
  }
}

/** Waits for a state to come about. */
export async function until(condition: () => boolean, timeoutMs = 8_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not reached within ${timeoutMs} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
