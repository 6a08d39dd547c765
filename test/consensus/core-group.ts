// A group of raft cores in synchronous mode with a network that delivers on demand: for scripted schedules.

import { LogWindow } from '../../node/consensus/core/log-window.ts';
import type { Message } from '../../node/consensus/core/message.ts';
import type { RaftOptions } from '../../node/consensus/core/raft.ts';
import { RawNode } from '../../node/consensus/core/raw-node.ts';
import type { RaftEntry } from '../../protocols/consensus-record.ts';
import { noLearners } from './fleet.ts';

export const electionTicks = 10;

export interface CoreNode {
  readonly raftId: number;
  raw: RawNode;
  readonly log: LogWindow<RaftEntry>;
  hardState: { term: number; vote: number; commit: number };
  /** Data of applied entries as text. */
  applied: string[];
}

export class CoreGroup {
  readonly nodes: CoreNode[] = [];
  /** Messages that nobody has delivered yet. */
  flying: Message[] = [];
  /** Returns true for messages that get lost. */
  isLost: (message: Message) => boolean = () => false;
  readonly #voters: number[];
  readonly #options: Partial<RaftOptions>;

  constructor(count: number, options: Partial<RaftOptions> = {}) {
    this.#voters = Array.from({ length: count }, (_, position) => position + 1);
    this.#options = options;
    for (const raftId of this.#voters) {
      const log = new LogWindow<RaftEntry>({ index: 1, term: 1 }, () => undefined);
      const hardState = { term: 1, vote: 0, commit: 1 };
      this.nodes.push({ raftId, log, hardState, applied: [], raw: this.#create(raftId, log, hardState) });
    }
  }

  node(raftId: number): CoreNode {
    const node = this.nodes[raftId - 1];
    if (!node) throw new Error(`no node ${raftId}`);
    return node;
  }

  /** Does what ready() asks for, once; returns whether there was anything. */
  handle(raftId: number): boolean {
    const node = this.node(raftId);
    if (!node.raw.hasReady()) return false;
    const { hardState, entries, messages, committedEntries } = node.raw.ready();
    if (hardState) node.hardState = hardState;
    node.log.append(entries);
    this.flying.push(...messages);
    for (const entry of committedEntries) {
      if (entry.type === 'configuration') node.raw.applyChange(entry);
      else node.applied.push(new TextDecoder().decode(entry.data));
    }
    node.raw.advance();
    return true;
  }

  /** Handles and delivers until nothing moves. */
  settle(): void {
    for (let busy = true; busy; ) {
      busy = false;
      for (const { raftId } of this.nodes) while (this.handle(raftId)) busy = true;
      for (const message of this.flying.splice(0)) {
        if (this.isLost(message)) continue;
        this.node(message.to).raw.step(message);
        busy = true;
      }
    }
  }

  campaign(raftId: number): void {
    this.node(raftId).raw.campaign();
    this.settle();
  }

  propose(raftId: number, word: string): void {
    this.node(raftId).raw.propose(new TextEncoder().encode(word));
    this.settle();
  }

  tick(raftId: number, count: number): void {
    for (let done = 0; done < count; done += 1) {
      this.node(raftId).raw.tick();
      this.settle();
    }
  }

  /** Everything but the disk is gone. */
  restart(raftId: number): void {
    const node = this.node(raftId);
    node.applied = [];
    node.raw = this.#create(raftId, node.log, node.hardState);
  }

  /** Loses whatever goes from or to these nodes, but between them. */
  isolate(...raftIds: number[]): void {
    this.isLost = ({ from, to }) => raftIds.includes(from) !== raftIds.includes(to);
  }

  heal(): void {
    this.isLost = () => false;
  }

  role(raftId: number): string {
    return this.node(raftId).raw.status().role;
  }

  #create(raftId: number, stable: LogWindow<RaftEntry>, hardState: CoreNode['hardState']): RawNode {
    return new RawNode({
      raftId,
      electionTicks,
      heartbeatTicks: 1,
      stable,
      hardState,
      configuration: { voters: this.#voters, ...noLearners },
      applied: 1,
      random: () => 0,
      asyncStorageWrites: false,
      messageBytesMax: 4_096,
      applyBytesMax: 65_536,
      uncommittedBytesMax: 65_536,
      inflightMessagesMax: 16,
      inflightBytesMax: 65_536,
      checkQuorum: true,
      preVote: true,
      readMode: 'safe',
      validateChanges: true,
      stepDownOnRemoval: true,
      ...this.#options,
    });
  }
}
