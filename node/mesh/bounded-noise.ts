// Owns the encrypter with its limits. A handshake costs milliseconds of CPU, so that a hundred at once hold the event loop for
// as long as an election takes: they are made a few at a time, in the order in which they came. Small messages, too, cost more
// than they must: libp2p finds the end of what it has read by an error with its stack (here the error is made once), and hands
// over a piece and its length by themselves, a system call and a packet each (here they leave together).

import { noise } from '@libp2p/noise';

/** Handshakes of inbound connections under way at once: together they hold the event loop for less than a heartbeat may wait. */
const handshakesMax = 8;
/** Far peers wait for the network, not for us, and silent ones for nothing: after this time the next one begins all the same. */
const handshakeTurnMs = 250;

const lengthBytes = 2;
/** What is larger consists of several pieces: as one it would be too large a message for a WebSocket, and copied for nothing. */
const joinedBytesMax = 64 * 1024;
const noLengthYet = new RangeError('the length of the next piece is not here yet');

type Factory = ReturnType<ReturnType<typeof noise>>;
type Encrypter = ReturnType<typeof noise>;
type Raw = Parameters<Factory['secureInbound']>[0];
type Secured = Awaited<ReturnType<Factory['secureInbound']>>;

/** What we touch of the encrypted stream inside libp2p. */
interface LengthDecoding {
  readonly decoder: { lengthDecoder: (bytes: PrefixedBytes) => number };
}

type PrefixedBytes = Uint8Array | { readonly byteLength: number; getUint16(offset: number): number };

/** The encrypter for a libp2p host. */
export function boundedNoise(): Encrypter {
  return (components) => {
    const encrypter = noise()(components);
    const { secureInbound, secureOutbound } = encrypter;
    const turns = createTurns(handshakesMax, handshakeTurnMs);
    encrypter.secureInbound = async (connection, options) => {
      const done = await turns.next(options?.signal);
      try {
        if (connection.status !== 'open') throw new Error('it hung up before its handshake began');
        return quick(await secureInbound.call(encrypter, connection, options), connection);
      } finally {
        done();
      }
    };
    encrypter.secureOutbound = async (connection, options) =>
      quick(await secureOutbound.call(encrypter, connection, options), connection);
    return encrypter;
  };
}

export interface Turns {
  /** Resolves when it is the caller's turn, with the function that ends it. Rejects when the signal aborts before. */
  next(signal?: AbortSignal): Promise<() => void>;
}

/** Lets callers go on in the order in which they came, so many at a time; who takes longer than `turnMs` does not hold up the next. */
export function createTurns(together: number, turnMs: number): Turns {
  const waiting = new Set<() => void>();
  let running = 0;

  function begin(): () => void {
    running += 1;
    let isOver = false;
    const end = (): void => {
      if (isOver) return;
      isOver = true;
      running -= 1;
      const [first] = waiting;
      if (first === undefined) return;
      waiting.delete(first);
      first();
    };
    AbortSignal.timeout(turnMs).addEventListener('abort', end, { once: true });
    return end;
  }

  return {
    async next(signal) {
      signal?.throwIfAborted();
      if (running < together) return begin();
      const { promise, resolve, reject } = Promise.withResolvers<() => void>();
      const go = (): void => resolve(begin());
      const onAbort = (): void => {
        waiting.delete(go);
        reject(signal?.reason);
      };
      waiting.add(go);
      signal?.addEventListener('abort', onAbort, { once: true });
      return promise.finally(() => signal?.removeEventListener('abort', onAbort));
    },
  };
}

function quick(secured: Secured, raw: Raw): Secured {
  const { connection } = secured;
  // Where another release of libp2p does it in another way, all works and costs more.
  if (hasLengthDecoder(connection)) connection.decoder.lengthDecoder = lengthOf;
  const send = raw.send.bind(raw);
  raw.send = (data) => send(data.byteLength > joinedBytesMax ? data : data.subarray());
  return secured;
}

/** @throws RangeError while there are too few bytes, as libp2p's decoder expects it. */
function lengthOf(bytes: PrefixedBytes): number {
  if (bytes.byteLength < lengthBytes) throw noLengthYet;
  return bytes instanceof Uint8Array ? ((bytes[0] ?? 0) << 8) + (bytes[1] ?? 0) : bytes.getUint16(0);
}

function hasLengthDecoder(connection: object): connection is LengthDecoding {
  if (!('decoder' in connection)) return false;
  const { decoder } = connection;
  return typeof decoder === 'object' && decoder !== null && 'lengthDecoder' in decoder;
}
