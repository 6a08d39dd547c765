// Owns the simulation's only source of chance: every draw of a run follows from its seed, and each part of the world draws
// from a stream of its own, so that a change in one part leaves the others' luck as it was.

export interface Chance {
  /** A whole number from 0 up to but not including `count`. */
  below(count: number): number;
  /** A number from `least` up to `most`. */
  between(least: number, most: number): number;
  happens(probability: number): boolean;
  /** @throws Error when there is nothing to pick from. */
  pick<T>(from: readonly T[]): T;
  bytes(count: number): Uint8Array;
  /** An independent stream that follows from this one's seed and a name. */
  fork(name: string): Chance;
}

/** A stream of numbers from one seed (mulberry32, public domain). */
export function createChance(seed: number): Chance {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    below: (count) => Math.floor(next() * count),
    between: (least, most) => least + next() * (most - least),
    happens: (probability) => next() < probability,
    pick(from) {
      const picked = from[Math.floor(next() * from.length)];
      if (picked === undefined) throw new Error('there is nothing to pick from');
      return picked;
    },
    bytes: (count) => Uint8Array.from({ length: count }, () => Math.floor(next() * 256)),
    fork: (name) => createChance(mix(seed, name)),
  };
}

/** FNV-1a over the name, started from the seed. */
export function mix(seed: number, text: string): number {
  let hash = (seed ^ 0x811c9dc5) >>> 0;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193) >>> 0;
  return hash;
}
