// Owns what this peer can hand out of its Nix store: asks Nix about a whole manifest at once and remembers the answer for
// a moment, since each question is a process. A path that has gone since is noticed when it is read.

import type { Clock } from '../interfaces.ts';
import type { Manifests } from './manifests.ts';

const rememberedMs = 30_000;
const rememberedMax = 16;

/** What the room needs of Nix; the host room has it. */
export interface ClosureNix {
  /** Where a store path's files are on this machine; differs from the path itself with a diverted store. */
  physicalPath(storePath: string): string;
  /** Those of the paths that are not valid in the store. */
  missingPaths(storePaths: readonly string[]): Promise<readonly string[]>;
  /** Makes a path and its closure valid from a binary cache, signatures checked, and roots it. */
  realise(storePath: string, options: RealiseOptions): Promise<void>;
}

export interface RealiseOptions {
  /** URL of the only substituter to use. */
  readonly substituter: string;
  /** Nix public keys (`name:base64`), one of which must have signed every path. */
  readonly trustedPublicKeys: readonly string[];
  /** Where the garbage-collector root is put. */
  readonly root: string;
  readonly signal: AbortSignal;
}

export interface Holdings {
  /** Ordinals of a manifest's paths that are valid in the store. */
  inStore(manifestHash: string, options?: { readonly fresh: boolean }): Promise<ReadonlySet<number>>;
  /** A path turned out to be gone. */
  forget(manifestHash: string, ordinal: number): void;
  /** The store changed. */
  clear(): void;
}

export function createHoldings(components: {
  readonly nix: Pick<ClosureNix, 'missingPaths'>;
  readonly manifests: Manifests;
  readonly clock: Pick<Clock, 'monotonicMs'>;
}): Holdings {
  const { nix, manifests, clock } = components;
  const remembered = new Map<string, { readonly atMs: number; readonly ordinals: Promise<Set<number>> }>();

  async function ask(manifestHash: string): Promise<Set<number>> {
    const { paths } = await manifests.get(manifestHash);
    const missing = new Set(await nix.missingPaths(paths.map((path) => path.storePath)));
    return new Set([...paths.keys()].filter((ordinal) => !missing.has(paths[ordinal]?.storePath ?? '')));
  }

  return {
    async inStore(manifestHash, options) {
      const known = remembered.get(manifestHash);
      if (known !== undefined && options?.fresh !== true && clock.monotonicMs() - known.atMs < rememberedMs) {
        return known.ordinals;
      }
      const ordinals = ask(manifestHash);
      remembered.delete(manifestHash);
      remembered.set(manifestHash, { atMs: clock.monotonicMs(), ordinals });
      ordinals.catch(() => remembered.delete(manifestHash));
      for (const oldest of remembered.keys()) {
        if (remembered.size <= rememberedMax) break;
        remembered.delete(oldest);
      }
      return ordinals;
    },

    forget(manifestHash, ordinal) {
      remembered
        .get(manifestHash)
        ?.ordinals.then((ordinals) => ordinals.delete(ordinal))
        .catch(() => {});
    },

    clear: () => remembered.clear(),
  };
}
