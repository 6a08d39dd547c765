import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFrameReader, encodeFrames, type Frame } from '../../node/mesh/framing-core.ts';
import { seededRandom } from './fixtures.ts';

const readAll = (bytes: Uint8Array, limit: number): Frame[] => [...createFrameReader(limit).read(bytes)];

test('createFrameReader() reads frames cut at any place', () => {
  const random = seededRandom('frames');
  for (let round = 0; round < 60; round++) {
    const frames: Frame[] = Array.from({ length: random.below(12) }, () => {
      const kind = random.below(4);
      if (kind === 0) return { type: 'grant', credit: random.below(2 ** 31 - 1) };
      if (kind === 1) return { type: 'end' };
      return { type: 'message', bytes: random.bytes(random.below(round % 5 === 0 ? 200_000 : 300)) };
    });
    const bytes = encodeFrames(frames);
    const reader = createFrameReader(200_000);
    const found: Frame[] = [];
    for (let offset = 0; offset < bytes.byteLength; ) {
      const end = Math.min(bytes.byteLength, offset + 1 + random.below(round % 3 === 0 ? 7 : 70_000));
      found.push(...reader.read(bytes.subarray(offset, end)));
      offset = end;
    }
    assert.deepEqual(found, frames, random.seedText);
  }
});

test('createFrameReader() refuses an oversized message at its header', () => {
  const header = new Uint8Array(4);
  new DataView(header.buffer).setUint32(0, 1001);
  assert.throws(() => readAll(header, 1000), { code: 'too-large' });
  assert.equal(readAll(encodeFrames([{ type: 'message', bytes: new Uint8Array(1000) }]), 1000).length, 1);
});

test('createFrameReader() survives random bytes', () => {
  const random = seededRandom('noise');
  for (let round = 0; round < 150; round++) {
    try {
      for (const frame of readAll(random.bytes(random.below(5000)), 4096)) {
        if (frame.type === 'message') assert.ok(frame.bytes.byteLength <= 4096, random.seedText);
      }
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'too-large', random.seedText);
    }
  }
});
