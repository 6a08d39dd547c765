// Owns the vocabulary of the core: messages (those that travel and those between the core and its own storage threads),
// entries' sizes and the view of stable storage that the core reads. Algorithm after etcd-io/raft, commit cdfbeed.

import type { WireMessageType } from '../../../protocols/consensus-message.ts';
import type { RaftEntry, SnapshotMetadata } from '../../../protocols/consensus-record.ts';

/** No raft id: no leader, no vote. */
export const nobody = 0;
/** Targets of storage messages; outside the range of raft ids. */
export const appendThread = Number.MAX_SAFE_INTEGER;
export const applyThread = Number.MAX_SAFE_INTEGER - 1;

export type MessageType =
  | WireMessageType
  // In no frame on the wire: a snapshot has a stream of its own, the others stay between the core and its caller.
  | 'campaign'
  | 'beat'
  | 'propose'
  | 'snapshot'
  | 'transfer-leader'
  | 'forget-leader'
  | 'check-quorum'
  | 'unreachable'
  | 'snapshot-status'
  | 'storage-append'
  | 'storage-append-response'
  | 'storage-apply'
  | 'storage-apply-response';

/** A position in the log: an entry's index and term. */
export interface Position {
  readonly index: number;
  readonly term: number;
}

/** One raft message. Fields that a type does not use are 0, '' or empty. */
export interface Message {
  readonly type: MessageType;
  readonly from: number;
  readonly to: number;
  readonly term: number;
  /** Append: position before the first entry. Responses: what is acknowledged or refused. Votes: the candidate's last. */
  readonly index: number;
  readonly logTerm: number;
  readonly commit: number;
  readonly vote: number;
  readonly reject: boolean;
  readonly rejectHint: number;
  /** Votes: `transfer` overrides the lease. Heartbeats: position in the queue of reads. Reads: the reader's own id. */
  readonly context: string;
  readonly entries: readonly RaftEntry[];
  readonly snapshot: SnapshotMetadata | undefined;
  /** Storage messages: what to deliver once the write is done. */
  readonly responses: readonly Message[];
}

const emptyFields: Omit<Message, 'type' | 'to'> = {
  from: nobody,
  term: 0,
  index: 0,
  logTerm: 0,
  commit: 0,
  vote: nobody,
  reject: false,
  rejectHint: 0,
  context: '',
  entries: [],
  snapshot: undefined,
  responses: [],
};

/** A message with the given fields; the others are empty. */
export function makeMessage(type: MessageType, to: number, fields: Partial<Message> = {}): Message {
  return { ...emptyFields, ...fields, type, to };
}

const localTypes: ReadonlySet<MessageType> = new Set([
  'campaign',
  'beat',
  'unreachable',
  'snapshot-status',
  'check-quorum',
  'storage-append',
  'storage-append-response',
  'storage-apply',
  'storage-apply-response',
]);

const responseTypes: ReadonlySet<MessageType> = new Set([
  'append-response',
  'vote-response',
  'heartbeat-response',
  'unreachable',
  'read-index-response',
  'pre-vote-response',
  'storage-append-response',
  'storage-apply-response',
]);

export const isLocalType = (type: MessageType): boolean => localTypes.has(type);
export const isResponseType = (type: MessageType): boolean => responseTypes.has(type);
export const isStorageThread = (raftId: number): boolean => raftId === appendThread || raftId === applyThread;

/** What the rest of an entry weighs beside its data, as encoded at most. */
export const entryOverheadBytes = 64;

/** What an entry weighs against message and apply limits. */
export const entryBytes = (entry: RaftEntry): number => entry.data.byteLength + entryOverheadBytes;

export function entriesBytes(entries: readonly RaftEntry[]): number {
  return entries.reduce((sum, entry) => sum + entryBytes(entry), 0);
}

export function payloadBytes(entries: readonly RaftEntry[]): number {
  return entries.reduce((sum, entry) => sum + entry.data.byteLength, 0);
}

/** The longest prefix within bytesMax, but at least one entry. */
export function limitEntries(entries: readonly RaftEntry[], bytesMax: number): readonly RaftEntry[] {
  let size = 0;
  for (const [position, entry] of entries.entries()) {
    size += entryBytes(entry);
    if (size > bytesMax && position > 0) return entries.slice(0, position);
  }
  return entries;
}

/** The part of the log that is on disk. Answers never change by themselves while the core runs one call. */
export interface StableLog {
  /** Index of the first entry that is held; the snapshot's index + 1. */
  firstIndex(): number;
  lastIndex(): number;
  /** Term of the entry, also at firstIndex - 1; undefined outside. */
  term(index: number): number | undefined;
  /** Entries low <= index < high, cut to bytesMax but at least one; undefined when low is compacted. */
  entries(low: number, high: number, bytesMax: number): readonly RaftEntry[] | undefined;
  /** The newest snapshot that can be sent; undefined while none is ready. */
  snapshot(): SnapshotMetadata | undefined;
}

export interface HardState {
  readonly term: number;
  readonly vote: number;
  readonly commit: number;
}

/** A broken rule of our own: never the consequence of input that was checked. */
export function invariant(holds: boolean, rule: string): asserts holds {
  if (!holds) throw new Error(`consensus invariant broken: ${rule}`);
}
