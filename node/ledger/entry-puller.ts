// Owns the following side of /parley/ledger/1: one stream at a time, to a voter while one is connected, else to another
// member. What comes is judged by the light client (trust-core.ts); nothing reaches the disk or the state before it is proven.
// Who serves what does not hold is left alone for a while, and another one is asked.

import type { ConfigurationProof } from '../../protocols/certificate.ts';
import { decode, encode, inSteps } from '../../protocols/codec.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import {
  type CheckpointProof,
  type EntryPullAnswer,
  entryPullAnswerSchema,
  entryPullIdleMs,
  entryPullProtocol,
} from '../../protocols/entry-pull.ts';
import { fromErrorRecord, ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import type { Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';
import { within } from '../waiting.ts';
import type { Certificates } from './certificates.ts';
import type { LedgerComponents } from './ledger-types.ts';
import { createSources } from './pull-sources.ts';
import {
  type Place,
  type Proven,
  type Serving,
  type Trust,
  takeCheckpoint,
  takeConfiguration,
  takePage,
  takeState,
} from './trust-core.ts';

const retryMinMs = 100;
const retryMaxMs = 5_000;
/** Who is cut off from the others has nothing new for ever: ask another one now and then. */
const patienceMs = 60_000;
/** Changes of voters that one answer may bring: more than any fleet makes while a member is away. */
const proofsMax = 4_096;
/** What no peer in order serves. */
const lies: ReadonlySet<string> = new Set([
  'malformed',
  'chain-mismatch',
  'uncertified',
  'contradiction',
  'too-much-uncertified',
  'checkpoint-mismatch',
]);

/** A checkpoint with its state, proven. */
export interface ProvenState {
  readonly state: LedgerState;
  readonly data: Uint8Array;
  readonly proofs: readonly ConfigurationProof[];
  readonly checkpoint: CheckpointProof;
}

export interface EntryPullerComponents {
  readonly self: string;
  readonly mesh: Pick<Mesh, 'open' | 'connectedPeers' | 'onPeerChange'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly verifySignature: LedgerComponents['verifySignature'];
  /** The last entry of the own state. */
  readonly place: () => Place;
  readonly certificates: Pick<Certificates, 'trust' | 'certainHash'>;
  /** Voters other than this peer. */
  readonly voters: () => readonly string[];
  /** Everybody else that is known. */
  readonly others: () => readonly string[];
  readonly isMember: (peer: string) => boolean;
  /** Stores and applies what is proven. Rejects when the disk does not take it. */
  readonly take: (proven: Proven) => Promise<void>;
  readonly takeState: (proven: ProvenState) => Promise<void>;
  /** Changes of voters were proven, and what they belong to may never come: the voters with them, and the proofs. */
  readonly onVotersProven: (known: Trust, proofs: readonly ConfigurationProof[]) => void | Promise<void>;
}

/** Starts following. @returns the function that stops and resolves when nothing is under way any more. */
export function followVoters(components: EntryPullerComponents): () => Promise<void> {
  const { mesh, clock, logger, place, certificates } = components;
  const stopping = new AbortController();
  const sources = createSources(components);
  let wake = (): void => undefined;
  /** Aborts while a member is followed and a voter comes. */
  let better = new AbortController();
  const unsubscribe = mesh.onPeerChange((peer, connected) => {
    if (!connected) return;
    sources.arrived(peer);
    wake();
    if (sources.isBetterThere())
      better.abort(new ParleyError('cancelled', 'a voter is there again', { retryable: true }));
  });
  const running = run();

  async function run(): Promise<void> {
    let delayMs = retryMinMs;
    while (!stopping.signal.aborted) {
      const before = place().index;
      const source = sources.next();
      if (source !== undefined) await tryOne(source);
      delayMs = place().index > before ? retryMinMs : Math.min(retryMaxMs, delayMs * 2);
      await pause(delayMs);
    }
  }

  async function tryOne(source: string): Promise<void> {
    try {
      better = new AbortController();
      await followOne(source);
      sources.failed(source);
    } catch (error) {
      if (stopping.signal.aborted || better.signal.aborted) return;
      const isLie = error instanceof LieError;
      if (isLie) logger.warn({ peer: source, error: String(error) }, 'a peer served what does not hold');
      else logger.info({ peer: source, error: String(error) }, 'following a peer ended');
      sources.failed(source, isLie);
    }
  }

  async function pause(delayMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = clock.after(delayMs, resolve);
    wake = resolve;
    if (!stopping.signal.aborted) await promise;
    cancel();
  }

  async function followOne(source: string): Promise<void> {
    const signal = AbortSignal.any([stopping.signal, better.signal]);
    const stream = await mesh.open(source, entryPullProtocol, { signal });
    try {
      const { index, chainHash } = place();
      const previous = new Uint8Array(Buffer.from(chainHash, 'hex'));
      await stream.send(encode({ version: 1, from: index + 1, previous }));
      await readAnswers(stream, signal);
    } finally {
      // Nothing that we sent is waited for.
      stream.abort(new Error('no longer followed'));
    }
  }

  async function readAnswers(stream: MessageStream, signal: AbortSignal): Promise<void> {
    const server = { server: stream.peer, verify: components.verifySignature, certainHash: certificates.certainHash };
    let pending: readonly CommittedEntry[] = [];
    let proofs: ConfigurationProof[] = [];
    let known = certificates.trust();
    let provenAtMs = clock.monotonicMs();
    while (clock.monotonicMs() - provenAtMs < patienceMs) {
      const answer = await nextAnswer(stream, signal);
      if (answer === undefined) return;
      if (answer.kind === 'refused') throw fromErrorRecord(answer.error);
      if (answer.kind === 'idle') {
        if (sources.isBetterThere()) return;
        continue;
      }
      if (answer.kind === 'entries') {
        const following = { place: place(), pending };
        const taken = judged(() => takePage(certificates.trust(), following, answer, server));
        pending = 'pending' in taken ? taken.pending : [];
        if (!('proven' in taken)) continue;
        await components.take(taken.proven);
        known = certificates.trust();
      } else if (answer.kind === 'configurations') {
        known = judged(() => answer.proofs.reduce((trust, proof) => takeConfiguration(trust, proof, server), known));
        proofs.push(...answer.proofs);
        await components.onVotersProven(known, answer.proofs);
        if (proofs.length > proofsMax) throw lie(`peer ${stream.peer} served ${proofs.length} changes of voters`);
        continue;
      } else if (answer.kind === 'checkpoint') {
        await components.takeState({ ...(await readState(stream, signal, answer, known, server)), proofs });
        [pending, proofs] = [[], []];
      } else throw lie(`peer ${stream.peer} served a part of no checkpoint`);
      provenAtMs = clock.monotonicMs();
    }
  }

  /** @throws ParleyError `timed-out` (retryable) when the other side is silent. */
  async function nextAnswer(stream: MessageStream, signal: AbortSignal): Promise<EntryPullAnswer | undefined> {
    const late = (): ParleyError => new ParleyError('timed-out', `peer ${stream.peer} is silent`, { retryable: true });
    const limit = { clock, limitMs: 3 * entryPullIdleMs, late, outer: signal };
    const bytes = await within(limit, (limited) => stream.receive({ signal: limited }));
    if (bytes === undefined) return undefined;
    return judged(() => decode(entryPullAnswerSchema, bytes, messageBytesMax, `ledger page of peer ${stream.peer}`));
  }

  /** The checkpoint first: its bytes are taken only once voters in force have signed for them. */
  async function readState(
    stream: MessageStream,
    signal: AbortSignal,
    head: EntryPullAnswer & { kind: 'checkpoint' },
    trust: Trust,
    server: Serving,
  ): Promise<Omit<ProvenState, 'proofs'>> {
    const { entry, previous, certificate, bytes } = head;
    const checkpoint = { entry, previous, certificate };
    const made = judged(() => takeCheckpoint(trust, checkpoint, server));
    if (made.index <= place().index) throw lie(`peer ${stream.peer} served checkpoint ${made.index}, which is no news`);
    const data = new Uint8Array(bytes);
    for (let filled = 0; filled < bytes; ) {
      const part = await nextAnswer(stream, signal);
      if (part?.kind !== 'checkpoint-part' || filled + part.data.byteLength > bytes) {
        throw lie(`peer ${stream.peer} served a checkpoint of ${bytes} bytes that broke off after ${filled}`);
      }
      data.set(part.data, filled);
      filled += part.data.byteLength;
    }
    const state = await inSteps(takeState(trust, made, data, server)).catch(blame);
    return { state, data, checkpoint };
  }

  return async () => {
    stopping.abort(new ParleyError('cancelled', 'the ledger stops', { retryable: true }));
    wake();
    unsubscribe();
    await running;
  };
}

/** Marks what a judgement throws as the fault of who served it. */
class LieError extends ParleyError {}

function judged<T>(judge: () => T): T {
  try {
    return judge();
  } catch (error) {
    return blame(error);
  }
}

function blame(error: unknown): never {
  if (error instanceof ParleyError && lies.has(error.code)) throw lie(error.message, error.code);
  throw error;
}

function lie(text: string, code = 'malformed'): LieError {
  return new LieError(code, text);
}
