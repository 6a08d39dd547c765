// Owns the bytes of a message stream: frames with a 32-bit big-endian header, either a message (top bit clear, then its
// length), a grant of credit (top bit set, then the amount) or the sender's last word (all bits set). Pure: bytes in, frames out.

import { ParleyError } from '../../protocols/errors.ts';
import { streamCreditBytes } from '../../protocols/limits.ts';

const headerBytes = 4;
const grantBit = 0x80000000;
const endWord = 0xffffffff;
/** A message is read into a buffer that grows with what has come, so that a header alone reserves no more than this. */
const firstBufferBytes = 64 * 1024;
/** Credit that the smallest message costs: bounds how many empty messages wait at the receiver. */
const messageCostMin = 64;

/** A sender may have this much unread at the receiver. Messages of a protocol must fit into three quarters of it (see grantThresholdBytes). */
export const windowBytes = streamCreditBytes;
/** Consumed credit is returned in portions of this size: the sender always has at least the rest of the window. */
export const grantThresholdBytes = windowBytes / 4;

export type Frame =
  | { readonly type: 'message'; readonly bytes: Uint8Array }
  | { readonly type: 'grant'; readonly credit: number }
  /** No more messages follow; grants still do, since the other direction may go on. */
  | { readonly type: 'end' };

/** Credit that a message of this length takes until the receiver has consumed it. */
export function messageCost(lengthBytes: number): number {
  return Math.max(lengthBytes, messageCostMin);
}

/** Encodes a run of frames as one piece of bytes. */
export function encodeFrames(frames: readonly Frame[]): Uint8Array {
  let total = 0;
  for (const frame of frames) total += headerBytes + (frame.type === 'message' ? frame.bytes.byteLength : 0);
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  let offset = 0;
  for (const frame of frames) {
    view.setUint32(offset, headerWord(frame));
    offset += headerBytes;
    if (frame.type !== 'message') continue;
    bytes.set(frame.bytes, offset);
    offset += frame.bytes.byteLength;
  }
  return bytes;
}

function headerWord(frame: Frame): number {
  if (frame.type === 'message') return frame.bytes.byteLength;
  return frame.type === 'grant' ? grantBit + frame.credit : endWord;
}

export interface FrameReader {
  /** Takes the next bytes and yields the frames that they complete. @throws ParleyError `too-large` at the header of a message over the limit. */
  read(bytes: Uint8Array): Generator<Frame>;
}

/** Reads one direction of a stream whose messages may have up to messageBytesMax bytes. */
export function createFrameReader(messageBytesMax: number): FrameReader {
  const header = new Uint8Array(headerBytes);
  const headerView = new DataView(header.buffer);
  let headerFilled = 0;
  let body: Uint8Array | undefined;
  let bodyFilled = 0;
  let bodyLength = 0;

  function* read(bytes: Uint8Array): Generator<Frame> {
    let offset = 0;
    while (offset < bytes.byteLength) {
      if (body === undefined) {
        const take = Math.min(headerBytes - headerFilled, bytes.byteLength - offset);
        header.set(bytes.subarray(offset, offset + take), headerFilled);
        headerFilled += take;
        offset += take;
        if (headerFilled < headerBytes) return;
        headerFilled = 0;
        const word = headerView.getUint32(0);
        if (word >= grantBit) {
          yield word === endWord ? { type: 'end' } : { type: 'grant', credit: word - grantBit };
          continue;
        }
        startBody(word);
      } else {
        const take = Math.min(bodyLength - bodyFilled, bytes.byteLength - offset);
        append(body, bytes.subarray(offset, offset + take));
        offset += take;
      }
      if (body !== undefined && bodyFilled === bodyLength) {
        const message = body;
        body = undefined;
        yield { type: 'message', bytes: message };
      }
    }
  }

  function startBody(lengthBytes: number): void {
    if (lengthBytes > messageBytesMax) {
      throw new ParleyError('too-large', `a message of ${lengthBytes} bytes: the limit is ${messageBytesMax}`);
    }
    bodyLength = lengthBytes;
    bodyFilled = 0;
    body = new Uint8Array(Math.min(lengthBytes, firstBufferBytes));
  }

  function append(buffer: Uint8Array, part: Uint8Array): void {
    const needed = bodyFilled + part.byteLength;
    if (needed > buffer.byteLength) {
      body = new Uint8Array(Math.min(bodyLength, Math.max(needed, 2 * buffer.byteLength)));
      body.set(buffer.subarray(0, bodyFilled));
      body.set(part, bodyFilled);
    } else {
      buffer.set(part, bodyFilled);
    }
    bodyFilled = needed;
  }

  return { read };
}
