// Owns how a peer hears of generations: it asks each peer that it meets, believes a record that the recovery key has signed or
// that root has named on this device, and keeps to the first one that it sees; what root has named wins over any other.

import { decode, encode } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { type GenerationRecord, generationHash } from '../../protocols/generation.ts';
import {
  generationAnswerSchema,
  generationProtocol,
  generationRequestBytesMax,
  generationRequestSchema,
} from '../../protocols/generation-exchange.ts';
import type { JoinContact } from '../../protocols/join.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { membersMax, messageBytesMax } from '../../protocols/limits.ts';
import { contactsMax } from '../../protocols/membership.ts';
import type { Clock, Logger, Mesh, MessageStream, Startable } from '../interfaces.ts';
import { isSignedByRecoveryKey } from './recovery-key.ts';
import type { VoteTurn } from './vote-plan.ts';

const answerTimeoutMs = 10_000;
/**
 * A peer that gave no answer is asked again. One that did has nothing new while it stays connected: it takes up a generation by
 * starting anew. Only what root has named since may be among what it told before.
 */
const retryMs = 15_000;
/** Of a thousand that are to be asked again these are at once. */
const retriesMax = 16;
/** Once there are records that nobody has vouched for: root may have named one. */
const lookPeriodMs = 2_000;
/** Of what one peer tells and nobody has vouched for, the log names so much, the newest first. */
const doubtsPerPeerMax = 8;

export interface GenerationExchangeInit {
  readonly fleet: string;
  /** Public half of the fleet's recovery key, as genesis has it. */
  readonly recoveryKey: string;
  /** Those that this peer has accepted, by number. */
  readonly known: readonly GenerationRecord[];
  /** It has met a rival of one of them already. */
  readonly isFrozen: boolean;
}

export function createGenerationExchange(init: GenerationExchangeInit): (components: {
  readonly mesh: Pick<Mesh, 'handle' | 'open' | 'connectedPeers' | 'onPeerChange'>;
  /** Hashes of the records that root has named on this device. */
  readonly namedHashes: () => Promise<readonly string[]>;
  /** The fleet's members, as far as this peer knows. */
  readonly members: () => LedgerState['members'];
  /** Called with what is to become of this peer. */
  readonly onTurn: (turn: VoteTurn) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}) => Startable {
  const { fleet, recoveryKey, known } = init;
  return ({ mesh, namedHashes, members, onTurn, clock, logger }) => {
    /** Hashes of records that nobody has vouched for, by who told them first: nobody crowds out what others tell. */
    const doubted = new Map<string, Set<string>>();
    /** Named by root: for these everybody is asked once more. */
    const sought = new Set<string>();
    let stops: (() => void)[] = [];
    let stopping = new AbortController();
    /** Connected peers: true once they have answered, or have nothing to tell. */
    const answered = new Map<string, boolean>();

    async function serve(stream: MessageStream): Promise<void> {
      const bytes = await stream.receive({ signal: AbortSignal.timeout(answerTimeoutMs) });
      const request = decode(
        generationRequestSchema,
        bytes ?? new Uint8Array(0),
        generationRequestBytesMax,
        'generation request',
      );
      const named = new Set(request.known.map(({ hash }) => hash));
      await stream.send(encode({ version: 1, records: known.filter((record) => !named.has(generationHash(record))) }));
      await stream.close();
    }

    async function ask(peer: string): Promise<void> {
      const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(answerTimeoutMs)]);
      const stream = await mesh.open(peer, generationProtocol, { signal });
      try {
        const named = known.map((record) => ({ number: record.number, hash: generationHash(record) }));
        await stream.send(encode({ version: 1, known: named }));
        const bytes = await stream.receive({ signal });
        if (bytes === undefined) return;
        const { records } = decode(generationAnswerSchema, bytes, messageBytesMax, 'generations');
        consider(records, await namedHashes(), peer);
      } finally {
        stream.abort(new Error('the question is answered'));
      }
    }

    function consider(records: readonly GenerationRecord[], named: readonly string[], peer: string): void {
      const ours = records.filter((record) => record.fleet === fleet);
      const believed = ours.filter(
        (record) => isSignedByRecoveryKey(recoveryKey, record) || named.includes(generationHash(record)),
      );
      for (const record of ours.toSorted((a, b) => b.number - a.number)) {
        if (!believed.includes(record)) doubt(record, peer);
      }
      const newest = Math.max(...[...known, ...believed].map(({ number }) => number));
      const fresh = new Map<number, GenerationRecord>();
      for (const record of believed.toSorted((a, b) => a.number - b.number)) {
        if (record.number < (known.at(-1)?.number ?? 0)) continue;
        const pinned = fresh.get(record.number) ?? known.find(({ number }) => number === record.number);
        const [hash, pinnedHash] = [generationHash(record), pinned && generationHash(pinned)];
        if (hash === pinnedHash || (pinnedHash !== undefined && named.includes(pinnedHash))) continue;
        if (pinned === undefined || named.includes(hash)) fresh.set(record.number, record);
        // A newer generation settles which of two rivals was right.
        else if (record.number === newest && !init.isFrozen) {
          onTurn({ kind: 'freeze', reason: rivalText(pinned, record) });
          return;
        }
      }
      const taken = [...fresh.values()];
      if (taken.length > 0) onTurn({ kind: 'new-generation', records: taken, contacts: contactsFor(taken) });
    }

    /** Whom to ask once the own ledger has gone back: those who vote now first. */
    function contactsFor(records: readonly GenerationRecord[]): JoinContact[] {
      const voting = new Map(records.at(-1)?.voters.map(({ peer, raftId }) => [peer, raftId]));
      const contacts = Object.values(members()).map(({ peer, addresses }) => ({
        ...{ peer, addresses },
        raftId: voting.get(peer) ?? 0,
      }));
      return contacts.sort((a, b) => b.raftId - a.raftId).slice(0, contactsMax);
    }

    function doubt(record: GenerationRecord, peer: string): void {
      const hash = generationHash(record);
      const told = doubted.get(peer) ?? new Set();
      if (told.size >= doubtsPerPeerMax || [...doubted.values()].some((hashes) => hashes.has(hash))) return;
      doubted.set(peer, told.add(hash));
      const [oldest] = doubted.keys();
      if (doubted.size > membersMax && oldest !== undefined) doubted.delete(oldest);
      const advice = `the fleet's recovery key has not signed it: if it is right, run 'parley trust ${hash}' as root here`;
      logger.warn({ peer, generation: record.number, hash }, advice);
    }

    function askSafely(peer: string): void {
      answered.set(peer, true);
      ask(peer).catch((error: unknown) => {
        logger.debug({ peer, error: String(error) }, 'a peer told no generations');
        // One of a release before there were generations has none to tell.
        const isOld = error instanceof ParleyError && error.code === 'protocol-unsupported';
        if (answered.has(peer)) answered.set(peer, isOld);
      });
    }

    function askAgain(): void {
      const silent = [...answered].filter(([, hasAnswered]) => !hasAnswered);
      for (const [peer] of silent.slice(0, retriesMax)) askSafely(peer);
    }

    async function lookAgain(): Promise<void> {
      if (doubted.size === 0) return;
      try {
        const unknown = new Set(await namedHashes()).difference(new Set([...sought, ...known.map(generationHash)]));
        for (const hash of unknown) sought.add(hash);
        if (unknown.size > 0) for (const peer of answered.keys()) answered.set(peer, false);
        if (sought.size > 0) askAgain();
      } catch (error) {
        logger.warn({ error: String(error) }, 'cannot tell whether root has named a generation');
      }
    }

    function onPeer(peer: string, connected: boolean): void {
      if (connected) askSafely(peer);
      else answered.delete(peer);
    }

    mesh.handle(generationProtocol, serve, { inboundStreamsMax: 2, messageBytesMax, admits: 'removed' });
    return {
      async start() {
        stopping = new AbortController();
        stops = [
          mesh.onPeerChange(onPeer),
          clock.every(retryMs, askAgain),
          clock.every(lookPeriodMs, () => void lookAgain()),
        ];
        for (const { peer } of mesh.connectedPeers()) askSafely(peer);
      },
      async stop() {
        for (const stop of stops) stop();
        stops = [];
        answered.clear();
        stopping.abort();
      },
    };
  };
}

function rivalText(pinned: GenerationRecord, rival: GenerationRecord): string {
  const [ours, theirs] = [pinned, rival].map((record) => generationHash(record).slice(0, 16));
  return `two generations ${pinned.number} of the fleet exist: ${ours}, which this peer follows, and ${theirs}`;
}
