// Owns the multiplexer with its limits. yamux collects a whole frame before it looks at the stream's window, so a peer that
// announces a frame of 4 GiB would fill our memory; a guard reads the frame headers first and drops such a connection. And
// it answers each frame with a window update, which costs both sides as much as the frame: those are saved up.

import { yamux } from '@libp2p/yamux';
import { windowBytes } from './framing-core.ts';

/** Streams that one peer may have open towards us, negotiated or not: 16 for each of some 12 protocols. */
const inboundStreamsMax = 256;
/** Our own side has the limits of its callers. */
const outboundStreamsMax = 2048;
/** Grows from 256 KiB with the round-trip time; the credit of a message stream allows no more to be under way, frame headers aside. */
const streamWindowBytesMax = 2 * windowBytes;
/** What may arrive between the negotiation of a stream and our first listener: a full window of credit and its headers. */
const readBufferBytesMax = windowBytes + windowBytes / 4;
/**
 * Measures the round-trip time that windows grow by: once the connection is up, and seldom from then on. Liveness has its own,
 * faster beat, and on a thousand quiet connections these frames were a third of all.
 */
const keepAliveIntervalMs = 15 * 60_000;

/** Window updates leave together from here on: a quarter of the smallest window, so that a sender never runs dry for it. */
const windowUpdateBytesMin = 64 * 1024;

/** Version, type, flags (2 bytes), stream (4 bytes), length (4 bytes). */
const headerBytes = 12;
const dataFrameType = 0;
const windowUpdateType = 1;
const flagsOffset = 2;
const streamOffset = 4;
const lengthOffset = 8;

type Factory = ReturnType<ReturnType<typeof yamux>>;
type RawConnection = Parameters<Factory['createStreamMuxer']>[0];
type Muxer = ReturnType<Factory['createStreamMuxer']>;

/** The stream muxer for a libp2p host. */
export function boundedYamux(): () => Pick<Factory, 'protocol' | 'createStreamMuxer'> {
  return () => {
    const factory = yamux({
      maxInboundStreams: inboundStreamsMax,
      maxOutboundStreams: outboundStreamsMax,
      keepAliveInterval: keepAliveIntervalMs,
      streamOptions: { maxStreamWindowSize: streamWindowBytesMax, maxReadBufferLength: readBufferBytesMax },
    })();
    return {
      protocol: factory.protocol,
      createStreamMuxer(connection) {
        guardFrames(connection);
        saveWindowUpdates(connection, () => muxer.streams);
        const muxer = factory.createStreamMuxer(connection);
        return muxer;
      },
    };
  };
}

/** Holds window updates back until those of a stream are worth a frame. */
function saveWindowUpdates(connection: RawConnection, streams: () => Muxer['streams']): void {
  const savedBytes = new Map<number, number>();
  const send = connection.send.bind(connection);
  connection.send = (data) => {
    if (!(data instanceof Uint8Array) || data[1] !== windowUpdateType) return send(data);
    const view = new DataView(data.buffer, data.byteOffset, headerBytes);
    // Some open or end the stream.
    if (view.getUint16(flagsOffset) !== 0) return send(data);
    const stream = view.getUint32(streamOffset);
    const saved = (savedBytes.get(stream) ?? 0) + view.getUint32(lengthOffset);
    savedBytes.set(stream, saved);
    if (savedBytes.size > streams().length) forgetEnded(savedBytes, streams());
    if (saved < windowUpdateBytesMin) return true;
    savedBytes.delete(stream);
    view.setUint32(lengthOffset, saved);
    return send(data);
  };
}

function forgetEnded(savedBytes: Map<number, number>, streams: Muxer['streams']): void {
  const open = new Set(streams.map(({ streamId }) => streamId));
  for (const stream of savedBytes.keys()) if (!open.has(stream)) savedBytes.delete(stream);
}

function guardFrames(connection: RawConnection): void {
  const header = new Uint8Array(headerBytes);
  const view = new DataView(header.buffer);
  let headerFilled = 0;
  let bodyLeft = 0;

  function accepts(bytes: Uint8Array): boolean {
    let offset = 0;
    while (offset < bytes.byteLength) {
      if (bodyLeft > 0) {
        const skipped = Math.min(bodyLeft, bytes.byteLength - offset);
        bodyLeft -= skipped;
        offset += skipped;
        continue;
      }
      const taken = Math.min(headerBytes - headerFilled, bytes.byteLength - offset);
      header.set(bytes.subarray(offset, offset + taken), headerFilled);
      headerFilled += taken;
      offset += taken;
      if (headerFilled < headerBytes) break;
      headerFilled = 0;
      bodyLeft = header[1] === dataFrameType ? view.getUint32(lengthOffset) : 0;
      if (bodyLeft > streamWindowBytesMax) return false;
    }
    return true;
  }

  connection.addEventListener('message', ({ data }) => {
    for (const part of data instanceof Uint8Array ? [data] : data) {
      if (accepts(part)) continue;
      connection.abort(new Error(`a yamux frame of ${bodyLeft} bytes: the limit is ${streamWindowBytesMax}`));
      return;
    }
  });
}
