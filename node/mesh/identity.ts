// Owns a peer's Ed25519 key: its file, its text form (the peer id) and signatures. Plain node:crypto, so that whoever only
// signs or verifies loads no libp2p.

import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import { link, mkdir, open, readFile, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { check } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { membersMax } from '../../protocols/limits.ts';
import { peerIdSchema } from '../../protocols/primitives.ts';

/** A peer's key with its text form. `privateKey` is the 32-byte Ed25519 seed and stays in the process. */
export interface Identity {
  /** The peer id in base58 (`12D3KooW…`); it holds the whole public key. */
  readonly peer: string;
  readonly privateKey: Uint8Array;
  /** The Ed25519 signature (64 bytes) of bytes. */
  sign(bytes: Uint8Array): Uint8Array;
}

const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex');
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex');
/** A peer id is the multihash "identity, 36 bytes" of the protobuf "key type 1, 32 bytes of key". */
const peerIdPrefix = Buffer.from('002408011220', 'hex');
const base58Digits = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

/**
 * Makes a new key and writes it to a file (PKCS #8 PEM, mode 0600, whole or not at all).
 * @throws ParleyError `identity-exists` when there is a file of that name, `identity-unusable` when it cannot be written.
 */
export async function createIdentity(file: string): Promise<Identity> {
  const { privateKey } = generateKeyPairSync('ed25519');
  const temporaryFile = `${file}.${process.pid}.new`;
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await writeSynced(temporaryFile, String(privateKey.export({ type: 'pkcs8', format: 'pem' })));
    await link(temporaryFile, file);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST') {
      throw new ParleyError('identity-exists', `cannot create a key at '${file}': there is one already`, { cause });
    }
    throw new ParleyError('identity-unusable', `cannot write the key '${file}': ${(cause as Error).message}`, {
      cause,
    });
  } finally {
    await rm(temporaryFile, { force: true });
  }
  const folder = await open(dirname(file), 'r');
  await folder.sync().finally(() => folder.close());
  return fromKey(privateKey);
}

/**
 * Reads the key that createIdentity wrote.
 * @throws ParleyError `identity-missing`, `identity-exposed` when others than the owner may read it, `identity-unusable`.
 */
export async function loadIdentity(file: string): Promise<Identity> {
  const status = await stat(file).catch((cause) => {
    throw new ParleyError('identity-missing', `cannot read the key '${file}': ${cause.code ?? cause.message}`, {
      hint: "Run 'parley init' for a new fleet or 'parley join TOKEN' to join one.",
      cause,
    });
  });
  if ((status.mode & 0o077) !== 0) {
    const mode = (status.mode & 0o777).toString(8).padStart(4, '0');
    throw new ParleyError('identity-exposed', `refusing the key '${file}': its mode is ${mode}, others can read it`, {
      hint: `Run 'chmod 600 ${file}' if nobody else has read it; otherwise remove this member and enrol the peer anew.`,
    });
  }
  try {
    const key = createPrivateKey(await readFile(file, 'utf8'));
    if (key.asymmetricKeyType !== 'ed25519') throw new Error(`it is a key of type ${key.asymmetricKeyType}`);
    return fromKey(key);
  } catch (cause) {
    throw new ParleyError('identity-unusable', `cannot use the key '${file}': ${(cause as Error).message}`, {
      hint: 'Restore the file from a backup, or remove this member and enrol the peer anew.',
      cause,
    });
  }
}

/** The identity of a 32-byte Ed25519 seed. */
export function identityFromSeed(seed: Uint8Array): Identity {
  return fromKey(createPrivateKey({ key: Buffer.concat([pkcs8Prefix, seed]), format: 'der', type: 'pkcs8' }));
}

/** True when `signature` is the peer's signature of `bytes`; false for anything else, also for what is no peer id. */
export function verifySignature(peer: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  try {
    return signature.byteLength === 64 && verify(null, bytes, publicKeyObject(peer), signature);
  } catch {
    return false;
  }
}

/** The peer id of a raw 32-byte Ed25519 public key. */
export function peerIdOfPublicKey(publicKey: Uint8Array): string {
  let number = BigInt(`0x${Buffer.concat([peerIdPrefix, publicKey]).toString('hex')}`);
  let text = '';
  for (; number > 0n; number /= 58n) text = base58Digits.charAt(Number(number % 58n)) + text;
  return `1${text}`;
}

/** The raw 32-byte Ed25519 public key in a peer id. @throws ParleyError `malformed`. */
export function publicKeyOfPeerId(peer: string): Uint8Array {
  let number = 0n;
  for (const digit of check(peerIdSchema, peer, 'peer id')) {
    number = number * 58n + BigInt(base58Digits.indexOf(digit));
  }
  const bytes = Buffer.from(number.toString(16).padStart(76, '0'), 'hex');
  if (bytes.byteLength !== 38 || !bytes.subarray(0, 6).equals(peerIdPrefix)) {
    throw new ParleyError('malformed', `'${peer}' is no Ed25519 peer id`);
  }
  return new Uint8Array(bytes.subarray(6));
}

/** Parsed public keys by peer id: certificates are checked often and parsing costs as much as a third of a check. */
const publicKeys = new Map<string, KeyObject>();

function publicKeyObject(peer: string): KeyObject {
  let key = publicKeys.get(peer);
  if (key === undefined) {
    const der = Buffer.concat([spkiPrefix, publicKeyOfPeerId(peer)]);
    key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    if (publicKeys.size >= membersMax) publicKeys.clear();
    publicKeys.set(peer, key);
  }
  return key;
}

function fromKey(key: KeyObject): Identity {
  const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(spkiPrefix.byteLength);
  const privateKey = new Uint8Array(key.export({ format: 'der', type: 'pkcs8' }).subarray(pkcs8Prefix.byteLength));
  return { peer: peerIdOfPublicKey(publicKey), privateKey, sign: (bytes) => new Uint8Array(sign(null, bytes, key)) };
}

async function writeSynced(file: string, text: string): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
