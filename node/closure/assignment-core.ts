// Owns who brings what across a site's uplink: rendezvous hashing, so that peers that see the same neighbours choose the
// same one without talking, every unit has an order of takeover, and one death moves only what the dead peer had.
// Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998), with SHA-256 as the hash.

import { sha256Hex } from '../../protocols/codec.ts';

/**
 * The peers in the order in which they are in charge of a unit, first the assigned one. The order depends on the
 * unit and the set of peers only. A unit is any stable name: today a store path, later a batch of a manifest.
 */
export function takeoverOrder(unit: string, peers: Iterable<string>): string[] {
  return [...new Set(peers)]
    .map((peer) => ({ peer, weight: assignmentWeight(unit, peer) }))
    .sort((left, right) => (left.weight < right.weight ? 1 : left.weight > right.weight ? -1 : 0))
    .map(({ peer }) => peer);
}

/** The weight of a peer for a unit, as hex digits that compare as text; the greatest is in charge. */
export function assignmentWeight(unit: string, peer: string): string {
  return sha256Hex(`parley-assignment-1\n${unit}\n${peer}`);
}

/**
 * How long a peer may stay silent before the next one is tried: three times the longest pause seen on the stream between
 * bounds, so that a slow uplink is not taken for a dead one. A frame of 256 KiB takes four seconds at half a megabit; dead
 * connections are noticed by the mesh.
 */
export function stallTimeoutMs(longestPauseMs: number, isAcross: boolean): number {
  const leastMs = isAcross ? stallAcrossMinMs : stallTimeoutMinMs;
  return Math.min(stallTimeoutMaxMs, Math.max(leastMs, 3 * longestPauseMs));
}

/** From the measurements behind the design: below two seconds, garbage collection and busy cores look like death. */
export const stallTimeoutMinMs = 2_000;
const stallAcrossMinMs = 10_000;
const stallTimeoutMaxMs = 30_000;
