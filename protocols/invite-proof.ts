// Owns the proof that a new member holds an invite's token. The token's secret is the seed of an Ed25519 key that never leaves
// the joining peer; the ledger knows the hash of its public half. The signature binds all that the peer says about itself, so
// that whoever carries it on, or reads it in the ledger, can neither change a word of it nor use it for another peer.

import { createPublicKey, verify } from 'node:crypto';
import * as v from 'valibot';
import { encode, sha256Hex } from './codec.ts';
import type { MemberFacts } from './ledger-entries.ts';
import { bytesSchema, signatureSchema } from './primitives.ts';

/** Of an Ed25519 seed and of its public half alike. */
export const inviteKeyBytes = 32;

export const inviteKeySchema = v.pipe(
  bytesSchema,
  v.check((bytes) => bytes.byteLength === inviteKeyBytes, `expected ${inviteKeyBytes} bytes`),
);

export const inviteProofSchema = v.object({
  /** The public half of the invite's key, raw. */
  key: inviteKeySchema,
  /** By that key, of the joinStatement of what the peer says about itself. */
  signature: signatureSchema,
});
export type InviteProof = v.InferOutput<typeof inviteProofSchema>;

/** What a new member says about itself. */
export type JoinFacts = Omit<MemberFacts, 'addresses'> & { readonly addresses: readonly string[] };

/** By what the ledger knows an invite. */
export function inviteKeyHash(publicKey: Uint8Array): string {
  return sha256Hex(publicKey);
}

/** The bytes under an invite's signature: the first word keeps them apart from everything else that peers sign. */
export function joinStatement(fleet: string, { peer, addresses, system, builderKey, voterKey }: JoinFacts): Uint8Array {
  const keys = { builderKey: builderKey ?? null, voterKey: voterKey ?? null };
  return encode({ purpose: 'parley-join', version: 1, fleet, peer, addresses, system, ...keys });
}

/** True when the invite's key has signed exactly these facts for this fleet. */
export function isJoinProven(fleet: string, facts: JoinFacts, { key, signature }: InviteProof): boolean {
  try {
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(key).toString('base64url') };
    return verify(null, joinStatement(fleet, facts), createPublicKey({ key: jwk, format: 'jwk' }), signature);
  } catch {
    return false;
  }
}
