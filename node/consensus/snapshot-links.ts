// Owns the transfer of snapshots between voters: a header and the parts of the body on a stream of their own, so that a
// large state never delays a heartbeat. The receiver closes the stream once it holds the whole.

import { decode, encode, sha256HexInSteps } from '../../protocols/codec.ts';
import { type SnapshotHeader, snapshotHeaderSchema, snapshotProtocol } from '../../protocols/consensus-message.ts';
import { type SnapshotMetadata, snapshotPartBytesMax } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Logger, Mesh, MessageStream } from '../interfaces.ts';
import { type Message, makeMessage } from './core/index.ts';
import { type Addressed, checkClaim, type MemberDirectory } from './message-links.ts';

/** One transfer: 16 MiB at 140 kB/s. */
const transferTimeoutMs = 120_000;
/** Until a sender has said what it sends: some round trips of a slow link. */
const headerTimeoutMs = 5_000;

export interface SnapshotLinksInit extends Addressed {
  /** A whole snapshot has arrived. */
  readonly onSnapshot: (message: Message, body: Uint8Array) => void;
  /** A transfer has ended, in one way or the other. */
  readonly onSent: (raftId: number, delivered: boolean) => void;
}

export interface SnapshotLinksComponents {
  readonly mesh: Pick<Mesh, 'open'>;
  readonly logger: Logger;
  readonly members: MemberDirectory;
}

/** The transfer whose body is on its way here. */
interface Receiving extends Pick<SnapshotHeader, 'from' | 'term'> {
  readonly overtaken: AbortController;
}

export class SnapshotLinks {
  readonly #init: SnapshotLinksInit;
  readonly #components: SnapshotLinksComponents;
  readonly #stopping = new AbortController();
  #receiving: Receiving | undefined;

  constructor(init: SnapshotLinksInit, components: SnapshotLinksComponents) {
    this.#init = init;
    this.#components = components;
  }

  stop(): void {
    this.#stopping.abort(new ParleyError('stopped', 'consensus has stopped'));
  }

  /** Sends a snapshot message with its body; reports by onSent. */
  send(message: Message, snapshot: SnapshotMetadata, body: Uint8Array): void {
    this.#transfer(message, snapshot, body).then(
      () => this.#init.onSent(message.to, true),
      (error: unknown) => {
        const fields = { raftId: message.to, index: snapshot.index, err: error };
        this.#components.logger.warn(fields, 'snapshot could not be sent');
        this.#init.onSent(message.to, false);
      },
    );
  }

  async #transfer({ from, to, term }: Message, snapshot: SnapshotMetadata, body: Uint8Array): Promise<void> {
    const { mesh, members } = this.#components;
    const peer = members.peerOf(to);
    if (peer === undefined) throw new ParleyError('unknown-voter', `no member has the raft id ${to}`);
    const bodyBytes = body.byteLength;
    const bodyHash = await sha256HexInSteps(body);
    const header: SnapshotHeader = { version: 1, from, to, term, snapshot, bodyBytes, bodyHash };
    const signal = this.#deadline();
    const stream = await mesh.open(peer, snapshotProtocol, { signal });
    const abort = (): void => stream.abort(new Error('the snapshot transfer was given up'));
    signal.addEventListener('abort', abort, { once: true });
    try {
      await stream.send(encode(header));
      for (let at = 0; at < bodyBytes; at += snapshotPartBytesMax) {
        await stream.send(body.subarray(at, at + snapshotPartBytesMax));
      }
      await stream.close();
      await stream.receive({ signal });
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** Serves one stream of another voter to its end. */
  async receive(stream: MessageStream): Promise<void> {
    const header = await this.#receiveHeader(stream);
    const receiving = this.#begin(header);
    const { signal } = receiving.overtaken;
    try {
      const body = await receiveBody(stream, header, AbortSignal.any([this.#deadline(), signal]));
      signal.throwIfAborted();
      const { from, to, term, snapshot } = header;
      this.#init.onSnapshot(makeMessage('snapshot', to, { from, term, snapshot }), body);
      await stream.close();
    } finally {
      if (this.#receiving === receiving) this.#receiving = undefined;
    }
  }

  async #receiveHeader(stream: MessageStream): Promise<SnapshotHeader> {
    const { members } = this.#components;
    const { peer } = stream;
    if (members.raftIdOf(peer) === undefined) {
      throw new ParleyError('wrong-sender', `peer '${peer}' wants to send a snapshot and is no voter`);
    }
    const bytes = (await stream.receive({ signal: this.#deadline(headerTimeoutMs) })) ?? new Uint8Array();
    const header = decode(snapshotHeaderSchema, bytes, snapshotPartBytesMax, 'snapshot header');
    const { from, to, term, snapshot } = header;
    checkClaim({ from, to, term: Math.max(term, snapshot.term) }, peer, this.#init, members);
    const own = this.#init.term();
    if (term >= own) return header;
    throw new ParleyError('stale-term', `a snapshot of term ${term} is of no use: this voter is in term ${own}`);
  }

  /** One at a time bounds the memory that snapshots take: that of the newest leader, and of that one its newest. */
  #begin({ from, term }: SnapshotHeader): Receiving {
    const current = this.#receiving;
    const isNewer = current === undefined || term > current.term || (term === current.term && from === current.from);
    if (!isNewer) throw new ParleyError('busy', 'another snapshot is being received', { retryable: true });
    current?.overtaken.abort(new ParleyError('overtaken', 'a newer snapshot is being received', { retryable: true }));
    this.#receiving = { from, term, overtaken: new AbortController() };
    return this.#receiving;
  }

  #deadline(timeoutMs = transferTimeoutMs): AbortSignal {
    return AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(timeoutMs)]);
  }
}

async function receiveBody(stream: MessageStream, header: SnapshotHeader, signal: AbortSignal): Promise<Uint8Array> {
  const body = new Uint8Array(header.bodyBytes);
  for (let filled = 0; filled < body.byteLength; ) {
    const part = await stream.receive({ signal });
    const expected = Math.min(snapshotPartBytesMax, body.byteLength - filled);
    if (part?.byteLength !== expected) {
      throw new ParleyError('malformed', `part of a snapshot has ${part?.byteLength} bytes: expected ${expected}`);
    }
    body.set(part, filled);
    filled += part.byteLength;
  }
  if ((await sha256HexInSteps(body)) !== header.bodyHash) {
    throw new ParleyError('malformed', 'the snapshot does not fit its hash');
  }
  return body;
}
