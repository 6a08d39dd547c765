// The consensus room: one log that a majority of voters keeps, and the certainty that an entry is committed once a caller
// hears so. A pure core (*-core.ts, after etcd/raft), a verified log on a key-value store, and streams between voters.

import { ParleyError } from '../../protocols/errors.ts';
import type { Clock, KeyValueStore, Logger, Mesh, RandomBytes } from '../interfaces.ts';
import { Engine } from './engine.ts';
import { type LogStore, openLogStore } from './log-store.ts';
import { nobody } from './message-core.ts';
import type { MemberDirectory } from './message-links.ts';
import * as requests from './requests.ts';
import { createSnapshotShelf, type PreparedSnapshot } from './snapshot-shelf.ts';
import type { Consensus, ConsensusStatus, StateMachine } from './types.ts';

export { bootstrapLog } from './log-store.ts';
export type { MemberDirectory } from './message-links.ts';
export type * from './types.ts';

export interface ConsensusInit {
  /** This voter's number, allotted by the ledger. */
  readonly raftId: number;
  /** Between the leader's heartbeats; also the period of the only timer. */
  readonly heartbeatMs?: number;
  /** Shortest time without a leader before an election; the longest is twice that. */
  readonly electionMinMs?: number;
}

export interface ConsensusComponents {
  /** A database of its own; see bootstrapLog() for its first state. */
  readonly store: KeyValueStore;
  readonly mesh: Pick<Mesh, 'self' | 'open' | 'handle' | 'onPeerChange'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly randomBytes: RandomBytes;
  readonly members: MemberDirectory;
  readonly stateMachine: StateMachine;
}

/** Longest wait for a successor when this voter stops while it leads. */
const handoverMs = 1_000;

/**
 * One voter. start() rejects with ParleyError `not-bootstrapped`, `damaged-log` or `state-behind-log`.
 */
export function createConsensus(init: ConsensusInit): (components: ConsensusComponents) => Consensus {
  const { raftId, heartbeatMs = 100, electionMinMs = 500 } = init;
  return (components) => {
    const listeners = new Set<(status: ConsensusStatus) => void>();
    let running: requests.Running | undefined;
    let starting: Promise<void> | undefined;

    function required(): requests.Running {
      if (running) return running;
      throw new ParleyError('not-started', 'consensus is not running: it has not started or has stopped', {
        retryable: true,
      });
    }

    function notify(): void {
      if (!running) return;
      const status = requests.statusOf(running);
      components.logger.info({ role: status.role, term: status.term, leader: status.leader }, 'role has changed');
      for (const listener of listeners) listener(status);
    }

    async function open(): Promise<void> {
      const shelf = createSnapshotShelf({
        prepare: () => prepareSnapshot(required(), components.stateMachine),
        onFailure: (error) => components.logger.error({ err: error }, 'no snapshot could be made for a follower'),
        clock: components.clock,
      });
      const store: LogStore = await openLogStore(components.store, () => shelf.take(store.base().index));
      await finishRestore(store, components.stateMachine);
      const engine = new Engine(
        { raftId, heartbeatMs, electionMinMs },
        { ...components, store, shelf, onRoleChange: notify },
      );
      running = { engine, store, stateMachine: components.stateMachine, shelf };
      engine.start();
    }

    async function stop(): Promise<void> {
      await starting?.catch(() => undefined);
      const stopping = running;
      if (!stopping) return;
      const successor = requests.successorOf(stopping);
      if (successor !== nobody) {
        const signal = AbortSignal.timeout(handoverMs);
        await requests.transferLeadership(stopping, successor, { signal }, onRoleChange).catch(() => undefined);
      }
      running = undefined;
      stopping.shelf.clear();
      await stopping.engine.stop();
    }

    function onRoleChange(listener: (status: ConsensusStatus) => void): () => void {
      listeners.add(listener);
      return () => listeners.delete(listener);
    }

    return {
      async start() {
        if (running) return;
        starting ??= open().finally(() => {
          starting = undefined;
        });
        await starting;
      },
      stop,
      onRoleChange,
      status: () => requests.statusOf(required()),
      propose: async (data, options) => requests.propose(required(), data, options),
      changeVoters: async (change, options) => requests.changeVoters(required(), change, options),
      readIndex: async (options) => requests.readIndex(required(), options),
      async transferLeadership(toRaftId) {
        const signal = AbortSignal.timeout(2 * electionMinMs);
        await requests.transferLeadership(required(), toRaftId, { signal }, onRoleChange);
      },
      compact: async (index) => requests.compact(required(), index),
      committedEntries: async (fromIndex, limit) => requests.committedEntries(required(), fromIndex, limit),
    };
  };
}

/** A snapshot that was received but perhaps not restored before a crash is restored now. */
async function finishRestore(store: LogStore, stateMachine: StateMachine): Promise<void> {
  const data = await store.pendingBody();
  if (data === undefined) return;
  const base = store.base();
  if (stateMachine.appliedIndex() < base.index) await stateMachine.restore({ ...base, data });
  await store.dropPendingBody();
}

function prepareSnapshot(running: requests.Running, stateMachine: StateMachine): Promise<PreparedSnapshot> {
  const { engine, store } = running;
  return engine.applies.between(async () => {
    const { index, data } = await stateMachine.snapshot();
    return { metadata: requests.metadataAt(engine, store, index), data };
  });
}
