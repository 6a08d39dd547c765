// Two implementations of raft in lockstep: groups of pairs, each pair fed the same input, one of them speaking for both on
// the network. Whatever a pair's halves do otherwise after the same inputs is a difference.

import { LogWindow } from '../../node/consensus/core/log-window.ts';
import { type Message, type MessageType, makeMessage } from '../../node/consensus/core/message.ts';
import { RawNode } from '../../node/consensus/core/raw-node.ts';
import type { RaftEntry } from '../../protocols/consensus-record.ts';
import { noLearners } from './fleet.ts';
import type { PortOptions } from './port.ts';

export type WireType =
  | Extract<MessageType, 'propose' | 'append' | 'append-response' | 'vote' | 'vote-response' | 'heartbeat'>
  | Extract<MessageType, 'heartbeat-response' | 'transfer-leader' | 'timeout-now' | 'pre-vote' | 'pre-vote-response'>
  | 'unknown';

/** A message as both can say it. */
export interface Wire {
  readonly type: WireType;
  readonly from: number;
  readonly to: number;
  readonly term: number;
  readonly index: number;
  readonly logTerm: number;
  readonly commit: number;
  readonly reject: boolean;
  readonly rejectHint: number;
  readonly isTransfer: boolean;
  readonly entries: readonly { readonly index: number; readonly term: number; readonly text: string }[];
}

export interface NodeState {
  readonly term: number;
  readonly vote: number;
  readonly role: string;
  readonly leader: number;
  readonly committed: number;
  /** `term text` of each entry. */
  readonly log: readonly string[];
  readonly applied: readonly string[];
}

export interface LockstepNode {
  tick(): void;
  campaign(): void;
  propose(text: string): void;
  transfer(to: number): void;
  step(wire: Wire): void;
  /** Everything but the disk is gone. */
  restart(): void;
  /** Writes, applies and confirms whatever is due; returns what is to be sent. */
  pump(): Wire[];
  state(): NodeState;
}

export function createOurNode(options: PortOptions): LockstepNode {
  const { raftId, size, electionTicks, inflightMessagesMax, preVote, checkQuorum, extraTicks } = options;
  const disk = new LogWindow<RaftEntry>({ index: 0, term: 0 }, () => undefined);
  let hardState = { term: 0, vote: 0, commit: 0 };
  let applied: string[] = [];
  let node = boot();

  function boot(): RawNode {
    const unlimited = Number.POSITIVE_INFINITY;
    return new RawNode({
      ...{ raftId, electionTicks, heartbeatTicks: 1, stable: disk, hardState, applied: 0, random: () => extraTicks },
      configuration: { voters: Array.from({ length: size }, (_, at) => at + 1), ...noLearners },
      ...{ asyncStorageWrites: false, messageBytesMax: unlimited, applyBytesMax: unlimited },
      ...{ uncommittedBytesMax: unlimited, inflightMessagesMax, inflightBytesMax: unlimited, checkQuorum, preVote },
      ...{ readMode: 'safe', validateChanges: true, stepDownOnRemoval: false },
    });
  }

  return {
    tick: () => node.tick(),
    campaign: () => node.campaign(),
    propose: (text) => void node.propose(new TextEncoder().encode(text)),
    transfer: (to) => node.transferLeadership(to),
    step: (wire) => void node.step(toOurs(wire)),
    restart() {
      node = boot();
      applied = [];
    },
    pump() {
      const sent: Wire[] = [];
      while (node.hasReady()) {
        const ready = node.ready();
        hardState = ready.hardState ?? hardState;
        disk.append(ready.entries);
        sent.push(...ready.messages.map(fromOurs));
        applied.push(...ready.committedEntries.map(describe));
        node.advance();
      }
      return sent;
    },
    state(): NodeState {
      const { term, vote, role, leader, commit } = node.status();
      const log = disk.range(1, disk.lastIndex() + 1).map(describe);
      return { term, vote, role, leader, committed: commit, log, applied };
    },
  };
}

const textOf = (data: Uint8Array): string => new TextDecoder().decode(data);
const describe = ({ term, data }: RaftEntry): string => `${term} ${textOf(data)}`;
const transferContext = 'transfer';

function fromOurs({
  type,
  from,
  to,
  term,
  index,
  logTerm,
  commit,
  reject,
  rejectHint,
  context,
  entries,
}: Message): Wire {
  return {
    ...{ type: type as WireType, from, to, term, index, logTerm, commit, reject, rejectHint },
    isTransfer: context === transferContext,
    entries: entries.map((entry) => ({ index: entry.index, term: entry.term, text: textOf(entry.data) })),
  };
}

function toOurs({ type, to, entries, isTransfer, ...fields }: Wire): Message {
  if (type === 'unknown') throw new Error('a message that only the other knows');
  return makeMessage(type, to, {
    ...fields,
    context: isTransfer ? transferContext : '',
    entries: entries.map(({ index, term, text }) => ({
      ...{ index, term, type: 'normal' as const },
      data: new TextEncoder().encode(text),
    })),
  });
}
