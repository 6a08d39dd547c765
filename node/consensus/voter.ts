// Owns the life of one voter: opening its log, starting and stopping its engine, and handing callers' requests to it.

import { certificateMessageBytesMax, certificateProtocol } from '../../protocols/certificate-exchange.ts';
import { consensusProtocol, snapshotProtocol } from '../../protocols/consensus-message.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Clock, Logger, Mesh, RandomBytes } from '../interfaces.ts';
import { Certifier } from './certifier.ts';
import { Engine } from './engine.ts';
import { advised } from './log-damage.ts';
import type { Snapshot } from './log-records.ts';
import { type LogDisk, type LogStore, openLogStore } from './log-store.ts';
import type { MemberDirectory } from './message-links.ts';
import * as requests from './requests.ts';
import { createSnapshotShelf } from './snapshot-shelf.ts';
import type {
  Certifying,
  Consensus,
  ConsensusStatus,
  Position,
  StateMachine,
  VotersChange,
  WaitOptions,
} from './types.ts';

export interface ConsensusInit {
  /** This voter's number, allotted by the ledger and never used before. */
  readonly raftId: number;
  /** Between the leader's heartbeats; also the period of the only timer. Default 100. */
  readonly heartbeatMs?: number;
  /** Shortest time without a leader before an election; the longest is twice that. Default 500. */
  readonly electionMinMs?: number;
}

/** See bootstrapLog() for the first state of `store` and `witness`. */
export interface ConsensusComponents extends LogDisk {
  readonly mesh: Pick<Mesh, 'self' | 'open' | 'handle' | 'onPeerChange' | 'connectedPeers'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly randomBytes: RandomBytes;
  readonly members: MemberDirectory;
  readonly stateMachine: StateMachine;
  /** Left out where nobody needs proof of what is committed. */
  readonly certifying?: Certifying;
}

/** Longest wait for a successor when this voter stops while it leads. */
const handoverMs = 1_000;

export class Voter implements Consensus {
  readonly #init: Required<ConsensusInit>;
  readonly #components: ConsensusComponents;
  readonly #listeners = new Set<(status: ConsensusStatus) => void>();
  #running: requests.Running | undefined;
  #starting: Promise<void> | undefined;
  #serving = false;

  constructor({ raftId, heartbeatMs = 100, electionMinMs = 500 }: ConsensusInit, components: ConsensusComponents) {
    this.#init = { raftId, heartbeatMs, electionMinMs };
    this.#components = components;
  }

  async start(): Promise<void> {
    if (this.#running) return;
    this.#starting ??= this.#open().finally(() => {
      this.#starting = undefined;
    });
    try {
      await this.#starting;
    } catch (error) {
      throw advised(error, this.#components.members.voters());
    }
  }

  async stop(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    const running = this.#running;
    if (!running) return;
    // Nothing to do where it does not lead, or alone.
    await this.#handOver(() => true, handoverMs).catch(() => undefined);
    this.#running = undefined;
    running.shelf.clear();
    running.certifier?.stop();
    await running.engine.stop();
  }

  status(): ConsensusStatus {
    return requests.statusOf(this.#required());
  }

  async propose(data: Uint8Array, options: WaitOptions): Promise<Position> {
    return requests.propose(this.#required(), data, options);
  }

  async changeVoters(change: VotersChange, options: WaitOptions): Promise<Position> {
    return requests.changeVoters(this.#required(), change, options);
  }

  async readIndex(options: WaitOptions): Promise<number> {
    return requests.readIndex(this.#required(), options);
  }

  async transferLeadership(among: readonly number[]): Promise<void> {
    await this.#handOver((raftId) => among.includes(raftId), 2 * this.#init.electionMinMs);
  }

  async compact(index: number): Promise<void> {
    await requests.compact(this.#required(), index);
  }

  async committedEntries(fromIndex: number, limit: number): Promise<readonly CommittedEntry[]> {
    return requests.committedEntries(this.#required(), fromIndex, limit);
  }

  onRoleChange(listener: (status: ConsensusStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #required(): requests.Running {
    if (this.#running) return this.#running;
    const text = 'consensus is not running: it has not started or has stopped';
    throw new ParleyError('not-started', text, { retryable: true });
  }

  async #open(): Promise<void> {
    const { stateMachine, clock, logger } = this.#components;
    const shelf = createSnapshotShelf({
      prepare: () => prepareSnapshot(this.#required()),
      onFailure: (error) => {
        if (error instanceof ParleyError && error.code === 'stopped') return;
        logger.error({ err: error }, 'no snapshot could be made for a follower');
      },
      clock,
    });
    // A follower refuses a snapshot that does not name it: those from before the newest change of voters are of no use.
    const store = await openLogStore(this.#components, () =>
      shelf.take(this.#running?.engine.applies.configurationIndex() ?? 0),
    );
    await finishRestore(store, stateMachine);
    const onRoleChange = (): void => this.#notify();
    const onApplied = (): void => this.#running?.certifier?.changed();
    const engine = new Engine(this.#init, { ...this.#components, store, shelf, onRoleChange, onApplied });
    const certifier = this.#createCertifier(engine, store);
    this.#running = requests.running({ engine, store, stateMachine, shelf, certifier });
    this.#serve();
    engine.start();
  }

  #createCertifier({ raw, applies }: Engine, { log }: LogStore): Certifier | undefined {
    const { certifying, stateMachine } = this.#components;
    if (certifying === undefined) return undefined;
    return new Certifier({
      ...this.#components,
      certifying,
      raftId: this.#init.raftId,
      lookPeriodMs: 10 * this.#init.heartbeatMs,
      leads: () => raw.status().role === 'leader',
      leader: () => raw.status().leader,
      learners: () => [...raw.status().members.learners],
      appliedIndex: () => stateMachine.appliedIndex(),
      entryAt(index) {
        const entry = log.entry(index);
        return entry && applies.toCommitted(entry);
      },
    });
  }

  /** Protocols are registered once; while nothing runs, their streams are refused. */
  #serve(): void {
    if (this.#serving) return;
    this.#serving = true;
    const { mesh } = this.#components;
    mesh.handle(consensusProtocol, async (stream) => this.#required().engine.links.receive(stream), {
      inboundStreamsMax: 4,
    });
    mesh.handle(snapshotProtocol, async (stream) => this.#required().engine.snapshots.receive(stream), {
      // One more than is received, so that what overtakes it gets through.
      inboundStreamsMax: 2,
    });
    mesh.handle(certificateProtocol, async (stream) => this.#required().certifier?.serve(stream), {
      inboundStreamsMax: 2,
      messageBytesMax: certificateMessageBytesMax,
    });
  }

  #notify(): void {
    if (!this.#running) return;
    const status = requests.statusOf(this.#running);
    const { role, term, leader } = status;
    this.#components.logger.info({ role, term, leader }, 'role has changed');
    this.#running.certifier?.changed();
    for (const listener of this.#listeners) listener(status);
  }

  async #handOver(isWanted: (raftId: number) => boolean, timeoutMs: number): Promise<void> {
    const signal = AbortSignal.timeout(timeoutMs);
    const onRoleChange: Consensus['onRoleChange'] = (listener) => this.onRoleChange(listener);
    await requests.transferLeadership(this.#required(), isWanted, { signal }, onRoleChange);
  }
}

/** A snapshot that was received but perhaps not restored before a crash is restored now. */
async function finishRestore(store: LogStore, stateMachine: StateMachine): Promise<void> {
  const data = await store.pendingBody();
  if (data === undefined) return;
  const base = store.base();
  if (stateMachine.appliedIndex() < base.index) await stateMachine.restore({ ...base, data });
  await store.dropPendingBody();
}

function prepareSnapshot({ engine, store, stateMachine }: requests.Running): Promise<Snapshot> {
  return engine.applies.between(async () => {
    const { index, data: body } = await stateMachine.snapshot();
    return { metadata: requests.metadataAt(engine, store, index), body };
  });
}
