// Owns Nix's own base-32 text form of hashes, in which manifests, narinfos, Nix's answers and spool names write NarHashes.
// Digits run from the last 5 bits of the bytes to the first; the letters e, o, t and u are left out.

import { ParleyError } from './errors.ts';

const digits = '0123456789abcdfghijklmnpqrsvwxyz';
const sha256Bytes = 32;
const sha256Digits = 52;

/** Writes bytes in Nix's base 32: 32 bytes become 52 digits. */
function toNix32(bytes: Uint8Array): string {
  const digitCount = Math.ceil((bytes.byteLength * 8) / 5);
  let text = '';
  for (let index = digitCount - 1; index >= 0; index -= 1) {
    const bit = index * 5;
    const low = (bytes[bit >> 3] ?? 0) >> (bit & 7);
    const high = (bytes[(bit >> 3) + 1] ?? 0) << (8 - (bit & 7));
    text += digits[(low | high) & 31];
  }
  return text;
}

/**
 * Reads the 52 digits of a SHA-256.
 * @throws ParleyError `malformed` for another length, another digit, or bits beyond the 32 bytes.
 */
function fromNix32(text: string): Uint8Array {
  if (text.length !== sha256Digits) {
    throw new ParleyError('malformed', `a base-32 SHA-256 has ${text.length} digits: expected ${sha256Digits}`);
  }
  const bytes = new Uint8Array(sha256Bytes);
  for (let index = 0; index < text.length; index += 1) {
    const digit = digits.indexOf(text.charAt(text.length - 1 - index));
    const bit = index * 5;
    const byte = bit >> 3;
    const spill = digit >> (8 - (bit & 7));
    if (digit < 0 || (byte === sha256Bytes - 1 && spill !== 0)) {
      throw new ParleyError('malformed', `a base-32 SHA-256 is not readable: '${text}'`);
    }
    bytes[byte] = (bytes[byte] ?? 0) | ((digit << (bit & 7)) & 255);
    if (byte + 1 < sha256Bytes) bytes[byte + 1] = (bytes[byte + 1] ?? 0) | spill;
  }
  return bytes;
}

/**
 * The 52 digits of a NarHash written as `sha256:<digits>`: a safe file name.
 * @throws ParleyError `malformed`.
 */
export function narHashDigits(narHash: string): string {
  if (!narHash.startsWith('sha256:')) throw new ParleyError('malformed', `a NarHash is no SHA-256: '${narHash}'`);
  const text = narHash.slice('sha256:'.length);
  fromNix32(text);
  return text;
}

/** Writes a SHA-256 as a NarHash: `sha256:` and 52 digits. */
export function toNarHash(sha256: Uint8Array): string {
  return `sha256:${toNix32(sha256)}`;
}
