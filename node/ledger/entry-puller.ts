// Owns the following side of /parley/ledger/1 on members: one stream to a voter at a time, another voter when that one
// fails or has had nothing new for long. Nothing is applied before it is on the disk, nor where the hash chain does not fit.

import { decode, encode, sha256Hex } from '../../protocols/codec.ts';
import { entryChainHash } from '../../protocols/consensus-record.ts';
import {
  type EntryPullAnswer,
  entryPullAnswerSchema,
  entryPullIdleMs,
  entryPullProtocol,
  type PulledEntry,
} from '../../protocols/entry-pull.ts';
import { fromErrorRecord, ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import type { Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';
import type { CommittedEntry, LedgerSnapshot } from './ledger-types.ts';

const retryMinMs = 100;
const retryMaxMs = 5_000;
/** A voter that is cut off from the others has nothing new for ever: ask another one now and then. */
const patienceMs = 60_000;

export interface EntryPullerComponents {
  readonly self: string;
  readonly mesh: Pick<Mesh, 'open' | 'connectedPeers' | 'onPeerChange'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly state: () => LedgerState;
  /** Voters other than this peer. */
  readonly voters: () => readonly string[];
  /** Stores and applies entries that chain to the state. Rejects when the disk does not take them. */
  readonly take: (entries: readonly CommittedEntry[]) => Promise<void>;
  readonly takeSnapshot: (snapshot: LedgerSnapshot) => Promise<void>;
}

/** Starts following. @returns the function that stops and resolves when nothing is under way any more. */
export function followVoters(components: EntryPullerComponents): () => Promise<void> {
  const { self, mesh, clock, logger, state, voters, take, takeSnapshot } = components;
  const stopping = new AbortController();
  const { signal } = stopping;
  let wake = (): void => undefined;
  const unsubscribe = mesh.onPeerChange((_peer, connected) => connected && wake());
  const running = run();

  async function run(): Promise<void> {
    let delayMs = retryMinMs;
    // Members begin with different voters, so that none carries them all.
    for (let turn = (self.codePointAt(self.length - 1) ?? 0) % 7; !signal.aborted; turn += 1) {
      const source = nextSource(turn);
      const before = state().index;
      try {
        if (source !== undefined) await followOne(source);
      } catch (error) {
        if (!signal.aborted) logger.info({ voter: source, error: String(error) }, 'following a voter ended');
      }
      delayMs = state().index > before ? retryMinMs : Math.min(retryMaxMs, delayMs * 2);
      await pause(delayMs);
    }
  }

  /** Connected voters first: they answer at once. Each failure moves on to the next one. */
  function nextSource(turn: number): string | undefined {
    const connected = new Set(mesh.connectedPeers().map(({ peer }) => peer));
    const all = voters();
    const near = all.filter((peer) => connected.has(peer));
    const candidates = near.length > 0 ? near : all;
    return candidates[turn % Math.max(1, candidates.length)];
  }

  async function pause(delayMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = clock.after(delayMs, resolve);
    wake = resolve;
    if (!signal.aborted) await promise;
    cancel();
  }

  async function followOne(source: string): Promise<void> {
    const stream = await mesh.open(source, entryPullProtocol, { signal });
    try {
      const { fleet, index, chainHash } = state();
      await stream.send(encode({ version: 1, fleet, from: index + 1, previous: chainHash }));
      await readAnswers(stream);
    } finally {
      // Nothing that we sent is waited for.
      stream.abort(new Error('no longer followed'));
    }
  }

  async function readAnswers(stream: MessageStream): Promise<void> {
    let newAtMs = clock.monotonicMs();
    while (clock.monotonicMs() - newAtMs < patienceMs) {
      const answer = await nextAnswer(stream);
      if (answer === undefined) return;
      if (answer.kind === 'refused') throw fromErrorRecord(answer.error);
      if (answer.kind === 'idle') continue;
      if (answer.kind === 'entries') await take(chained(answer.entries));
      else if (answer.kind === 'snapshot') await takeSnapshot(await readSnapshot(stream, answer));
      else throw new ParleyError('malformed', 'a part of no snapshot');
      newAtMs = clock.monotonicMs();
    }
  }

  /** @throws ParleyError `timed-out` (retryable) when the voter is silent, `malformed`. */
  async function nextAnswer(stream: MessageStream): Promise<EntryPullAnswer | undefined> {
    const silent = new AbortController();
    const cancel = clock.after(3 * entryPullIdleMs, () => {
      silent.abort(new ParleyError('timed-out', `voter ${stream.peer} is silent`, { retryable: true }));
    });
    try {
      const bytes = await stream.receive({ signal: AbortSignal.any([signal, silent.signal]) });
      return bytes === undefined ? undefined : decode(entryPullAnswerSchema, bytes, messageBytesMax, 'ledger page');
    } finally {
      cancel();
    }
  }

  /** The entries, if they follow on the state. @throws ParleyError `chain-mismatch`. */
  function chained(entries: readonly PulledEntry[]): CommittedEntry[] {
    let { index, chainHash, term } = state();
    for (const entry of entries) {
      const follows =
        entry.index === index + 1 && entry.term >= term && entry.chainHash === entryChainHash(chainHash, entry);
      if (!follows) {
        throw new ParleyError('chain-mismatch', `entry ${entry.index} does not follow entry ${index} of this ledger`);
      }
      ({ index, chainHash, term } = entry);
    }
    return [...entries];
  }

  async function readSnapshot(
    stream: MessageStream,
    head: EntryPullAnswer & { kind: 'snapshot' },
  ): Promise<LedgerSnapshot> {
    if (head.index <= state().index) {
      throw new ParleyError(
        'chain-mismatch',
        `a snapshot of index ${head.index}: this peer is at ${state().index} already`,
      );
    }
    const data = new Uint8Array(head.bytes);
    for (let filled = 0; filled < head.bytes; ) {
      const part = await nextAnswer(stream);
      if (part?.kind !== 'snapshot-part' || part.data.byteLength === 0 || filled + part.data.byteLength > head.bytes) {
        throw new ParleyError('malformed', `a snapshot of ${head.bytes} bytes broke off after ${filled}`);
      }
      data.set(part.data, filled);
      filled += part.data.byteLength;
    }
    if (sha256Hex(data) !== head.hash) throw new ParleyError('malformed', 'a snapshot has another hash than announced');
    const { index, term, chainHash } = head;
    return { index, term, chainHash, data };
  }

  return async () => {
    stopping.abort(new ParleyError('cancelled', 'the ledger stops', { retryable: true }));
    wake();
    unsubscribe();
    await running;
  };
}
