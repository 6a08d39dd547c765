// Owns the builder's own Nix signing key: an Ed25519 pair in Nix's text form, made here once and never sent anywhere. The
// name ends in digits of the key, so that a builder set up anew never shares a key's name with its former self.

import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { link, mkdir, open, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import { fingerprintOf, type ManifestPath } from '../../protocols/manifest.ts';

export interface BuilderKey {
  readonly name: string;
  /** `name:base64`, as Nix's trusted-public-keys takes it. */
  readonly publicKey: string;
  /** Signs Nix's fingerprint of a path; the signature has Nix's text form. */
  sign(entry: Omit<ManifestPath, 'signature'>): string;
}

/**
 * Reads the key from file; makes it, readable by its owner only, where the file does not exist.
 * @throws ParleyError `builder-key-damaged` when the file holds something else.
 */
export async function loadBuilderKey(file: string, ownerName: string): Promise<BuilderKey> {
  const existing = await readText(file);
  if (existing !== undefined) return parseKey(existing, file);
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  await writeOnce(file, generateKeyText(ownerName));
  return parseKey(await readFile(file, 'utf8'), file);
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The file appears whole or not at all; whoever comes second keeps the first one's key. */
async function writeOnce(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}.new`;
  await rm(temporary, { force: true });
  const handle = await open(temporary, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    await link(temporary, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Nix's secret key is `name:` and the base 64 of seed and public key, 64 bytes together. */
function generateKeyText(ownerName: string): string {
  const { privateKey } = generateKeyPairSync('ed25519');
  const { d = '', x = '' } = privateKey.export({ format: 'jwk' });
  const publicBytes = Buffer.from(x, 'base64url');
  const digits = createHash('sha256').update(publicBytes).digest('hex').slice(0, 8);
  const secret = Buffer.concat([Buffer.from(d, 'base64url'), publicBytes]);
  return `${ownerName.replace(/[^A-Za-z0-9._-]/g, '-')}-${digits}:${secret.toString('base64')}\n`;
}

function parseKey(text: string, file: string): BuilderKey {
  const [, name, encoded] = /^([A-Za-z0-9._-]{1,128}):([A-Za-z0-9+/]{86}==)\s*$/.exec(text) ?? [];
  if (name === undefined || encoded === undefined) {
    const hint =
      'Move the file away: a new key is made, and closures that are not deployed yet have to be built again.';
    throw new ParleyError('builder-key-damaged', `the builder's key file '${file}' holds no Nix signing key`, { hint });
  }
  const secret = Buffer.from(encoded, 'base64');
  const publicBytes = secret.subarray(32);
  const privateKey = privateKeyObject(secret.subarray(0, 32), publicBytes);
  return {
    name,
    publicKey: `${name}:${publicBytes.toString('base64')}`,
    sign: (entry) => `${name}:${sign(null, Buffer.from(fingerprintOf(entry)), privateKey).toString('base64')}`,
  };
}

function privateKeyObject(seed: Buffer, publicBytes: Buffer): KeyObject {
  const jwk = { kty: 'OKP', crv: 'Ed25519', d: seed.toString('base64url'), x: publicBytes.toString('base64url') };
  return createPrivateKey({ key: jwk, format: 'jwk' });
}
