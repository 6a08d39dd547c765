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

export class SnapshotLinks {
  readonly #init: SnapshotLinksInit;
  readonly #components: SnapshotLinksComponents;
  readonly #stopping = new AbortController();
  #receiving = false;

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
    // One at a time bounds the memory that snapshots take.
    if (this.#receiving) throw new ParleyError('busy', 'another snapshot is being received', { retryable: true });
    this.#receiving = true;
    try {
      const signal = this.#deadline();
      const header = await this.#receiveHeader(stream, signal);
      const body = await receiveBody(stream, header, signal);
      const { from, to, term, snapshot } = header;
      this.#init.onSnapshot(makeMessage('snapshot', to, { from, term, snapshot }), body);
      await stream.close();
    } finally {
      this.#receiving = false;
    }
  }

  async #receiveHeader(stream: MessageStream, signal: AbortSignal): Promise<SnapshotHeader> {
    const bytes = (await stream.receive({ signal })) ?? new Uint8Array();
    const header = decode(snapshotHeaderSchema, bytes, snapshotPartBytesMax, 'snapshot header');
    const { from, to, term, snapshot } = header;
    checkClaim({ from, to, term: Math.max(term, snapshot.term) }, stream.peer, this.#init, this.#components.members);
    return header;
  }

  #deadline(): AbortSignal {
    return AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(transferTimeoutMs)]);
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
