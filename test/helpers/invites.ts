// Owns invites of tests: each secret is known by a name, so that a test can open an invite and use it, or try to, elsewhere.

import { createHash } from 'node:crypto';
import { type InviteKey, inviteKeyOf } from '../../node/mesh/token.ts';
import type { EntryBody, MemberFacts } from '../../protocols/ledger-entries.ts';

const keys = new Map<string, InviteKey>();

function inviteKey(secret: string): InviteKey {
  const key = keys.get(secret) ?? inviteKeyOf(createHash('sha256').update(secret).digest());
  keys.set(secret, key);
  return key;
}

/** By what the ledger knows the invite with this secret. */
export const inviteHash = (secret: string): string => inviteKey(secret).keyHash;

/** What a peer that has the token says to join. */
export function joining(fleet: string, secret: string, facts: MemberFacts): EntryBody<'member-joined'> {
  return { ...facts, proof: inviteKey(secret).prove(fleet, facts) };
}
