// Owns the lies of a voter that forges what it serves to members: pages that end with another entry than was committed,
// under the certificate of the true one or under none.

import { decode, encode } from '../../protocols/codec.ts';
import { entryPullAnswerSchema } from '../../protocols/entry-pull.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import type { Chance } from './chance.ts';

/** The page with a last entry of the liar's own; undefined for what is no page of entries. */
export function forgePage(bytes: Uint8Array, chance: Chance): Uint8Array | undefined {
  const answer = decode(entryPullAnswerSchema, bytes, messageBytesMax);
  if (answer.kind !== 'entries') return undefined;
  const data = chance.happens(0.5) ? new Uint8Array() : (answer.entries[0] ?? new Uint8Array());
  const { signatures, ...page } = answer;
  const entries = [...page.entries.slice(0, -1), data];
  return encode(chance.happens(0.5) ? { ...answer, entries } : { ...page, entries });
}
