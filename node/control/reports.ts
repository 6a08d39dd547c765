// Owns the controller's pulling of journals: whoever's beat says that there is more is asked for it, and what the fleet must
// know is proposed. Reports are verified by the journal room; here they only change hands.

import { ParleyError } from '../../protocols/errors.ts';
import { reportsPerPageMax } from '../../protocols/journal.ts';
import type { ControlComponents } from './control-types.ts';
import type { Presence } from './presence.ts';
import { beginning, isNewer, type JournalPosition, reportEntries } from './reports-core.ts';

/** Journals pulled at once. */
const pullsMax = 8;
/** A peer that could not be asked is asked again after this time. */
const retryMs = 2_000;
/** One page: a short exchange with a peer that has just sent a beat. */
const pullTimeoutMs = 15_000;

export interface Reports {
  start(): void;
  stop(): Promise<void>;
}

export function createReports(
  components: Pick<ControlComponents, 'ledger' | 'leadership' | 'journal' | 'mesh' | 'clock' | 'logger'> & {
    readonly presence: Pick<Presence, 'of' | 'onChange'>;
  },
): Reports {
  const { ledger, leadership, journal, mesh, clock, presence } = components;
  const logger = components.logger.child({ part: 'reports' });
  /** Up to where each journal was looked through; what needed an entry has one. */
  const pulled = new Map<string, JournalPosition>();
  const pulling = new Map<string, Promise<void>>();
  const notBeforeMs = new Map<string, number>();
  /** Peers whose journals hold more than was pulled, as far as their last beats say. */
  const owing = new Set<string>();
  let stopping = new AbortController();
  let stops: (() => void)[] = [];

  function positionOf(peer: string, name: string): JournalPosition {
    const device = ledger.state().devices[name];
    const recorded = device === undefined ? beginning : device;
    const seen = pulled.get(peer) ?? beginning;
    return isNewer(seen, recorded) ? seen : { incarnation: recorded.incarnation, sequence: recorded.sequence };
  }

  /** Whether a peer that is there has written more than was pulled. */
  function isOwed(peer: string): boolean {
    const member = ledger.state().members[peer];
    const { online, beat } = presence.of(peer);
    if (member === undefined || !online || beat === null) return false;
    const there = { incarnation: beat.incarnation, sequence: beat.journalSequence };
    return there.sequence > 0 && isNewer(there, positionOf(peer, member.name));
  }

  function look(peer: string): void {
    if (isOwed(peer)) owing.add(peer);
    else owing.delete(peer);
    if (owing.has(peer) && leadership.leads()) pullSoon(peer);
  }

  function pullSoon(peer: string): void {
    const member = ledger.state().members[peer];
    if (member === undefined || stopping.signal.aborted || pulling.has(peer) || pulling.size >= pullsMax) return;
    if (clock.monotonicMs() < (notBeforeMs.get(peer) ?? 0)) return;
    const pull = pullFrom(peer, member.name)
      .catch((error: unknown) => {
        notBeforeMs.set(peer, clock.monotonicMs() + retryMs);
        const code = error instanceof ParleyError ? error.code : 'internal';
        logger.warn({ host: member.name, code, error: String(error) }, 'a journal could not be taken over');
      })
      .finally(() => {
        pulling.delete(peer);
        lookAgain();
      });
    pulling.set(peer, pull);
  }

  /** Those that could not be asked before: too many at once, or a failure. */
  function lookAgain(): void {
    for (const peer of [...owing]) look(peer);
  }

  function lookAll(): void {
    for (const peer of Object.keys(ledger.state().members)) look(peer);
  }

  async function pullFrom(peer: string, name: string): Promise<void> {
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(pullTimeoutMs)]);
    for (;;) {
      const position = positionOf(peer, name);
      const reports = await readFrom(peer, position, signal);
      const last = reports.at(-1);
      if (last === undefined) {
        // Nothing came although the beat promised it: the next beat says more.
        notBeforeMs.set(peer, clock.monotonicMs() + retryMs);
        return;
      }
      for (const body of reportEntries(reports, ledger.state().devices[name])) {
        await ledger.propose({ kind: 'device-reported', actor: 'controller', body }, { signal }).catch(unlessStale);
      }
      pulled.set(peer, { incarnation: last.incarnation, sequence: last.sequence });
      const { beat } = presence.of(peer);
      const there = beat === null ? beginning : { incarnation: beat.incarnation, sequence: beat.journalSequence };
      if (!isNewer(there, positionOf(peer, name))) return;
    }
  }

  async function readFrom(peer: string, position: JournalPosition, signal: AbortSignal) {
    const from = position.sequence + 1;
    if (peer !== mesh.self) return journal.pull({ peer, incarnation: position.incarnation, from, signal });
    const isSame = journal.incarnation() === position.incarnation;
    return journal.read(isSame ? from : 1, reportsPerPageMax);
  }

  return {
    start() {
      if (stops.length > 0) return;
      stopping = new AbortController();
      stops = [presence.onChange(look), leadership.onChange(lookAll), clock.every(retryMs, lookAgain)];
      lookAll();
    },
    async stop() {
      for (const stop of stops) stop();
      stops = [];
      stopping.abort(new ParleyError('cancelled', 'the peer is stopping'));
      await Promise.all(pulling.values());
    },
  };
}

/** Another controller told it before us. */
function unlessStale(error: unknown): void {
  if (!(error instanceof ParleyError) || error.code !== 'report-stale') throw error;
}
