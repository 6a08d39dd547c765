// Owns the record that makes a state folder a member's: what `init` or `join` was told, so that the peer can start before
// it has seen the ledger. From then on the ledger's word counts.

import * as v from 'valibot';
import { positionSchema } from './consensus-record.ts';
import { joinContactSchema, joinGrantSchema } from './join.ts';
import { textSchema } from './primitives.ts';

/** Members that a peer knows to ask without its ledger. */
export const contactsMax = 64;

export const membershipSchema = v.object({
  version: v.literal(1),
  ...joinGrantSchema.entries,
  contacts: v.pipe(v.array(joinContactSchema), v.maxLength(contactsMax)),
  /** Where the voters among `contacts` came into force; left out where they were not noted from a ledger. */
  votersIndex: v.optional(positionSchema),
  /** The voter's log exists: one that is missing from here on was lost. */
  logBegun: v.optional(v.boolean()),
  /** Two records of one generation were seen: nobody can tell which one to obey. */
  frozen: v.optional(textSchema),
  /** A recovery was begun here and has not come to its end. */
  recovering: v.optional(v.literal(true)),
  /** The fleet has removed this peer: its state folder is of no use any more. */
  removed: v.optional(v.literal(true)),
});
/** `genesis` holds the fleet's first entry; `contacts` are the members to ask before the ledger names everybody. */
export type Membership = v.InferOutput<typeof membershipSchema>;

export const membershipBytesMax = 256 * 1024;
