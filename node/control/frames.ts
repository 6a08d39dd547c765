// Owns the frames of the local socket: four bytes of length (big-endian), then that many bytes of CBOR. Shared by the
// server and the client, so that both hold the same limits.

import { ParleyError } from '../../protocols/errors.ts';

const headerBytes = 4;

/** One frame, header included. */
export function encodeFrame(body: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(headerBytes + body.byteLength);
  frame.writeUInt32BE(body.byteLength, 0);
  frame.set(body, headerBytes);
  return frame;
}

export interface FrameSplitter {
  /**
   * Takes the next bytes and returns the bodies of the frames that are complete now.
   * @throws ParleyError `too-large` as soon as a header announces more than the limit, `malformed` for an empty frame.
   */
  push(chunk: Uint8Array): Uint8Array[];
  /** True while a frame has begun and its end is still missing. */
  partial(): boolean;
}

/** Cuts a byte stream into frames of at most `bodyBytesMax`; keeps no more than one unfinished frame. */
export function createFrameSplitter(bodyBytesMax: number, what: string): FrameSplitter {
  const chunks: Uint8Array[] = [];
  let buffered = 0;
  let bodyBytes: number | undefined;

  function take(count: number): Buffer {
    const joined = chunks.length === 1 ? Buffer.from(chunks[0] ?? []) : Buffer.concat(chunks, buffered);
    chunks.length = 0;
    buffered = joined.byteLength - count;
    if (buffered > 0) chunks.push(joined.subarray(count));
    return joined.subarray(0, count);
  }

  function readHeader(): number | undefined {
    if (buffered < headerBytes) return undefined;
    const length = take(headerBytes).readUInt32BE(0);
    if (length === 0) throw new ParleyError('malformed', `${what} is empty: a frame holds at least one byte`);
    if (length > bodyBytesMax) {
      throw new ParleyError('too-large', `${what} announces ${length} bytes: the limit is ${bodyBytesMax}`);
    }
    return length;
  }

  return {
    push(chunk) {
      if (chunk.byteLength > 0) chunks.push(chunk);
      buffered += chunk.byteLength;
      const bodies: Uint8Array[] = [];
      for (;;) {
        bodyBytes ??= readHeader();
        if (bodyBytes === undefined || buffered < bodyBytes) return bodies;
        bodies.push(take(bodyBytes));
        bodyBytes = undefined;
      }
    },
    partial: () => buffered > 0 || bodyBytes !== undefined,
  };
}
