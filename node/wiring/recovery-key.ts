// Owns the fleet's recovery key: the key pair that `init` writes for people to keep offline, and what it signs.

import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { ParleyError } from '../../protocols/errors.ts';
import { type GenerationRecord, generationStatement } from '../../protocols/generation.ts';

/** A new pair: the private half in PEM, the public half as genesis holds it. */
export function createRecoveryKey(): { readonly privatePem: string; readonly publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return {
    privatePem: String(privateKey.export({ type: 'pkcs8', format: 'pem' })),
    publicKey: publicKey.export({ type: 'spki', format: 'der' }).toString('base64'),
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
