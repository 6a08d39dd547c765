// Owns the check that a trusted builder signed a path of a manifest, made before a byte of it is fetched. Nix checks the
// same signature again when it takes the path into its store; this one keeps junk out of spools and off uplinks.

import { ParleyError } from '../../protocols/errors.ts';
import { type ManifestPath, verifyPath } from '../../protocols/manifest.ts';

/** Signatures checked between two turns of the event loop: about two milliseconds of work. */
const checksPerTurn = 16;

export interface SignatureChecks {
  /**
   * Refuses a path that none of the builders in force signed.
   * @throws ParleyError `signature-untrusted`, naming path and key.
   */
  check(path: ManifestPath): void;
  /** Checks many paths without holding up the event loop. */
  checkAll(paths: readonly ManifestPath[]): Promise<void>;
}

/** Checks against Nix public keys (`name:base64`) as they are at each call; a path is computed once for the same keys. */
export function createSignatureChecks(builderKeys: () => readonly string[]): SignatureChecks {
  const checked = new WeakMap<ManifestPath, string>();

  function check(path: ManifestPath): void {
    const publicKeys = builderKeys();
    const inForce = publicKeys.join(' ');
    if (checked.get(path) === inForce) return;
    if (!publicKeys.some((publicKey) => verifyPath(path, publicKey))) throw untrusted(path, publicKeys);
    checked.set(path, inForce);
  }

  return {
    check,
    async checkAll(paths) {
      for (const [index, path] of paths.entries()) {
        check(path);
        if (index % checksPerTurn === checksPerTurn - 1) await new Promise((resolve) => setImmediate(resolve));
      }
    },
  };
}

function untrusted(path: ManifestPath, publicKeys: readonly string[]): ParleyError {
  const signer = path.signature.slice(0, path.signature.indexOf(':'));
  const names = publicKeys.map((publicKey) => publicKey.slice(0, publicKey.indexOf(':')));
  const why = names.includes(signer)
    ? `the signature by '${signer}' does not fit its hash, size and references`
    : `its signer '${signer}' is none of the builders in force (${names.join(', ') || 'there are none'})`;
  return new ParleyError('signature-untrusted', `'${path.storePath}' is refused: ${why}`, {
    hint: 'Build it again on a builder of this fleet, or find out who changed the manifest.',
  });
}
