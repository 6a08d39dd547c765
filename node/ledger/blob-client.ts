// Owns getting blobs from other peers and bringing them to a majority of the voters. Every blob is checked against its
// hash before it counts.

import { blobAnswerSchema, blobMessageBytesMax, blobProtocol, blobStallMs } from '../../protocols/blob-exchange.ts';
import { isPeerMajority } from '../../protocols/certificate.ts';
import { decode, encode, sha256Hex } from '../../protocols/codec.ts';
import { fromErrorRecord, ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { BlobStore, Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';
import { pause } from '../waiting.ts';
import { readParts, sendParts, stalled } from './blob-parts.ts';
import { voterPeers } from './member-views.ts';

/** Between two rounds over voters that could not take a blob. */
const retryMs = 500;
/** Blobs fetched at once; more wait their turn. */
const fetchesMax = 8;
/** Voters that a blob is brought to at once: more would only share the same uplink. */
const putsMax = 3;

export interface BlobClientComponents {
  readonly self: string;
  readonly mesh: Pick<Mesh, 'open' | 'connectedPeers'>;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly state: () => LedgerState;
}

/** A blob on its way to a majority of the voters. */
interface Replication {
  readonly hash: string;
  readonly bytes: Uint8Array;
  /** Peers that have it. */
  readonly having: Set<string>;
  /** Voters that take none from this peer. */
  readonly refusals: Map<string, ParleyError>;
}

export interface BlobClient {
  fetchBlob(
    hash: string,
    options: { readonly signal: AbortSignal; readonly peers?: readonly string[] },
  ): Promise<Uint8Array>;
  replicateBlob(hash: string, options: { readonly signal: AbortSignal }): Promise<void>;
}

export function createBlobClient({ self, mesh, blobs, clock, logger, state }: BlobClientComponents): BlobClient {
  let fetching = 0;
  const waiting: (() => void)[] = [];

  async function inTurn<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    if (fetching < fetchesMax) fetching += 1;
    else await nextTurn(signal);
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) fetching -= 1;
      else next();
    }
  }

  /** Resolves once one that fetches has ended and hands its turn on. */
  function nextTurn(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const begin = (): void => {
      signal.removeEventListener('abort', leave);
      resolve();
    };
    const leave = (): void => {
      waiting.splice(waiting.indexOf(begin), 1);
      reject(signal.reason);
    };
    signal.addEventListener('abort', leave, { once: true });
    waiting.push(begin);
    return promise;
  }

  /** Voters first, since they have all; then whoever else is connected. */
  function holders(): string[] {
    const connected = mesh.connectedPeers().map(({ peer }) => peer);
    const voters = voterPeers(state());
    const near = voters.filter((peer) => connected.includes(peer));
    return [...new Set([...near, ...voters, ...connected.filter((peer) => Object.hasOwn(state().members, peer))])];
  }

  async function fetchFrom(peer: string, hash: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    return withStream(peer, signal, async (stream) => {
      await stream.send(encode({ version: 1, kind: 'get', hash }));
      const answer = await receive(stream);
      if (answer.kind === 'absent') return undefined;
      if (answer.kind !== 'found') throw unexpected(peer, answer.kind);
      const bytes = await readParts(stream, answer.bytes, clock);
      if (sha256Hex(bytes) === hash) return bytes;
      throw new ParleyError('malformed', `peer ${peer} sent something else than blob '${hash}'`);
    });
  }

  async function putTo(peer: string, hash: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    await withStream(peer, signal, async (stream) => {
      await stream.send(encode({ version: 1, kind: 'put', hash, bytes: bytes.byteLength }));
      const answer = await receive(stream);
      if (answer.kind === 'stored') return;
      if (answer.kind !== 'wanted') throw unexpected(peer, answer.kind);
      await sendParts(stream, bytes, clock);
      const end = await receive(stream);
      if (end.kind !== 'stored') throw unexpected(peer, end.kind);
    });
  }

  async function withStream<T>(
    peer: string,
    signal: AbortSignal,
    work: (stream: MessageStream) => Promise<T>,
  ): Promise<T> {
    const stream = await stalled(
      clock,
      blobStallMs,
      peer,
      (limited) => mesh.open(peer, blobProtocol, { signal: limited }),
      signal,
    );
    const abort = (): void => stream.abort(new Error('no longer wanted'));
    signal.addEventListener('abort', abort, { once: true });
    try {
      const result = await work(stream);
      await stream.close();
      return result;
    } catch (error) {
      stream.abort(new Error('the exchange failed'));
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  async function receive(stream: MessageStream) {
    const bytes = await stalled(clock, blobStallMs, stream.peer, (signal) => stream.receive({ signal }));
    const answer = decode(blobAnswerSchema, bytes ?? new Uint8Array(0), blobMessageBytesMax, 'answer about a blob');
    if (answer.kind === 'refused') throw fromErrorRecord(answer.error);
    return answer;
  }

  async function fetchRemote(hash: string, peers: readonly string[], signal: AbortSignal): Promise<Uint8Array> {
    let last: unknown;
    for (const peer of peers) {
      if (peer === self) continue;
      try {
        const bytes = await fetchFrom(peer, hash, signal);
        if (bytes === undefined) continue;
        await blobs.put(bytes);
        return bytes;
      } catch (error) {
        signal.throwIfAborted();
        last = error;
        logger.info({ peer, hash, error: String(error) }, 'a peer could not give a blob');
      }
    }
    const text = `no peer that was asked could give blob '${hash.slice(0, 8)}': ${peers.length} were asked`;
    throw new ParleyError('blob-unavailable', text, { retryable: true, cause: last });
  }

  async function replicateBlob(hash: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const bytes = await blobs.get(hash);
    if (bytes === undefined)
      throw new ParleyError('blob-unavailable', `blob '${hash.slice(0, 8)}' is not on this peer`);
    const having = new Set([self]);
    const refusals = new Map<string, ParleyError>();
    while (!isPeerMajority(state().voterSet, having)) {
      signal.throwIfAborted();
      const lacking = voterPeers(state()).filter((peer) => !having.has(peer));
      refusals.clear();
      await bringTo(lacking, { hash, bytes, having, refusals }, signal);
      if (isPeerMajority(state().voterSet, having)) return;
      const [refusal] = refusals.values();
      if (refusal !== undefined && isPeerMajority(state().voterSet, new Set(refusals.keys()))) throw refusal;
      await pause(clock, retryMs, signal);
    }
  }

  /** Brings a blob to voters, a few at a time, until a majority has it. The others get it when they fetch it. */
  async function bringTo(
    peers: readonly string[],
    { hash, bytes, having, refusals }: Replication,
    signal: AbortSignal,
  ) {
    const left = [...peers];
    const enough = new AbortController();
    const both = AbortSignal.any([signal, enough.signal]);
    const work = async (): Promise<void> => {
      for (let peer = left.shift(); peer !== undefined && !both.aborted; peer = left.shift()) {
        try {
          await putTo(peer, hash, bytes, both);
          having.add(peer);
          if (isPeerMajority(state().voterSet, having)) enough.abort(new Error('a majority has it'));
        } catch (error) {
          if (!both.aborted) logger.info({ peer, hash, error: String(error) }, 'a voter did not take a blob');
          if (error instanceof ParleyError && error.code === 'not-allowed') refusals.set(peer, error);
        }
      }
    };
    await Promise.all(Array.from({ length: putsMax }, work));
    signal.throwIfAborted();
  }

  return {
    async fetchBlob(hash, { signal, peers }) {
      signal.throwIfAborted();
      return (await blobs.get(hash)) ?? inTurn(signal, () => fetchRemote(hash, peers ?? holders(), signal));
    },
    replicateBlob,
  };
}

function unexpected(peer: string, kind: string): ParleyError {
  return new ParleyError('malformed', `peer ${peer} answered '${kind}' where that makes no sense`);
}
