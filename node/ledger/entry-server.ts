// Owns the serving side of /parley/ledger/1, on voters and members alike: streams entries up to the newest certificate, as they
// are certified; and a checkpoint first to who asks for more than is still here. Nothing is sent that its receiver cannot check.

import type { Certificate } from '../../protocols/certificate.ts';
import { decode, encode } from '../../protocols/codec.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import {
  type CheckpointProof,
  type EntryPullAnswer,
  type EntryPullRequest,
  entryPageEntriesMax,
  entryPullIdleMs,
  entryPullProtocol,
  entryPullRequestBytesMax,
  entryPullRequestSchema,
  entrySnapshotPartBytes,
  uncertifiedBytesMax,
  uncertifiedEntriesMax,
} from '../../protocols/entry-pull.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';
import type { Certificates } from './certificates.ts';
import { pageOf, runOf } from './page-core.ts';
import type { SnapshotStore } from './snapshots.ts';

/** A stranger to the protocol sends its request at once or loses its place. */
const requestTimeoutMs = 10_000;
/** Who takes nothing for so long is cut off: what waits for it is memory. */
const slowestMs = 30_000;
/** Pages for followers that are behind, at once: each is up to half a message. */
const largePagesMax = 16;
const largePageBytes = 64 * 1024;
/** States on their way at once, each up to 16 MiB, read once for all who need the same. */
const checkpointsMax = 4;
/** Encoded pages that many followers want at the same time. */
const sharedPagesMax = 8;

export interface EntryServerComponents {
  readonly mesh: Pick<Mesh, 'handle'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Index of the last entry here that a certificate covers. */
  readonly top: () => number;
  /** Calls when `top` may have grown. */
  readonly onChange: (listener: () => void) => () => void;
  /** The last entry that the newest generation goes on from: who has another one there, or before, gets its checkpoint. */
  readonly generationBase: number;
  /** Chain hash of entry 1, which no log holds. */
  readonly genesisChainHash: string;
  /** Entries from an index on, as many as make a page; empty when there are none yet, undefined when they are gone. */
  readonly entries: (from: number, limit: number) => Promise<readonly CommittedEntry[] | undefined>;
  readonly certificates: Pick<Certificates, 'nearest' | 'proofs' | 'hasProofs' | 'checkpoints'>;
  readonly snapshots: Pick<SnapshotStore, 'headAt' | 'read'>;
}

interface Page {
  readonly bytes: Uint8Array;
  readonly next: number;
  readonly dataBytes: number;
  readonly isCertified: boolean;
}

/** Registers the protocol. @returns the function that ends all streams. */
export function serveEntries(components: EntryServerComponents): () => void {
  const { mesh, clock, logger, top, onChange, entries, generationBase, genesisChainHash, certificates, snapshots } =
    components;
  const stopping = new AbortController();
  const shared = new Map<string, Page>();
  let largePages = 0;
  let sending = 0;
  let prepared: { readonly index: number; readonly data: Promise<Uint8Array | undefined> } | undefined;

  async function serve(stream: MessageStream): Promise<void> {
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(requestTimeoutMs)]);
    const bytes = (await stream.receive({ signal })) ?? new Uint8Array(0);
    const request = decode(entryPullRequestSchema, bytes, entryPullRequestBytesMax, 'entry request');
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
      if (record.code === 'too-slow') return stream.abort(error as Error);
      await send(stream, { kind: 'refused', error: record });
      await stream.close();
    }
  }

  async function follow(stream: MessageStream, request: EntryPullRequest, signal: AbortSignal): Promise<void> {
    let next = request.from;
    let bare = { entries: 0, bytes: 0 };
    let isVerified = false;
    while (!signal.aborted) {
      if (top() < (isVerified ? next : next - 1)) {
        await change(stream, isVerified ? next : next - 1, signal);
        continue;
      }
      if (!isVerified) {
        // Behind a generation's base its checkpoint is all that counts: whatever the follower knows of the time before.
        const isBehind = next <= generationBase && newestCheckpoint()[0] > generationBase;
        const chained = isBehind ? false : await isChained(request);
        isVerified = chained === true;
        // What lies before the own log cannot be compared; the checkpoint is worth something by itself.
        if (isVerified) continue;
        if (chained === false) next = generationBase + 1;
      }
      const page = isVerified ? await pageFrom(next) : undefined;
      const isTooBare =
        bare.entries > uncertifiedEntriesMax - entryPageEntriesMax || bare.bytes > uncertifiedBytesMax / 2;
      if (page === undefined || (isTooBare && !page.isCertified)) {
        next = (await sendCheckpoint(stream, next)) + 1;
        isVerified = true;
        bare = { entries: 0, bytes: 0 };
        continue;
      }
      await sendPage(stream, page, signal);
      const count = page.next - next;
      bare = page.isCertified
        ? { entries: 0, bytes: 0 }
        : { entries: bare.entries + count, bytes: bare.bytes + page.dataBytes };
      next = page.next;
    }
  }

  /** The next page, encoded once for all who are at the same entry; undefined when the log starts later. */
  async function pageFrom(next: number): Promise<Page | undefined> {
    const last = top();
    const key = `${next} ${last}`;
    const known = shared.get(key);
    if (known !== undefined) return known;
    const found = (await entries(next, entryPageEntriesMax))?.filter(({ index }) => index <= last);
    if (found === undefined || found.length === 0) return undefined;
    const run = runOf(found);
    const certificate = await certificateOf(run);
    if (certificate === 'never') return undefined;
    const page = pageOf(run, certificate);
    const made: Page = {
      bytes: encode(page),
      next: next + page.entries.length,
      dataBytes: page.entries.reduce((sum, data) => sum + data.byteLength, 0),
      isCertified: certificate !== undefined,
    };
    shared.set(key, made);
    const oldest = shared.keys().next();
    if (shared.size > sharedPagesMax && !oldest.done) shared.delete(oldest.value);
    return made;
  }

  /**
   * The certificate that a run's page ends with; never one for a change of voters that a generation went on from without.
   * @throws ParleyError `certificate-missing` for another change of voters without one.
   */
  async function certificateOf(run: readonly CommittedEntry[]): Promise<Certificate | 'never' | undefined> {
    const [first, last] = [run[0]?.index ?? 0, run.at(-1)?.index ?? 0];
    if (run.at(-1)?.type === 'configuration') {
      const [proof] = await certificates.proofs(last);
      if (proof?.entry.index === last) return proof.certificate;
      if (last <= generationBase) return 'never';
      const text = `entry ${last} changes the voters, and its certificate is not here`;
      throw new ParleyError('certificate-missing', text, { retryable: true });
    }
    // Members need the certificates of checkpoints themselves, to serve them: pages end there.
    const checkpoints = [...certificates.checkpoints().values()].map(({ proof }) => proof);
    const made = checkpoints.find(({ entry }) => entry.index >= first && entry.index <= last);
    return made?.certificate ?? certificates.nearest(first, last);
  }

  /** @returns undefined when the log no longer reaches back so far. @throws ParleyError `chain-mismatch` after the generation's base. */
  async function isChained({ from, previous }: EntryPullRequest): Promise<boolean | undefined> {
    const index = from - 1;
    const stored = index === 1 ? genesisChainHash : snapshots.headAt(index)?.chainHash;
    const actual = stored ?? (await entries(index, 1))?.[0]?.chainHash;
    if (actual === undefined) return undefined;
    if (actual === Buffer.from(previous).toString('hex')) return true;
    if (index <= generationBase) return false;
    const text = `entry ${index} of the asking peer is not the one that this fleet committed`;
    throw new ParleyError('chain-mismatch', text, { hint: 'Its ledger is damaged or forged: enrol the peer anew.' });
  }

  /** Waits until an index is certified, with a sign of life now and then. */
  async function change(stream: MessageStream, index: number, signal: AbortSignal): Promise<void> {
    await waiting(
      (wake) => onChange(() => top() >= index && wake()),
      signal,
      () => top() >= index,
    );
    if (top() < index && !signal.aborted) await send(stream, { kind: 'idle', index: top() });
  }

  /** Waits for a call or the time for a sign of life, whichever comes first. */
  async function waiting(
    subscribe: (wake: () => void) => () => void,
    signal: AbortSignal,
    isDone: () => boolean,
  ): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const unsubscribe = subscribe(resolve);
    const cancelIdle = clock.after(entryPullIdleMs, resolve);
    const wake = (): void => resolve();
    signal.addEventListener('abort', wake);
    try {
      if (!isDone() && !signal.aborted) await promise;
    } finally {
      signal.removeEventListener('abort', wake);
      unsubscribe();
      cancelIdle();
    }
  }

  const waitingForRoom = new Set<() => void>();

  /** Large pages leave a few at a time: what followers have not taken yet lies in memory. */
  async function sendPage(stream: MessageStream, page: Page, signal: AbortSignal): Promise<void> {
    if (page.bytes.byteLength < largePageBytes) return await sendBytes(stream, page.bytes);
    const hasRoom = (): boolean => largePages < largePagesMax;
    while (!hasRoom() && !signal.aborted) {
      const subscribe = (wake: () => void) => {
        waitingForRoom.add(wake);
        return () => waitingForRoom.delete(wake);
      };
      await waiting(subscribe, signal, hasRoom);
      if (!hasRoom() && !signal.aborted) await send(stream, { kind: 'idle', index: top() });
    }
    largePages += 1;
    try {
      await sendBytes(stream, page.bytes);
    } finally {
      largePages -= 1;
      for (const wake of waitingForRoom) wake();
    }
  }

  /** The newest one whose state is here, as the fleet has it. */
  function newestCheckpoint(): [index: number, proof: CheckpointProof | undefined] {
    const here = [...certificates.checkpoints()].filter(
      ([index, { stateHash }]) => snapshots.headAt(index)?.hash === stateHash,
    );
    const index = Math.max(0, ...here.map(([each]) => each));
    return [index, certificates.checkpoints().get(index)?.proof];
  }

  /**
   * Sends the newest checkpoint with everything that proves it.
   * @returns the index of its state. @throws ParleyError `busy`, `behind`, `checkpoint-missing` (all retryable)
   */
  async function sendCheckpoint(stream: MessageStream, next: number): Promise<number> {
    const [index, proof] = newestCheckpoint();
    if (proof === undefined || index < next) {
      // Who votes now is worth knowing by itself.
      await sendProofs(stream, next, Number.POSITIVE_INFINITY);
      const text = `entry ${next} is not here any more, and no later checkpoint`;
      throw new ParleyError('checkpoint-missing', text, { retryable: true });
    }
    // A generation's record tells who voted at its base: who voted before that is not needed.
    const from = index > generationBase ? Math.max(next, generationBase + 1) : next;
    if (!certificates.hasProofs(from, proof.entry.index)) {
      const text = `changes of voters between ${from} and checkpoint ${index} cannot be proven here yet`;
      throw new ParleyError('behind', text, { hint: 'Another voter or member is asked.', retryable: true });
    }
    if (sending >= checkpointsMax) {
      throw new ParleyError('busy', `${sending} checkpoints are on their way to members`, { retryable: true });
    }
    sending += 1;
    try {
      if (prepared?.index !== index) prepared = { index, data: snapshots.read(index) };
      const data = await prepared.data;
      if (data === undefined) {
        throw new ParleyError('checkpoint-missing', `the state of checkpoint ${index} is damaged here`, {
          retryable: true,
        });
      }
      await sendProofs(stream, from, proof.entry.index);
      await send(stream, { kind: 'checkpoint', ...proof, bytes: data.byteLength });
      for (let offset = 0; offset < data.byteLength; offset += entrySnapshotPartBytes) {
        await send(stream, { kind: 'checkpoint-part', data: data.slice(offset, offset + entrySnapshotPartBytes) });
      }
      return index;
    } finally {
      sending -= 1;
      if (sending === 0) prepared = undefined;
    }
  }

  /** The changes of voters between what the follower knows and an entry. */
  async function sendProofs(stream: MessageStream, from: number, to: number): Promise<void> {
    for (let next = from; ; ) {
      const proofs = (await certificates.proofs(next)).filter(({ entry }) => entry.index < to);
      const last = proofs.at(-1);
      if (last === undefined) return;
      await send(stream, { kind: 'configurations', proofs });
      next = last.entry.index + 1;
    }
  }

  const send = (stream: MessageStream, answer: EntryPullAnswer): Promise<void> => sendBytes(stream, encode(answer));

  /** @throws ParleyError `too-slow` when the follower does not take it. */
  async function sendBytes(stream: MessageStream, bytes: Uint8Array): Promise<void> {
    const slow = Promise.withResolvers<never>();
    const cancel = clock.after(slowestMs, () => {
      slow.reject(new ParleyError('too-slow', `${stream.peer} takes nothing for ${slowestMs} ms`, { retryable: true }));
    });
    try {
      await Promise.race([stream.send(bytes), slow.promise]);
    } finally {
      cancel();
    }
  }

  mesh.handle(entryPullProtocol, serve, { inboundStreamsMax: 2, admits: 'removed' });
  return () => stopping.abort(new ParleyError('cancelled', 'the ledger stops', { retryable: true }));
}
