// Owns what the ledger knows of closures, as the swarm asks it: a manifest by its hash, and who has what it lists.

import { decode } from '../../protocols/codec.ts';
import type { LedgerState, Member } from '../../protocols/ledger-state.ts';
import { type Manifest, manifestBytesMax, manifestSchema } from '../../protocols/manifest.ts';
import type { Source } from '../closure/index.ts';

/** Manifests kept in memory: those of the closures that move now. */
const rememberedMax = 8;

export interface Manifests {
  /** The manifest of this hash; undefined when no reachable peer has it. */
  load(hash: string): Promise<Manifest | undefined>;
  /** Peers thought to have the whole closure: its builder, then those that run or ran it. */
  sources(hash: string): readonly Source[];
}

export function createManifests(components: {
  readonly self: string;
  readonly state: () => LedgerState;
  readonly fetchBlob: (hash: string, options: { readonly signal: AbortSignal }) => Promise<Uint8Array>;
}): Manifests {
  const { self, state, fetchBlob } = components;
  const loaded = new Map<string, Manifest>();
  return {
    async load(hash) {
      const known = loaded.get(hash);
      if (known) return known;
      const bytes = await fetchBlob(hash, { signal: AbortSignal.timeout(30_000) }).catch(() => undefined);
      if (!bytes) return undefined;
      const manifest = decode(manifestSchema, bytes, manifestBytesMax, `manifest '${hash}'`);
      for (const oldest of [...loaded.keys()].slice(0, Math.max(0, loaded.size - rememberedMax + 1)))
        loaded.delete(oldest);
      loaded.set(hash, manifest);
      return manifest;
    },
    sources(hash) {
      const { members, devices } = state();
      const key = loaded.get(hash)?.key;
      const isBuilder = (member: Member): boolean => member.builderKey?.startsWith(`${key}:`) ?? false;
      const has = (member: Member): boolean =>
        devices[member.name]?.ran.some(({ manifest }) => manifest === hash) ?? false;
      const others = Object.values(members).filter(({ peer }) => peer !== self);
      const ordered = [...others.filter(isBuilder), ...others.filter((member) => !isBuilder(member) && has(member))];
      return ordered.map(({ peer, site }) => ({ peer, site }));
    },
  };
}
