// Owns joining: the token that an operator hands to a new device, and the exchange by which the device proves that it holds
// the token and is told which fleet it now belongs to. The secret stays with it: what it sends is signed with it.

import * as v from 'valibot';
import { generationRecordSchema } from './generation.ts';
import { generationsMax } from './generation-exchange.ts';
import { inviteKeySchema, inviteProofSchema } from './invite-proof.ts';
import { nixPublicKeySchema, systemSchema } from './ledger-entries.ts';
import { entryBytesMax } from './limits.ts';
import {
  addressSchema,
  bytesSchema,
  countSchema,
  errorRecordSchema,
  hashSchema,
  nameSchema,
  peerIdSchema,
  roleSchema,
  siteSchema,
  timeMsSchema,
} from './primitives.ts';

export const joinProtocol = '/parley/join/1';
/** A request is a few keys and some addresses: strangers may send no more. */
export const joinRequestBytesMax = 8 * 1024;
/** A token is copied by hand between windows; beyond this something else was pasted. */
export const tokenCharactersMax = 8 * 1024;
export const tokenPrefix = 'parley1:';
/** Addresses of one peer, each with or without its `/p2p/` part. */
const addressesSchema = v.pipe(v.array(addressSchema), v.maxLength(16));

/** What a token says. Its text is `parley1:` and the base64url of the CBOR with a checksum before it. */
export const joinTokenSchema = v.object({
  fleet: hashSchema,
  /** The seed of the invite's key: nobody guesses 256 bits. */
  secret: inviteKeySchema,
  /** Members that may be asked, each with `/p2p/` and its id at the end. */
  addresses: v.pipe(v.array(addressSchema), v.minLength(1), v.maxLength(16)),
  /** By ledger time; the fleet decides. */
  expiresAtMs: timeMsSchema,
});
export type JoinToken = v.InferOutput<typeof joinTokenSchema>;

export const joinRequestSchema = v.object({
  version: v.literal(1),
  /** Of the asking peer's id and all that follows here. */
  proof: inviteProofSchema,
  /** Where the new peer can be dialled. */
  addresses: addressesSchema,
  system: systemSchema,
  /** The key that the peer signs with where the invite makes it a builder. */
  builderKey: nixPublicKeySchema,
  /** The key that the peer signs certificates with where the invite makes it a voter. */
  voterKey: peerIdSchema,
});
export type JoinRequest = v.InferOutput<typeof joinRequestSchema>;

/** A member to talk to before the ledger is known. */
export const joinContactSchema = v.object({
  peer: peerIdSchema,
  addresses: addressesSchema,
  /** The voter's number; 0 for a peer that does not vote. */
  raftId: countSchema,
});
export type JoinContact = v.InferOutput<typeof joinContactSchema>;

export const joinGrantSchema = v.object({
  fleet: hashSchema,
  /** The fleet's first entry as it is stored; its SHA-256 is the fleet's id. */
  genesis: v.pipe(
    bytesSchema,
    v.check((bytes) => bytes.byteLength <= entryBytesMax, `expected at most ${entryBytesMax} bytes`),
  ),
  name: nameSchema,
  site: siteSchema,
  roles: v.pipe(v.array(roleSchema), v.minLength(1), v.maxLength(4)),
  /** The number allotted to a voter; 0 for others. */
  raftId: countSchema,
  /** Voters first. From them the new peer pulls the ledger, which names everybody else. */
  contacts: v.pipe(v.array(joinContactSchema), v.maxLength(64)),
  /** Generations that the fleet has begun since its foundation, by number. */
  generations: v.optional(v.pipe(v.array(generationRecordSchema), v.maxLength(generationsMax))),
});
export type JoinGrant = v.InferOutput<typeof joinGrantSchema>;

export const joinReplySchema = v.variant('type', [
  v.object({ type: v.literal('granted'), grant: joinGrantSchema }),
  v.object({ type: v.literal('refused'), error: errorRecordSchema }),
]);
export type JoinReply = v.InferOutput<typeof joinReplySchema>;
