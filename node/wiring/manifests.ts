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
  /** Peers thought to have the whole closure: its builder, then those that run or ran it, then those that may keep it. */
  sources(hash: string): readonly Source[];
  /** Peers that may keep what a builder built, its neighbours first: nothing then crosses an uplink for it. */
  keepers(builder: string): readonly string[];
}

const mayKeep = ({ roles }: Member): boolean => roles.includes('voter') || roles.includes('builder');

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
      const rank = (member: Member): number => (isBuilder(member) ? 0 : has(member) ? 1 : mayKeep(member) ? 2 : 3);
      const ordered = Object.values(members)
        .filter((member) => member.peer !== self && rank(member) < 3)
        .sort((one, other) => rank(one) - rank(other));
      return ordered.map(({ peer, site }) => ({ peer, site }));
    },
    keepers(builder) {
      const { members } = state();
      const site = members[builder]?.site;
      const rank = (member: Member): number => (member.site === site ? 0 : 1);
      return Object.values(members)
        .filter((member) => member.peer !== builder && mayKeep(member))
        .sort((one, other) => rank(one) - rank(other) || (one.name < other.name ? -1 : 1))
        .map(({ peer }) => peer);
    },
  };
}
