// Owns the messages between voters: /parley/consensus/1 carries frames of raft messages, lossy and unordered;
// /parley/snapshot/1 carries one snapshot, a header frame and then the parts of its body.

import * as v from 'valibot';
import {
  positionSchema,
  raftEntrySchema,
  raftIdSchema,
  snapshotBytesMax,
  snapshotMetadataSchema,
} from './consensus-record.ts';
import { countSchema, hashSchema } from './primitives.ts';

export const consensusProtocol = '/parley/consensus/1';
export const snapshotProtocol = '/parley/snapshot/1';

/** Entries of one append message: bounds what a decoder builds from many tiny entries. */
export const appendEntriesMax = 4_096;
/** Raft messages of one frame. */
export const frameMessagesMax = 64;

/** The message types that travel. Proposals and transfers are not forwarded: only the leader takes them. */
export const wireMessageTypeSchema = v.picklist([
  'append',
  'append-response',
  'vote',
  'vote-response',
  'pre-vote',
  'pre-vote-response',
  'heartbeat',
  'heartbeat-response',
  'timeout-now',
  'read-index',
  'read-index-response',
]);
export type WireMessageType = v.InferOutput<typeof wireMessageTypeSchema>;

/** One raft message; absent numbers are 0. Only `read-index` has no term. */
export const raftMessageSchema = v.pipe(
  v.object({
    type: wireMessageTypeSchema,
    from: raftIdSchema,
    to: raftIdSchema,
    term: v.optional(positionSchema, 0),
    index: v.optional(positionSchema, 0),
    /** Term of the entry at `index`, or of the hint. */
    logTerm: v.optional(positionSchema, 0),
    commit: v.optional(positionSchema, 0),
    reject: v.optional(v.boolean(), false),
    rejectHint: v.optional(positionSchema, 0),
    context: v.optional(v.pipe(v.string(), v.maxLength(64)), ''),
    entries: v.optional(v.pipe(v.array(raftEntrySchema), v.maxLength(appendEntriesMax)), () => []),
  }),
  v.check((message) => (message.type === 'read-index') === (message.term === 0), 'expected a term'),
  v.check((message) => message.type === 'append' || message.entries.length === 0, 'expected no entries'),
  v.check((message) => entriesFollow(message), 'expected entries that follow each other'),
);
export type RaftMessage = v.InferOutput<typeof raftMessageSchema>;

/** One frame of /parley/consensus/1. */
export const consensusFrameSchema = v.object({
  version: v.literal(1),
  messages: v.pipe(v.array(raftMessageSchema), v.minLength(1), v.maxLength(frameMessagesMax)),
});
export type ConsensusFrame = v.InferOutput<typeof consensusFrameSchema>;

/** The first frame of /parley/snapshot/1; frames of snapshotPartBytesMax with the body follow. */
export const snapshotHeaderSchema = v.object({
  version: v.literal(1),
  from: raftIdSchema,
  to: raftIdSchema,
  term: v.pipe(positionSchema, v.minValue(1)),
  snapshot: snapshotMetadataSchema,
  bodyBytes: v.pipe(countSchema, v.maxValue(snapshotBytesMax)),
  bodyHash: hashSchema,
});
export type SnapshotHeader = v.InferOutput<typeof snapshotHeaderSchema>;

function entriesFollow(message: {
  readonly term: number;
  readonly index: number;
  readonly logTerm: number;
  readonly entries: readonly { readonly index: number; readonly term: number }[];
}): boolean {
  let previous = { index: message.index, term: message.logTerm };
  for (const entry of message.entries) {
    if (entry.index !== previous.index + 1 || entry.term < previous.term) return false;
    previous = entry;
  }
  return message.entries.length === 0 || previous.term <= message.term;
}
