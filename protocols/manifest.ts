// Owns the manifest: the signed list of the store paths that one closure consists of. It is a blob whose hash orders name,
// because a store path alone does not bind content. Version 1 lists whole paths; chunks and patches come with a later one.

import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import * as v from 'valibot';
import { blobBytesMax } from './limits.ts';
import { countSchema, storePathSchema } from './primitives.ts';

export const manifestVersion = 1;
/** A NixOS system with a desktop has about 5,000 paths; this leaves room for the largest and bounds tables by path. */
export const manifestPathsMax = 50_000;
/** References of one path: nixpkgs' largest trees of links stay below this. */
export const manifestReferencesMax = 20_000;
/** A manifest is kept as one blob. */
export const manifestBytesMax = blobBytesMax;

/** `sha256:` and 52 digits of Nix's base 32. */
export const narHashSchema = v.pipe(v.string(), v.regex(/^sha256:[0-9a-df-np-sv-z]{52}$/, 'expected sha256:<nix32>'));
/** A key's name as Nix allows it in keys and signatures. */
export const nixKeyNameSchema = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9._-]{1,128}$/, 'expected the name of a Nix key'),
);
/** `name:base64` of the 64 bytes of an Ed25519 signature over the path's fingerprint. */
export const nixSignatureSchema = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9._-]{1,128}:[A-Za-z0-9+/]{86}==$/, 'expected a Nix signature'),
);

export const manifestPathSchema = v.object({
  storePath: storePathSchema,
  narHash: narHashSchema,
  /** Bytes of the uncompressed NAR. */
  narSize: v.pipe(countSchema, v.minValue(1)),
  /** Full paths in ascending order; the path itself may be among them. */
  references: v.pipe(
    v.array(storePathSchema),
    v.maxLength(manifestReferencesMax),
    v.check((references) => isAscending(references), 'expected ascending references'),
  ),
  /** For people only: not covered by the signature. */
  deriver: v.optional(storePathSchema),
  signature: nixSignatureSchema,
});
export type ManifestPath = v.InferOutput<typeof manifestPathSchema>;

export const manifestSchema = v.pipe(
  v.object({
    version: v.literal(manifestVersion),
    /** The store path that the manifest is about, usually a host's toplevel. */
    root: storePathSchema,
    /** Name of the builder's key that signed every path. */
    key: nixKeyNameSchema,
    /** The whole closure in ascending order of store paths; a path's place is its ordinal in the swarm's messages. */
    paths: v.pipe(v.array(manifestPathSchema), v.minLength(1), v.maxLength(manifestPathsMax)),
  }),
  v.check((manifest) => isAscending(manifest.paths.map((entry) => entry.storePath)), 'expected ascending paths'),
  v.check((manifest) => isClosed(manifest), 'expected the root and every reference to be among the paths'),
);
export type Manifest = v.InferOutput<typeof manifestSchema>;

/** What Nix signs: `1;path;narHash;narSize;references`, the last joined by commas. */
export function fingerprintOf(entry: Pick<ManifestPath, 'storePath' | 'narHash' | 'narSize' | 'references'>): string {
  return `1;${entry.storePath};${entry.narHash};${entry.narSize};${entry.references.join(',')}`;
}

/** True when publicKey (`name:base64`) made the entry's signature, its name included. */
export function verifyPath(entry: ManifestPath, publicKey: string): boolean {
  const [keyName, keyBytes] = splitNamed(publicKey);
  const [signer, signature] = splitNamed(entry.signature);
  if (keyName !== signer || keyBytes.byteLength !== 32 || signature.byteLength !== 64) return false;
  return verify(null, Buffer.from(fingerprintOf(entry)), publicKeyObject(keyBytes), signature);
}

/** The first path of a manifest that publicKey did not sign, or undefined when it signed all. */
export function firstUnsigned(manifest: Manifest, publicKey: string): string | undefined {
  return manifest.paths.find((entry) => !verifyPath(entry, publicKey))?.storePath;
}

/** Sum of the NAR bytes of all paths. */
export function narBytesOf(manifest: Manifest): number {
  return manifest.paths.reduce((sum, entry) => sum + entry.narSize, 0);
}

function splitNamed(text: string): [name: string, bytes: Buffer] {
  const colon = text.indexOf(':');
  return [text.slice(0, Math.max(0, colon)), Buffer.from(text.slice(colon + 1), 'base64')];
}

function publicKeyObject(bytes: Buffer): KeyObject {
  return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: bytes.toString('base64url') }, format: 'jwk' });
}

function isAscending(texts: readonly string[]): boolean {
  return texts.every((text, index) => index === 0 || (texts[index - 1] ?? '') < text);
}

function isClosed(manifest: { readonly root: string; readonly paths: readonly ManifestPath[] }): boolean {
  const known = new Set(manifest.paths.map((entry) => entry.storePath));
  if (!known.has(manifest.root)) return false;
  return manifest.paths.every((entry) => entry.references.every((reference) => known.has(reference)));
}
