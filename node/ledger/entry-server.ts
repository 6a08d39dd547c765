// Owns the serving side of /parley/ledger/1: streams committed entries to a member that follows, as they commit, and a
// snapshot first where the log no longer reaches back to it.

import { decode, encode, sha256Hex } from '../../protocols/codec.ts';
import {
  type EntryPullAnswer,
  type EntryPullRequest,
  entryPageBytes,
  entryPageEntriesMax,
  entryPullIdleMs,
  entryPullProtocol,
  entryPullRequestBytesMax,
  entryPullRequestSchema,
  entrySnapshotPartBytes,
} from '../../protocols/entry-pull.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';
import type { CommittedEntry, LedgerSnapshot } from './ledger-types.ts';
import { snapshotOf } from './snapshots.ts';

/** A stranger to the protocol sends its request at once or loses its place. */
const requestTimeoutMs = 10_000;
/** Snapshots on their way at once: each is up to 16 MiB, made once for all who ask at the same index. */
const snapshotsMax = 4;

export interface EntryServerComponents {
  readonly mesh: Pick<Mesh, 'handle'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly state: () => LedgerState;
  /** Chain hash of entry 1, which no log holds. */
  readonly genesisChainHash: string;
  readonly onApplied: (listener: () => void) => () => void;
  /** Entries from an index on, as many as make a page; empty when there are none yet, undefined when they are gone. */
  readonly entries: (from: number, limit: number) => Promise<readonly CommittedEntry[] | undefined>;
}

/** Registers the protocol. @returns the function that ends all streams. */
export function serveEntries(components: EntryServerComponents): () => void {
  const { mesh, clock, logger, state, onApplied, entries, genesisChainHash } = components;
  const stopping = new AbortController();
  let sending = 0;
  let prepared: LedgerSnapshot | undefined;

  async function serve(stream: MessageStream): Promise<void> {
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(requestTimeoutMs)]);
    const bytes = await stream.receive({ signal });
    const request = decode(
      entryPullRequestSchema,
      bytes ?? new Uint8Array(0),
      entryPullRequestBytesMax,
      'entry request',
    );
    const gone = new AbortController();
    // The follower sends nothing more: the end of its side is the end of its interest.
    stream
      .receive({ signal: stopping.signal })
      .finally(() => gone.abort())
      .catch(() => undefined);
    try {
      await follow(stream, request, AbortSignal.any([stopping.signal, gone.signal]));
      await stream.close();
    } catch (error) {
      if (gone.signal.aborted || stopping.signal.aborted) return stream.abort(new Error('the stream ended'));
      const record = toErrorRecord(error);
      logger.info({ peer: stream.peer, code: record.code, reason: record.message }, 'a member cannot follow here');
      await send(stream, { kind: 'refused', error: record });
      await stream.close();
    }
  }

  async function follow(stream: MessageStream, request: EntryPullRequest, signal: AbortSignal): Promise<void> {
    if (request.fleet !== state().fleet) {
      throw new ParleyError(
        'wrong-fleet',
        `fleet ${request.fleet.slice(0, 8)} is not served: this is ${state().fleet.slice(0, 8)}`,
      );
    }
    let next = request.from;
    let verified = false;
    while (!signal.aborted) {
      if (state().index < next - 1) {
        await change(stream, next - 1, signal);
        continue;
      }
      if (!verified && (await isChained(request))) verified = true;
      const page = verified ? await entries(next, entryPageEntriesMax) : undefined;
      if (page === undefined) {
        next = (await sendSnapshot(stream, next)) + 1;
        verified = true;
      } else if (page.length === 0) {
        await change(stream, next, signal);
      } else {
        for (const part of pagesOf(page)) await send(stream, { kind: 'entries', entries: part });
        next += page.length;
      }
    }
  }

  /** @returns false when the log no longer reaches back so far. @throws ParleyError `chain-mismatch`. */
  async function isChained({ from, previous }: EntryPullRequest): Promise<boolean> {
    const index = from - 1;
    const actual = await chainHashAt(index);
    if (actual === undefined || actual === previous) return actual !== undefined;
    const text = `entry ${index} of the asking peer is not the one that this fleet committed`;
    throw new ParleyError('chain-mismatch', text, { hint: 'Its ledger is damaged or forged: enrol the peer anew.' });
  }

  async function chainHashAt(index: number): Promise<string | undefined> {
    if (index === 1) return genesisChainHash;
    const now = state();
    return now.index === index ? now.chainHash : (await entries(index, 1))?.[0]?.chainHash;
  }

  /** Waits until an index is applied, with a sign of life now and then. */
  async function change(stream: MessageStream, index: number, signal: AbortSignal): Promise<void> {
    const changed = Promise.withResolvers<void>();
    const unsubscribe = onApplied(() => state().index >= index && changed.resolve());
    const cancelIdle = clock.after(entryPullIdleMs, changed.resolve);
    const wake = (): void => changed.resolve();
    signal.addEventListener('abort', wake);
    try {
      if (state().index < index && !signal.aborted) await changed.promise;
    } finally {
      signal.removeEventListener('abort', wake);
      unsubscribe();
      cancelIdle();
    }
    if (state().index < index && !signal.aborted) await send(stream, { kind: 'idle', index: state().index });
  }

  /** @returns the snapshot's index. @throws ParleyError `busy` (retryable), or `chain-mismatch` when the follower is ahead of it. */
  async function sendSnapshot(stream: MessageStream, next: number): Promise<number> {
    if (sending >= snapshotsMax) {
      throw new ParleyError('busy', `${sending} snapshots are on their way to members`, { retryable: true });
    }
    sending += 1;
    try {
      if (prepared === undefined || prepared.index < next || (await entries(prepared.index + 1, 1)) === undefined) {
        prepared = await snapshotOf(state());
      }
      const { index, term, chainHash, data } = prepared;
      await send(stream, { kind: 'snapshot', index, term, chainHash, bytes: data.byteLength, hash: sha256Hex(data) });
      for (let offset = 0; offset < data.byteLength; offset += entrySnapshotPartBytes) {
        await send(stream, { kind: 'snapshot-part', data: data.slice(offset, offset + entrySnapshotPartBytes) });
      }
      return index;
    } finally {
      sending -= 1;
      if (sending === 0) prepared = undefined;
    }
  }

  mesh.handle(entryPullProtocol, serve, { inboundStreamsMax: 4 });
  return () => stopping.abort(new ParleyError('cancelled', 'the ledger stops', { retryable: true }));
}

function pagesOf(entries: readonly CommittedEntry[]): CommittedEntry[][] {
  const pages: CommittedEntry[][] = [];
  let page: CommittedEntry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    page.push(entry);
    // Beside its data an entry takes some 200 bytes, and a configuration a little more.
    bytes += entry.data.byteLength + 512;
    if (bytes < entryPageBytes) continue;
    pages.push(page);
    page = [];
    bytes = 0;
  }
  return page.length === 0 ? pages : [...pages, page];
}

type Sendable<T> = T extends { kind: 'entries' }
  ? { kind: 'entries'; entries: readonly CommittedEntry[] }
  : T extends { kind: 'snapshot-part' }
    ? { kind: 'snapshot-part'; data: Uint8Array }
    : T;

function send(stream: MessageStream, answer: Sendable<EntryPullAnswer>): Promise<void> {
  return stream.send(encode(answer));
}
