// Owns the check that a trusted builder signed a path of a manifest, made before a byte of it is fetched. Nix checks the
// same signature again when it takes the path into its store; this one keeps junk out of spools and off uplinks.

import { ParleyError } from '../../protocols/errors.ts';
import { type ManifestPath, verifyPath } from '../../protocols/manifest.ts';

/** Signatures checked between two turns of the event loop: about two milliseconds of work. */
const checksPerTurn = 16;

/**
 * Refuses a path that none of the Nix public keys (`name:base64`) signed.
 * @throws ParleyError `signature-untrusted`, naming path and key.
 */
export function checkSignature(path: ManifestPath, publicKeys: readonly string[]): void {
  if (publicKeys.some((publicKey) => verifyPath(path, publicKey))) return;
  const signer = path.signature.slice(0, path.signature.indexOf(':'));
  const names = publicKeys.map((publicKey) => publicKey.slice(0, publicKey.indexOf(':')));
  const why = names.includes(signer)
    ? `the signature by '${signer}' does not fit its hash, size and references`
    : `its signer '${signer}' is none of the builders in force (${names.join(', ') || 'there are none'})`;
  throw new ParleyError('signature-untrusted', `'${path.storePath}' is refused: ${why}`, {
    hint: 'Build it again on a builder of this fleet, or find out who changed the manifest.',
  });
}

/** Checks many paths without holding up the event loop. */
export async function checkSignatures(paths: readonly ManifestPath[], publicKeys: readonly string[]): Promise<void> {
  for (const [index, path] of paths.entries()) {
    checkSignature(path, publicKeys);
    if (index % checksPerTurn === checksPerTurn - 1) await new Promise((resolve) => setImmediate(resolve));
  }
}
