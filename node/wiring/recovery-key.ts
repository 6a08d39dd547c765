// Owns the fleet's recovery key: the key pair that `init` writes for people to keep offline, and what it signs.

import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { ParleyError } from '../../protocols/errors.ts';
import { type GenerationRecord, generationStatement } from '../../protocols/generation.ts';

/**
 * The public half, as genesis holds it, of the key in a file; makes the key there first where there is none, whole or not at
 * all. One that is there stays: it may be the key that people have put away already.
 * @throws ParleyError `recovery-key-unusable`.
 */
export async function openRecoveryKey(file: string): Promise<string> {
  try {
    const key = createPrivateKey(await readFile(file, 'utf8'));
    if (key.asymmetricKeyType !== 'ed25519') throw new Error(`it is a key of type ${key.asymmetricKeyType}`);
    return publicText(createPublicKey(key));
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'ENOENT')) {
      throw new ParleyError('recovery-key-unusable', `cannot use the key '${file}': ${(cause as Error).message}`, {
        hint: 'Move the file away if it belongs to no fleet, and try again.',
        cause,
      });
    }
  }
  const { privatePem, publicKey } = createRecoveryKey();
  await writeFile(`${file}.new`, privatePem, { mode: 0o600, flush: true });
  await rename(`${file}.new`, file);
  return publicKey;
}

/** A new pair: the private half in PEM, the public half as genesis holds it. */
export function createRecoveryKey(): { readonly privatePem: string; readonly publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return {
    privatePem: String(privateKey.export({ type: 'pkcs8', format: 'pem' })),
    publicKey: publicText(publicKey),
  };
}

/** True when the fleet's recovery key has signed the record. */
export function isSignedByRecoveryKey(recoveryKey: string, record: GenerationRecord): boolean {
  if (record.signature === null) return false;
  try {
    const key = createPublicKey({ key: Buffer.from(recoveryKey, 'base64'), type: 'spki', format: 'der' });
    return verify(null, generationStatement(record), key, record.signature);
  } catch {
    return false;
  }
}

/**
 * Signs a record with the key in a PEM text.
 * @throws ParleyError `recovery-key-unusable`, or `recovery-key-wrong` for another fleet's.
 */
export function signRecord(
  pem: string,
  recoveryKey: string,
  record: Omit<GenerationRecord, 'signature'>,
): GenerationRecord {
  try {
    const signature = new Uint8Array(sign(null, generationStatement(record), createPrivateKey(pem)));
    const signed = { ...record, signature };
    if (isSignedByRecoveryKey(recoveryKey, signed)) return signed;
  } catch (cause) {
    throw new ParleyError('recovery-key-unusable', `this is no recovery key: ${(cause as Error).message}`, {
      hint: "Give the file 'recovery.key' that `parley init` wrote when the fleet was founded.",
      cause,
    });
  }
  throw new ParleyError('recovery-key-wrong', 'this is the recovery key of another fleet', {
    hint: 'Give the one that `parley init` wrote when this fleet was founded.',
  });
}

function publicText(key: KeyObject): string {
  return key.export({ type: 'spki', format: 'der' }).toString('base64');
}
