// Owns the few decoded manifests in use: the largest has 50,000 paths, too much to decode for every request.

import { ParleyError } from '../../protocols/errors.ts';
import type { Manifest } from '../../protocols/manifest.ts';

/** Current, previous and next closure of a few hosts; a decoded manifest of a large closure takes some 20 MB. */
const manifestsMax = 8;
const lookUpsMax = 64;

export interface Manifests {
  /** @throws ParleyError `manifest-unknown` (retryable) when nobody has it, `busy`. */
  get(hash: string): Promise<Manifest>;
}

export function createManifests(load: (hash: string) => Promise<Manifest | undefined>): Manifests {
  const known = new Map<string, Manifest>();
  const loading = new Map<string, Promise<Manifest>>();

  async function look(hash: string): Promise<Manifest> {
    const manifest = await load(hash);
    if (manifest === undefined) {
      throw new ParleyError('manifest-unknown', `no manifest '${hash}': this peer does not have it`, {
        retryable: true,
      });
    }
    return manifest;
  }

  function begin(hash: string): Promise<Manifest> {
    if (loading.size >= lookUpsMax) {
      throw new ParleyError('busy', `manifest '${hash}' must wait: ${loading.size} others are looked up`, {
        retryable: true,
      });
    }
    const pending = look(hash).finally(() => loading.delete(hash));
    loading.set(hash, pending);
    return pending;
  }

  return {
    async get(hash) {
      const manifest = known.get(hash) ?? (await (loading.get(hash) ?? begin(hash)));
      known.delete(hash);
      known.set(hash, manifest);
      for (const oldest of known.keys()) {
        if (known.size <= manifestsMax) break;
        known.delete(oldest);
      }
      return manifest;
    },
  };
}
