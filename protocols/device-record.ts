// Owns what a device keeps on disk about its slot: the newest order that it accepted (the floor), how far that is, what to
// go back to. It is written before each step and is all that a restart has to go by.

import * as v from 'valibot';
import { failedUnitsSchema, orderEndSchema, orderStateSchema } from './journal.ts';
import { outcomeSchema } from './outcome.ts';
import { countSchema, hashSchema, peerIdSchema, storePathSchema, taskIdSchema, textSchema } from './primitives.ts';

export const slotRecordBytesMax = 128 * 1024;
/** Peers that are asked to confirm a switch; any one suffices. */
export const confirmersMax = 8;

const bootIdSchema = v.pipe(v.string(), v.maxLength(64));

/** What was there just before the switch; each part is restored on the way back. */
export const savedSystemSchema = v.object({
  running: v.nullable(storePathSchema),
  profile: v.nullable(storePathSchema),
  bootId: bootIdSchema,
  /** Units that had failed already: they are not the new system's fault. */
  failedUnits: failedUnitsSchema,
  /** Peers that could be reached: only they can prove that the network still works. */
  confirmers: v.pipe(v.array(peerIdSchema), v.maxLength(confirmersMax)),
  /** `simulated`: nothing of the new system is run. */
  kind: v.picklist(['contained', 'simulated']),
});
export type SavedSystem = v.InferOutput<typeof savedSystemSchema>;

/** How the order will end once the state that follows is reached. */
export const verdictSchema = v.object({
  outcome: outcomeSchema,
  reason: v.nullable(textSchema),
  failedUnits: failedUnitsSchema,
  /** True when the switch stopped before it changed anything, so that there is nothing to undo. */
  isUntouched: v.boolean(),
});
export type Verdict = v.InferOutput<typeof verdictSchema>;

export const slotRecordSchema = v.object({
  version: v.literal(1),
  generation: countSchema,
  number: countSchema,
  /** Hash of what the order says; another one under the same number is an alarm. */
  hash: hashSchema,
  task: taskIdSchema,
  plan: hashSchema,
  closure: storePathSchema,
  manifest: hashSchema,
  state: orderStateSchema,
  /** From `armed` on. */
  saved: v.nullable(savedSystemSchema),
  /** From `active` on, and while `undoing`. */
  verdict: v.nullable(verdictSchema),
  /** Once `cleaned`: what was reported, and in which incarnation of the journal. */
  end: v.nullable(orderEndSchema),
  reportedIn: countSchema,
});
export type SlotRecord = v.InferOutput<typeof slotRecordSchema>;

/** What the journal was last told about the machine. */
export const toldSchema = v.object({
  incarnation: countSchema,
  bootId: bootIdSchema,
  running: v.nullable(storePathSchema),
});
export type Told = v.InferOutput<typeof toldSchema>;
