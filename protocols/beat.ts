// Owns the beat: what a member tells the voters about itself now and then. It is volatile (lost beats cost nothing but
// freshness), authorises nothing, and says up to where the sender's journal can be pulled.

import * as v from 'valibot';
import { countSchema, siteSchema, storePathSchema, textSchema, timeMsSchema } from './primitives.ts';

export const beatProtocol = '/parley/beat/1';
export const beatBytesMax = 16 * 1024;
/** A beat this old counts as absence: three missed ones. */
export const beatPeriodMs = 15_000;

export const bytesBySiteSchema = v.record(siteSchema, v.object({ bytesIn: countSchema, bytesOut: countSchema }));
export type BytesBySite = v.InferOutput<typeof bytesBySiteSchema>;

export const beatSchema = v.object({
  version: v.literal(1),
  atMs: timeMsSchema,
  release: v.pipe(v.string(), v.maxLength(32)),
  incarnation: countSchema,
  /** The last sequence number of the journal that is on disk. */
  journalSequence: countSchema,
  ledgerIndex: countSchema,
  running: v.nullable(storePathSchema),
  booted: v.nullable(storePathSchema),
  /** What the device does now: the order's number, its activation state, and progress in bytes while fetching. */
  activity: v.nullable(
    v.object({
      order: countSchema,
      state: v.pipe(v.string(), v.maxLength(32)),
      text: textSchema,
      bytesDone: countSchema,
      bytesTotal: countSchema,
    }),
  ),
  /**
   * How many of the things that the ledger names at this index a voter does not have: blobs, the project's head, and one more
   * while proofs of changes of voters are missing.
   */
  keeps: v.optional(v.object({ index: countSchema, lacking: countSchema })),
  /** What keeps this voter from its work, and what to do about it; left out while nothing does. */
  trouble: v.optional(textSchema),
  /** Closure payload since the peer started, by the other end's site. */
  traffic: bytesBySiteSchema,
});
export type Beat = v.InferOutput<typeof beatSchema>;
