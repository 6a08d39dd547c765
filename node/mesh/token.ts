// Owns the text of an invite: what an operator copies from one device to another. A checksum tells a text that was cut or
// mistyped from a token that is merely too old.

import { randomBytes } from 'node:crypto';
import { check, decode, encode, sha256Hex } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import {
  type InviteProof,
  inviteKeyBytes,
  inviteKeyHash,
  type JoinFacts,
  joinStatement,
} from '../../protocols/invite-proof.ts';
import { type JoinToken, joinTokenSchema, tokenCharactersMax, tokenPrefix } from '../../protocols/join.ts';
import { peerIdSchema } from '../../protocols/primitives.ts';
import { identityFromSeed, publicKeyOfPeerId } from './identity.ts';

const checksumBytes = 4;
const hint = "Copy the whole line that 'parley invite' printed, from 'parley1:' to its end.";

/** The key whose seed is a token's secret. */
export interface InviteKey {
  /** By what the ledger knows the invite. */
  readonly keyHash: string;
  /** Proves to the fleet that who says this about itself holds the token. */
  prove(fleet: string, facts: JoinFacts): InviteProof;
}

export function inviteKeyOf(secret: Uint8Array): InviteKey {
  const { peer, sign } = identityFromSeed(secret);
  const key = publicKeyOfPeerId(peer);
  return {
    keyHash: inviteKeyHash(key),
    prove: (fleet, facts) => ({ key, signature: sign(joinStatement(fleet, facts)) }),
  };
}

/** A fresh token with its key's hash, which goes into the ledger; the secret is in the text only. */
export function createToken(facts: Omit<JoinToken, 'secret'>): { readonly text: string; readonly keyHash: string } {
  const secret = new Uint8Array(randomBytes(inviteKeyBytes));
  const body = encode(check(joinTokenSchema, { ...facts, secret }, 'token'));
  const text = tokenPrefix + Buffer.concat([checksum(body), body]).toString('base64url');
  return { text, keyHash: inviteKeyOf(secret).keyHash };
}

/**
 * Reads a token; blanks and line breaks that copying brought in are ignored. Whether it has expired is for the fleet to say.
 * @throws ParleyError `not-a-token` or `token-damaged`.
 */
export function parseToken(text: string): JoinToken {
  const compact = text.slice(0, 2 * tokenCharactersMax).replace(/\s+/g, '');
  if (!compact.startsWith(tokenPrefix)) {
    throw new ParleyError('not-a-token', `this is no invite token: it does not start with '${tokenPrefix}'`, { hint });
  }
  const encoded = compact.slice(tokenPrefix.length);
  if (encoded.length > tokenCharactersMax) throw damaged('it is too long');
  const strange = encoded.search(/[^A-Za-z0-9_-]/);
  if (strange >= 0)
    throw damaged(`it has '${encoded.charAt(strange)}' at character ${tokenPrefix.length + strange + 1}`);
  const bytes = Buffer.from(encoded, 'base64url');
  const body = new Uint8Array(bytes.subarray(checksumBytes));
  if (bytes.byteLength <= checksumBytes || !bytes.subarray(0, checksumBytes).equals(checksum(body))) {
    throw damaged('its checksum does not fit, so a part is missing or mistyped');
  }
  const token = decode(joinTokenSchema, body, tokenCharactersMax, 'token');
  for (const address of token.addresses) peerOfAddress(address);
  return token;
}

/** The peer id at the end of an address such as `/ip4/…/tcp/…/p2p/12D3KooW…`. @throws ParleyError `malformed`. */
export function peerOfAddress(address: string): string {
  return check(peerIdSchema, address.slice(address.lastIndexOf('/') + 1), `the peer id of '${address}'`);
}

function checksum(body: Uint8Array): Buffer {
  return Buffer.from(sha256Hex(body).slice(0, 2 * checksumBytes), 'hex');
}

function damaged(state: string): ParleyError {
  return new ParleyError('token-damaged', `this invite token cannot be read: ${state}`, { hint });
}
