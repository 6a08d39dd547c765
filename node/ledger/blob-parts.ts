// Owns a blob's bytes on a stream: cutting into parts, putting together, and giving up on a side that stands still.

import { blobMessageBytesMax, blobPartBytes, blobPartSchema, blobStallMs } from '../../protocols/blob-exchange.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Clock, MessageStream } from '../interfaces.ts';
import { within } from '../waiting.ts';

/** Sends bytes as parts. @throws ParleyError `timed-out` when the other side takes none for long. */
export async function sendParts(stream: MessageStream, bytes: Uint8Array, clock: Pick<Clock, 'after'>): Promise<void> {
  for (let offset = 0; offset < bytes.byteLength; offset += blobPartBytes) {
    const part = encode({ kind: 'part', data: bytes.slice(offset, offset + blobPartBytes) });
    await stalled(clock, blobStallMs, stream.peer, (signal) => {
      signal.addEventListener('abort', () => stream.abort(signal.reason));
      return stream.send(part);
    });
  }
}

/** Reads exactly so many bytes. Memory is taken as they come. @throws ParleyError `malformed` or `timed-out`. */
export async function readParts(
  stream: MessageStream,
  bytes: number,
  clock: Pick<Clock, 'after'>,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let missing = bytes; missing > 0; ) {
    const message = await stalled(clock, blobStallMs, stream.peer, (signal) => stream.receive({ signal }));
    if (message === undefined) {
      throw new ParleyError('stream-closed', `a blob of ${bytes} bytes broke off ${missing} bytes before its end`, {
        retryable: true,
      });
    }
    const { data } = decode(blobPartSchema, message, blobMessageBytesMax, 'part of a blob');
    if (data.byteLength > missing)
      throw new ParleyError('malformed', `a blob is longer than the announced ${bytes} bytes`);
    parts.push(data);
    missing -= data.byteLength;
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** Runs one step of an exchange; its signal fires when it takes too long. */
export function stalled<T>(
  clock: Pick<Clock, 'after'>,
  delayMs: number,
  peer: string,
  step: (signal: AbortSignal) => Promise<T>,
  outer?: AbortSignal,
): Promise<T> {
  const text = `peer ${peer} stands still: nothing for ${delayMs} ms`;
  const late = (): ParleyError => new ParleyError('timed-out', text, { retryable: true });
  return within({ clock, limitMs: delayMs, late, outer }, step);
}
