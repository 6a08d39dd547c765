// The own encoder against dag-cbor's: the same bytes for whatever a record may hold, and the same refusals.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as dagCbor from '@ipld/dag-cbor';
import { encodeCbor } from '../../protocols/encoder.ts';
import { seededRandom } from '../helpers/random.ts';

const edges = [
  0,
  -0,
  1,
  -1,
  23,
  24,
  -24,
  -25,
  255,
  256,
  -256,
  -257,
  65_535,
  65_536,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40,
  -(2 ** 40),
  Number.MAX_SAFE_INTEGER,
  Number.MIN_SAFE_INTEGER,
  2 ** 53,
  2 ** 60,
  -(2 ** 63),
  0.5,
  -1.25,
  1e300,
  5e-324,
  '\ud800x\udc00',
];
const letters = ['a', 'B', '0', '-', ' ', '\0', '\x7f', '\x80', 'ß', 'é', '€', '漢', '😀'];

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function assertSame(given: unknown, what: string): void {
  assert.equal(hexOf(encodeCbor(given)), hexOf(dagCbor.encode(given)), what);
}

test('encodeCbor() gives the bytes of dag-cbor for random values', () => {
  const seed = Number(process.env.PARLEY_SEED ?? Date.now());
  const random = seededRandom(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  const text = (): string => {
    const from = below(3) === 0 ? letters.length : 4;
    return Array.from({ length: below(8) === 0 ? below(400) : below(12) }, () => letters[below(from)]).join('');
  };
  const value = (depth: number): unknown => {
    const kind = below(depth > 0 ? 8 : 6);
    if (kind === 0) return edges[below(edges.length)];
    if (kind === 1) return below(2 ** 31) * (below(2) === 0 ? 1 : -1);
    if (kind === 2) return text();
    if (kind === 3) return Uint8Array.from({ length: below(300) }, () => below(256));
    if (kind === 4) return [true, false, null][below(3)];
    if (kind === 5) return random() * 2 ** below(60);
    const size = below(30) === 0 ? below(300) : below(9);
    if (kind === 6) return Array.from({ length: size }, () => value(depth - 1));
    return Object.fromEntries(Array.from({ length: size }, () => [text(), value(depth - 1)]));
  };
  for (let turn = 0; turn < 600; turn += 1) {
    const given = value(4);
    assertSame(given, `PARLEY_SEED=${seed}, turn ${turn}`);
  }
});

test('encodeCbor() gives the bytes of dag-cbor at the edges of each length', () => {
  for (const length of [0, 1, 23, 24, 79, 80, 81, 255, 256, 65_535, 65_536, 70_000, 200_000]) {
    for (const given of ['x'.repeat(length), 'é'.repeat(length), new Uint8Array(length), new Array(length).fill(1)]) {
      assertSame([given, edges], `${typeof given} of ${length}`);
    }
  }
});

test('encodeCbor() leaves undefined fields out', () => {
  assert.deepEqual(encodeCbor({ b: undefined, a: [{ c: undefined }] }), encodeCbor({ a: [{}] }));
});

test('encodeCbor() refuses what no record holds, and goes on', () => {
  const before = encodeCbor({ text: 'kept' });
  for (const given of [undefined, [undefined], Number.NaN, Number.POSITIVE_INFINITY, 1n, Symbol('x'), () => 1]) {
    assert.throws(() => encodeCbor({ large: new Uint8Array(100_000), given: [given] }), TypeError);
  }
  assert.deepEqual(encodeCbor({ text: 'kept' }), before);
  assert.deepEqual(before, Uint8Array.from(dagCbor.encode({ text: 'kept' })), 'what was given out stays as it was');
});
