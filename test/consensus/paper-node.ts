// One raft node for tests that follow the Raft paper sentence by sentence: put into a role by hand, given one message at a
// time, asked what it says. Its disk is as quick as the test: sent() counts everything as written.

import { LogWindow } from '../../node/consensus/core/log-window.ts';
import { type Message, type MessageType, makeMessage } from '../../node/consensus/core/message.ts';
import {
  becomeCandidate,
  becomeFollower,
  becomeLeader,
  createRaft,
  type Raft,
} from '../../node/consensus/core/raft.ts';
import { broadcastAppend } from '../../node/consensus/core/replicate.ts';
import { step, tick } from '../../node/consensus/core/step.ts';
import type { RaftEntry } from '../../protocols/consensus-record.ts';
import { seededRandom } from '../helpers/random.ts';
import { noLearners } from './fleet.ts';

export const electionTicks = 10;

export interface PaperNodeInit {
  readonly raftId?: number;
  /** The voters are 1 … size. */
  readonly size?: number;
  /** The entries on disk. */
  readonly log?: readonly RaftEntry[];
  readonly term?: number;
  readonly vote?: number;
  readonly commit?: number;
  readonly seed?: number;
}

/** Entries of these terms, the first at `firstIndex`. */
export function entriesOf(firstIndex: number, terms: readonly number[], texts: readonly string[] = []): RaftEntry[] {
  return terms.map((term, at) => ({
    index: firstIndex + at,
    term,
    type: 'normal',
    data: new TextEncoder().encode(texts[at] ?? ''),
  }));
}

/** `index/term` of each entry, and its text if it has any. */
export function describe(entries: readonly RaftEntry[]): string[] {
  return entries.map(({ index, term, data }) => [`${index}/${term}`, new TextDecoder().decode(data)].join(' ').trim());
}

/** A follower's answer to an append that it accepts. */
export function accepted({ from, to, term, index, entries }: Message): Message {
  return makeMessage('append-response', from, { from: to, term, index: index + entries.length });
}

export class PaperNode {
  readonly raft: Raft;
  readonly #disk: LogWindow<RaftEntry>;

  constructor({ raftId = 1, size = 3, log = [], term = 0, vote = 0, commit = 0, seed = raftId }: PaperNodeInit = {}) {
    this.#disk = new LogWindow({ index: 0, term: 0 }, () => undefined);
    this.#disk.append(log);
    const random = seededRandom(seed);
    this.raft = createRaft({
      raftId,
      electionTicks,
      heartbeatTicks: 1,
      stable: this.#disk,
      hardState: { term, vote, commit },
      configuration: { voters: Array.from({ length: size }, (_, at) => at + 1), ...noLearners },
      applied: 0,
      random: (below) => Math.floor(random() * below),
      asyncStorageWrites: false,
      messageBytesMax: Number.POSITIVE_INFINITY,
      applyBytesMax: Number.POSITIVE_INFINITY,
      uncommittedBytesMax: Number.POSITIVE_INFINITY,
      inflightMessagesMax: 256,
      inflightBytesMax: Number.POSITIVE_INFINITY,
      checkQuorum: false,
      preVote: false,
      readMode: 'safe',
      validateChanges: true,
      stepDownOnRemoval: false,
    });
  }

  follow(term: number, leader: number): this {
    becomeFollower(this.raft, term, leader);
    return this;
  }

  stand(): this {
    becomeCandidate(this.raft);
    return this;
  }

  lead(): this {
    becomeCandidate(this.raft);
    becomeLeader(this.raft);
    return this;
  }

  /** Leads, and has the first entry of its term on every disk, its own included. */
  leadAndCommit(): this {
    broadcastAppend(this.lead().raft);
    for (const message of this.sent()) this.hear(accepted(message));
    this.write();
    this.raft.log.appliedTo(this.raft.log.committed, 0);
    this.sent();
    return this;
  }

  campaign(): this {
    step(this.raft, makeMessage('campaign', 0));
    return this;
  }

  propose(text = ''): void {
    step(this.raft, makeMessage('propose', 0, { from: this.raft.options.raftId, entries: entriesOf(0, [0], [text]) }));
  }

  hear(message: Message): void {
    step(this.raft, message);
  }

  take(type: MessageType, fields: Partial<Message>): this {
    this.hear(makeMessage(type, this.raft.options.raftId, fields));
    return this;
  }

  tick(count = 1): void {
    for (let done = 0; done < count; done += 1) tick(this.raft);
  }

  /** Everything it has said since the last time, in the order of receivers; its own words have reached it. */
  sent(): Message[] {
    const { raft } = this;
    const own = ({ to }: Message): boolean => to === raft.options.raftId;
    const waiting = raft.messagesAfterAppend;
    raft.messagesAfterAppend = [];
    for (const message of waiting.filter(own)) this.hear(message);
    const sent = [...raft.messages, ...waiting.filter((message) => !own(message))];
    raft.messages = [];
    return sent.sort((a, b) => a.to - b.to);
  }

  /** Moves what is not on disk there. */
  write(): void {
    const { log } = this.raft;
    this.#disk.append(log.nextUnstableEntries());
    log.acceptUnstable();
    log.stableTo(log.last());
  }

  unwritten(): string[] {
    return describe(this.raft.log.nextUnstableEntries());
  }

  /** What its state machine would be given next. */
  toApply(): string[] {
    return describe(this.raft.log.nextCommittedEntries(true));
  }

  wholeLog(): string[] {
    return describe(this.raft.log.entriesFrom(1, Number.POSITIVE_INFINITY) ?? []);
  }
}
