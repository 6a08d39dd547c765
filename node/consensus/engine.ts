// Owns the loop around the core: ticks and messages go in; writes, messages and applied entries come out. It performs the
// duties that core/README.md lists, in asynchronous mode, so that a slow disk or state machine never delays a heartbeat.

import { appendEntriesMax } from '../../protocols/consensus-message.ts';
import type { SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { type ErrorRecord, toErrorRecord } from '../../protocols/errors.ts';
import type { Clock, Logger, Mesh, RandomBytes } from '../interfaces.ts';
import { AppendThread } from './append-thread.ts';
import { ApplyThread } from './apply-thread.ts';
import {
  appendThread,
  applyThread,
  entryOverheadBytes,
  type Message,
  nobody,
  type RaftOptions,
  RawNode,
  type Ready,
  voterIds,
} from './core/index.ts';
import { Incoming } from './incoming.ts';
import { advised, behindLog, damaged } from './log-damage.ts';
import type { LogStore } from './log-store.ts';
import { type MemberDirectory, MessageLinks } from './message-links.ts';
import { SnapshotLinks } from './snapshot-links.ts';
import type { SnapshotShelf } from './snapshot-shelf.ts';
import { Timing } from './timing.ts';
import { standDelayMs } from './timing-core.ts';
import type { StateMachine } from './types.ts';
import { Proposals, Reads } from './waiters.ts';

/** Bytes of entries in one append message: a follower takes as many entries, were they all empty. 256 KiB, well below messageBytesMax. */
const appendBytesMax = appendEntriesMax * entryOverheadBytes;
/** Bytes of entries in the state machine's hands. */
const applyBytesMax = 1024 * 1024;
/** Payload bytes that a leader takes before they are committed. */
const uncommittedBytesMax = 8 * 1024 * 1024;
const inflightMessagesMax = 64;
const inflightBytesMax = 4 * 1024 * 1024;
/** Ticks between two looks at how fast the disk and the other voters are. */
const measureTicks = 50;
/** Election times after which a deposed leader's callers are told that the outcome is unknown. */
const patienceElections = 4;

type Part = 'log' | 'state machine' | 'core';

export interface EngineInit {
  readonly raftId: number;
  readonly heartbeatMs: number;
  readonly electionMinMs: number;
}

export interface EngineComponents {
  readonly mesh: Pick<Mesh, 'open' | 'onPeerChange' | 'connectedPeers'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly randomBytes: RandomBytes;
  readonly members: MemberDirectory;
  readonly stateMachine: StateMachine;
  readonly store: LogStore;
  readonly shelf: SnapshotShelf;
  readonly onRoleChange: () => void;
  /** The state machine holds more than before. */
  readonly onApplied: () => void;
}

export class Engine {
  readonly raw: RawNode;
  readonly applies: ApplyThread;
  readonly proposals = new Proposals();
  readonly reads: Reads;
  readonly #init: EngineInit;
  readonly #components: EngineComponents;
  readonly #timing: Timing;
  readonly #incoming: Incoming;
  #electionTicks: number;
  readonly #appends: AppendThread;
  readonly links: MessageLinks;
  readonly snapshots: SnapshotLinks;
  readonly #cancels: (() => void)[] = [];
  readonly #failures = new Map<Part, ErrorRecord>();
  #cancelCampaign: (() => void) | undefined;
  #stopped = false;
  #pumpDue = false;
  #ticks = 0;
  #ticksNotLeading = 0;

  constructor(init: EngineInit, components: EngineComponents) {
    this.#init = init;
    this.#components = components;
    this.#timing = new Timing(init, components);
    const onForgotten = (what: string): void => this.#forget(what);
    this.#incoming = new Incoming({ ...components, onForgotten });
    this.#electionTicks = this.#timing.minimumTicks;
    const { raftId } = init;
    const run = Buffer.from(components.randomBytes(6)).toString('hex');
    this.reads = new Reads(`${raftId}-${run}`);
    const deliver = (responses: readonly Message[]): void => {
      for (const message of responses) this.#dispatch(message);
    };
    const watch = (part: Part) => ({
      onFailure: (error: unknown) => this.#fail(part, error),
      onRecovery: () => this.#recover(part),
    });
    this.applies = new ApplyThread({
      ...components,
      onApplied: (entry) => this.proposals.applied(entry),
      onConfiguration: (entry) => {
        this.act((raw) => raw.applyChange(entry));
        this.#dropLinks();
      },
      deliver: (responses) => {
        deliver(responses);
        this.reads.applied(components.stateMachine.appliedIndex());
        components.onApplied();
      },
      ...watch('state machine'),
    });
    this.raw = new RawNode(this.#raftOptions());
    const restore = (snapshot: SnapshotMetadata, body: Uint8Array): Promise<void> => this.#restore(snapshot, body);
    const onWritten = (tookMs: number): void => this.#timing.wrote(tookMs);
    this.#appends = new AppendThread({ ...components, restore, deliver, onWritten, ...watch('log') });
    const addressed = { raftId, term: () => this.raw.status().term };
    this.links = new MessageLinks(
      {
        ...addressed,
        onMessage: (message) => this.#receive(message),
        onUnreachable: (to) => this.#try((raw) => raw.reportUnreachable(to)),
      },
      components,
    );
    this.snapshots = new SnapshotLinks(
      {
        ...addressed,
        onSnapshot: (message, body) => this.#receiveSnapshot(message, body),
        onSent: (to, delivered) => this.#try((raw) => raw.reportSnapshot(to, delivered)),
      },
      components,
    );
  }

  start(): void {
    const { clock, mesh, members } = this.#components;
    this.links.start();
    this.#cancels.push(
      clock.every(this.#init.heartbeatMs, () => this.#tick()),
      mesh.onPeerChange((peer, connected) => {
        const { leader } = this.raw.status();
        if (!connected && leader !== nobody && members.peerOf(leader) === peer) this.#leaderDisconnected(leader);
      }),
    );
    // Alone there is nobody to wait for.
    const { incoming, outgoing } = this.raw.status().members.voters;
    if (outgoing.size === 0 && incoming.size === 1 && incoming.has(this.#init.raftId))
      this.#try((raw) => raw.campaign());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelCampaign?.();
    for (const cancel of this.#cancels) cancel();
    this.#endWaits();
    await Promise.all([this.#appends.stop(), this.applies.stop()]);
  }

  /** What keeps this voter from working; undefined when nothing does. */
  failure(): ErrorRecord | undefined {
    return this.#failures.values().next().value;
  }

  /** What people must look into while this voter goes on. */
  alarm(): ErrorRecord | undefined {
    return this.#incoming.alarm(this.raw);
  }

  /** Calls into the core and sees to what follows. A broken rule of its own stops this voter: it must not guess. */
  act<Result>(call: (raw: RawNode) => Result): Result {
    try {
      return call(this.raw);
    } catch (error) {
      this.#halt(error);
      throw error;
    } finally {
      this.#schedulePump();
    }
  }

  /** act() for calls that nobody waits for. */
  #try(call: (raw: RawNode) => void): void {
    if (this.#stopped || this.#failures.has('core')) return;
    try {
      this.act(call);
    } catch (error) {
      this.#components.logger.debug({ err: error }, 'consensus could not take its input');
    }
  }

  #raftOptions(): RaftOptions {
    const { store, stateMachine, randomBytes } = this.#components;
    const applied = stateMachine.appliedIndex();
    assertStateFitsLog(applied, store);
    const hardState = store.hardState();
    return {
      raftId: this.#init.raftId,
      electionTicks: this.#electionTicks,
      heartbeatTicks: 1,
      stable: store.log,
      // What was applied was committed, whatever the last batch knew.
      hardState: { ...hardState, commit: Math.max(hardState.commit, applied) },
      configuration: this.applies.configurationAt(applied),
      applied,
      random: (below) => new DataView(Uint8Array.from(randomBytes(4)).buffer).getUint32(0) % below,
      asyncStorageWrites: true,
      messageBytesMax: appendBytesMax,
      applyBytesMax,
      uncommittedBytesMax,
      inflightMessagesMax,
      inflightBytesMax,
      checkQuorum: true,
      preVote: true,
      readMode: 'safe',
      validateChanges: true,
      stepDownOnRemoval: true,
    };
  }

  #tick(): void {
    // A voter that cannot write or apply neither leads nor stands for election: others can.
    if (this.failure() !== undefined) return;
    this.#ticks += 1;
    if (this.#ticks % measureTicks === 0) this.#adaptElections();
    this.#try((raw) => {
      raw.tick();
      if (this.#ticks % this.#electionTicks !== 0) return;
      for (const context of this.reads.unanswered()) raw.readIndex(context);
    });
    this.#ticksNotLeading = this.raw.status().role === 'leader' ? 0 : this.#ticksNotLeading + 1;
    if (this.#ticksNotLeading === patienceElections * this.#electionTicks) {
      this.proposals.forget(Number.POSITIVE_INFINITY, 'this peer does not lead any more and has not heard of it since');
    }
  }

  #adaptElections(): void {
    const { leader, members } = this.raw.status();
    const voters = [...voterIds(members.voters)];
    const ticks = this.#timing.electionTicks(this.#electionTicks, { voters, leader });
    if (ticks === this.#electionTicks) return;
    this.#components.logger.info(
      { from: this.#electionTicks, to: ticks },
      'elections take another number of heartbeats',
    );
    this.#electionTicks = ticks;
    this.#try((raw) => raw.changeElectionTicks(ticks));
  }

  #leaderDisconnected(leader: number): void {
    const { clock, randomBytes, logger } = this.#components;
    logger.info({ leader }, 'lost the connection to the leader');
    this.#try((raw) => raw.forgetLeader());
    const { term: before, members } = this.raw.status();
    const delayMs = standDelayMs([...voterIds(members.voters)], {
      self: this.#init.raftId,
      lost: leader,
      tickMs: this.#init.heartbeatMs,
      chance: (randomBytes(1)[0] ?? 0) / 256,
    });
    this.#cancelCampaign?.();
    this.#cancelCampaign = clock.after(delayMs, () => {
      const { role, leader: current, term } = this.raw.status();
      // A higher term means that another voter's election is under way.
      if (role !== 'follower' || current !== nobody || term !== before || this.failure() !== undefined) return;
      this.#try((raw) => raw.campaign());
    });
  }

  #receive(message: Message): void {
    if (!this.#incoming.admits(message, this.raw)) return;
    this.#try((raw) => raw.step(message));
  }

  #receiveSnapshot(message: Message, body: Uint8Array): void {
    this.#appends.receive(message.snapshot?.index ?? 0, body, () => {
      this.#receive(message);
      this.#pump();
    });
  }

  #schedulePump(): void {
    if (this.#pumpDue) return;
    this.#pumpDue = true;
    queueMicrotask(() => this.#pump());
  }

  #pump(): void {
    this.#pumpDue = false;
    try {
      while (!this.#stopped && !this.#failures.has('core') && this.raw.hasReady()) this.#handle(this.raw.ready());
    } catch (error) {
      this.#halt(error);
    }
  }

  #handle(ready: Ready): void {
    for (const { context, index } of ready.readStates) this.reads.confirmed(context, index);
    if (ready.readStates.length > 0) this.reads.applied(this.#components.stateMachine.appliedIndex());
    for (const message of ready.messages) this.#dispatch(message);
    if (ready.softState) this.#components.onRoleChange();
  }

  #dispatch(message: Message): void {
    if (message.to === appendThread) this.#appends.push(message);
    else if (message.to === applyThread) this.applies.push(message);
    else if (message.to === this.#init.raftId) this.#try((raw) => raw.step(message));
    else if (message.type === 'snapshot') this.#sendSnapshot(message);
    else this.links.send(message);
  }

  #sendSnapshot(message: Message): void {
    const prepared = this.#components.shelf.prepared();
    const isPrepared = prepared !== undefined && prepared.metadata.index === message.snapshot?.index;
    if (isPrepared) this.snapshots.send(message, prepared.metadata, prepared.body);
    else queueMicrotask(() => this.#try((raw) => raw.reportSnapshot(message.to, false)));
  }

  async #restore(snapshot: SnapshotMetadata, body: Uint8Array): Promise<void> {
    await this.applies.restore(snapshot, body);
    this.#dropLinks();
    this.proposals.forget(snapshot.index, 'it was overtaken by a snapshot');
    this.reads.applied(snapshot.index);
    this.#components.onApplied();
  }

  /** Raft ids are never used again: who is out of the configuration has nothing more to hear. */
  #dropLinks(): void {
    const { voters, learners, learnersNext } = this.raw.status().members;
    this.links.retain(new Set([...voterIds(voters), ...learners, ...learnersNext]));
  }

  #fail(part: Part, error: unknown): void {
    if (this.#stopped) return;
    const isNew = !this.#failures.has(part);
    this.#failures.set(part, toErrorRecord(error));
    if (!isNew) return;
    this.#components.logger.error({ part, err: error }, 'consensus is held up');
    this.#components.onRoleChange();
  }

  #recover(part: Part): void {
    this.#failures.delete(part);
    if (this.#stopped) return;
    this.#components.logger.info({ part }, 'consensus goes on');
    this.#components.onRoleChange();
  }

  /** Nothing more is said or heard, and whoever waits is told. */
  #endWaits(): void {
    this.links.stop();
    this.snapshots.stop();
    this.proposals.forget(Number.POSITIVE_INFINITY, 'consensus has stopped');
    this.reads.stop();
  }

  /** What this voter has promised is not on its disk any more: it neither votes nor acknowledges from here on. */
  #forget(what: string): void {
    const { voters } = this.raw.status().members;
    this.#halt(
      advised(damaged(what), voterIds(voters)),
      'consensus has stopped: this voter has lost what it acknowledged',
    );
  }

  #halt(error: unknown, why = 'consensus has stopped: a rule of its own is broken'): void {
    if (this.#failures.has('core')) return;
    this.#components.logger.error({ err: error }, why);
    this.#failures.set('core', toErrorRecord(error));
    this.#endWaits();
    this.#components.onRoleChange();
  }
}

function assertStateFitsLog(applied: number, store: LogStore): void {
  const { index } = store.base();
  if (applied < index) throw behindLog(applied, index);
  if (applied > store.log.lastIndex()) {
    throw damaged(`it ends at index ${store.log.lastIndex()} and the state holds index ${applied} already`);
  }
}
