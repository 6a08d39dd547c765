// Many members in one process for the bench of members, each with its own key, its own mesh and so its own connection to the
// controller: it follows the ledger from a place a little behind, beats every fifteen seconds, and asks and tells about generations
// as a peer does. What it is told is checked for its form only.

import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { systemClock } from '../../node/host/index.ts';
import type { Logger, Mesh } from '../../node/interfaces.ts';
import { createMesh, type Identity, identityFromSeed } from '../../node/mesh/index.ts';
import { createGenerationExchange } from '../../node/wiring/generation-exchange.ts';
import { type Beat, beatPeriodMs, beatProtocol } from '../../protocols/beat.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { entryPullAnswerSchema, entryPullProtocol } from '../../protocols/entry-pull.ts';
import { messageBytesMax } from '../../protocols/limits.ts';

export interface SessionsOrder {
  readonly controller: string;
  readonly address: string;
  readonly first: number;
  readonly count: number;
  /** Where all members are, and how far the ledger is. */
  readonly index: number;
  readonly chainHash: string;
  readonly lastIndex: number;
}

export interface SessionsReport {
  readonly served: number;
  readonly failures: readonly string[];
  /** Tries that failed before a member was served. */
  readonly retries: number;
  /** Payload of /parley/ledger/1 in both directions beyond the data of the entries, of the session with the most. */
  readonly beyondEntriesMax: number;
}

/** A connect, a handshake and a page; a storm of a thousand takes its time. */
const servedMs = 120_000;
const retryMs = 500;
/** Beats come at so many different times of their period. */
const beatsSpread = 1_000;
/** What a quiet device says of itself. */
const closure = `/nix/store/${'0123456789abcdfghijklmnpqrsvwxyz'}-nixos-system-member-26.05`;
const traffic = { home: { bytesIn: 1_234_567_890, bytesOut: 0 }, shop: { bytesIn: 0, bytesOut: 987_654_321 } };
const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silent,
};

/** The key of a simulated member. */
export function memberIdentity(number: number): Identity {
  return identityFromSeed(new Uint8Array(createHash('sha256').update(`bench member ${number}`).digest()));
}

interface Session {
  readonly beyondEntries: number;
  /** Tries that failed before: members try again until they are served. */
  readonly retries: number;
}

/** One member, from its start until it has caught up and beaten once. Its mesh dials as a peer's does. */
async function openSession(order: SessionsOrder, number: number): Promise<Session> {
  const { controller, address, chainHash } = order;
  const members = {
    isMember: (peer: string) => peer === controller,
    wasRemoved: () => false,
    joinsOpen: () => false,
    asksStrangers: () => false,
    meet: () => undefined,
    wanted: () => [{ peer: controller, addresses: [address] }],
    onChange: () => () => undefined,
  };
  const { privateKey } = memberIdentity(number);
  const parts = { clock: systemClock, logger: silent, random: randomBytes, members };
  const mesh = createMesh({ privateKey, listen: [], discovery: 'none' })(parts);
  const generations = createGenerationExchange({ fleet: chainHash, recoveryKey: '', known: [], isFrozen: false })({
    ...{ mesh, clock: systemClock, logger: silent },
    ...{ namedHashes: async () => [], members: () => ({}), onTurn: () => undefined },
  });
  const signal = AbortSignal.timeout(servedMs);
  const connected = connection(mesh, signal);
  await mesh.start();
  await generations.start();
  for (let retries = 0; ; retries += 1) {
    try {
      await connected;
      const beyondEntries = await catchUp(mesh, order, signal);
      await beginBeats(mesh, order, number, signal);
      return { beyondEntries, retries };
    } catch (error) {
      if (signal.aborted) throw error;
      await wait(retryMs * (0.5 + Math.random()));
    }
  }
}

/** Resolves when the first connection is up. */
async function connection(mesh: Mesh, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const unsubscribe = mesh.onPeerChange((_peer, isConnected) => isConnected && resolve());
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  await promise.finally(() => {
    unsubscribe();
    signal.removeEventListener('abort', onAbort);
  });
}

/** Pulls what the member lacks and goes on following. @returns the bytes that passed beyond the data of the entries. */
async function catchUp(mesh: Mesh, order: SessionsOrder, signal: AbortSignal): Promise<number> {
  const { controller, index, chainHash, lastIndex } = order;
  const stream = await mesh.open(controller, entryPullProtocol, { signal });
  const previous = new Uint8Array(Buffer.from(chainHash, 'hex'));
  const request = encode({ version: 1, from: index + 1, previous });
  await stream.send(request);
  let beyondEntries = request.byteLength;
  for (let reached = index; reached < lastIndex; ) {
    const bytes = await stream.receive({ signal });
    const answer = decode(entryPullAnswerSchema, bytes ?? new Uint8Array(0), messageBytesMax);
    if (answer.kind === 'refused') throw new Error(answer.error.message);
    beyondEntries += bytes?.byteLength ?? 0;
    if (answer.kind !== 'entries') continue;
    reached += answer.entries.length;
    beyondEntries -= answer.entries.reduce((sum, data) => sum + data.byteLength, 0);
  }
  void follow(stream);
  return beyondEntries;
}

async function beginBeats(mesh: Mesh, order: SessionsOrder, number: number, signal: AbortSignal): Promise<void> {
  const { controller, lastIndex } = order;
  const stream = await mesh.open(controller, beatProtocol, { signal });
  const beat = (): Promise<void> => stream.send(encode(beatAt(lastIndex)));
  await beat();
  // Spread evenly over the period.
  const begin = (): void => void setInterval(() => beat().catch(() => undefined), beatPeriodMs);
  setTimeout(begin, ((number % beatsSpread) / beatsSpread) * beatPeriodMs);
}

/** Reads on, so that credit goes back. */
async function follow(stream: Awaited<ReturnType<Mesh['open']>>): Promise<void> {
  while ((await stream.receive().catch(() => undefined)) !== undefined);
}

function beatAt(ledgerIndex: number): Beat {
  return {
    ...{ version: 1, atMs: Date.now(), release: '0.1.0', incarnation: 1, journalSequence: 0, ledgerIndex },
    ...{ running: closure, booted: closure, activity: null, traffic },
  };
}

async function run(order: SessionsOrder): Promise<void> {
  const numbers = Array.from({ length: order.count }, (_, at) => order.first + at);
  const opened = await Promise.allSettled(numbers.map((number) => openSession(order, number)));
  const sessions = opened.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const failures = opened.flatMap((each) => (each.status === 'rejected' ? [String(each.reason)] : []));
  const beyondEntriesMax = Math.max(0, ...sessions.map(({ beyondEntries }) => beyondEntries));
  const retries = sessions.reduce((sum, session) => sum + session.retries, 0);
  const report: SessionsReport = {
    ...{ served: sessions.length, failures: failures.slice(0, 3), retries, beyondEntriesMax },
  };
  process.send?.(report);
}

if (process.argv[2] === 'serve') {
  process.on('message', (order) => void run(order as SessionsOrder));
  process.once('disconnect', () => process.exit(0));
  process.send?.({ ready: true });
}
