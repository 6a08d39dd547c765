// Owns what a voter may put its name to: entries that its own ledger accepted and, where they say something about the
// fleet that it can look up itself, that are true here too. Pure. An entry that was refused here is signed by nobody at its
// own place; what follows on it in the chain may be.

import { configurationContextOf, type VoterSet } from '../../protocols/certificate.ts';
import { encode } from '../../protocols/codec.ts';
import type { CommittedEntry, Configuration } from '../../protocols/consensus-record.ts';
import { type EntryBody, type LedgerEntry, readEntry } from '../../protocols/ledger-entries.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';

/** Whether this voter may sign for an entry that it has applied. */
export type Verdict =
  | { readonly kind: 'sign' }
  /** Not yet: the own state at a checkpoint is still being encoded. */
  | { readonly kind: 'wait' }
  /** Never. An alarm is what no controller in order asks for. */
  | { readonly kind: 'refuse'; readonly reason: string; readonly isAlarm: boolean };

/** What this peer knows at or after the entry. */
export interface Known {
  readonly state: LedgerState;
  /** The voters in force just after the entry, by the own ledger; undefined where it knows no more. */
  readonly setAfter: VoterSet | undefined;
  /** Hash of the own state at a `checkpoint-begun`; undefined while it is not known, null when it will never be. */
  readonly checkpointHash: (index: number) => string | null | undefined;
}

const sign: Verdict = { kind: 'sign' };
const refuse = (reason: string, isAlarm: boolean): Verdict => ({ kind: 'refuse', reason, isAlarm });

/** Entries of a state that deserve certificates of their own. */
export function marksOf(state: LedgerState): number[] {
  const orders = Object.values(state.orders).filter(({ outcome }) => outcome === null);
  const { voterSet, checkpointMade, generationIndex } = state;
  const places = [...orders.map(({ number }) => number), voterSet.index, checkpointMade];
  // Entry 1 is what everybody starts from: its hash is the fleet's id. A generation's first entry is proved by its record.
  return [...new Set(places)].filter((index) => index > 1 && index !== generationIndex).sort((a, b) => a - b);
}

/** True for entries that are certified singly as they come. */
export function isMark(entry: Pick<CommittedEntry, 'type'>, read: LedgerEntry | undefined): boolean {
  if (entry.type === 'configuration') return true;
  return read?.kind === 'order-given' || read?.kind === 'order-cancelled' || read?.kind === 'checkpoint-made';
}

/** Whether a voter may sign for an entry that it has applied, by what it knows now. */
export function verdictOn(entry: CommittedEntry, known: Known): Verdict {
  if (entry.type === 'configuration') return verdictOnConfiguration(entry, known);
  const read = readEntry(entry.data);
  switch (read?.kind) {
    case 'order-given':
      return verdictOnOrder(entry.index, read.body, known.state);
    case 'order-cancelled':
      return verdictOnCancelling(read.body, known.state);
    case 'checkpoint-made':
      return verdictOnCheckpoint(entry.index, read.body, known);
    case 'generation-begun':
      // The record proves it, and only where it was accepted; what follows on it in the chain is signed.
      return refuse('its record alone proves that a generation begins', known.state.generationIndex < entry.index);
    default:
      return sign;
  }
}

function verdictOnOrder(index: number, { host }: EntryBody<'order-given'>, { orders }: LedgerState): Verdict {
  const order = orders[host];
  if (order?.number === index) return sign;
  if (order !== undefined && order.number > index) return refuse(`'${host}' has a newer order: ${order.number}`, false);
  return refuse(`this ledger refused the order for '${host}'`, false);
}

function verdictOnCancelling(body: EntryBody<'order-cancelled'>, { orders }: LedgerState): Verdict {
  const order = orders[body.host];
  if (order?.number === body.order && order.cancelled) return sign;
  return refuse(`order ${body.order} of '${body.host}' is not cancelled here`, false);
}

function verdictOnCheckpoint(index: number, body: EntryBody<'checkpoint-made'>, known: Known): Verdict {
  const { checkpointMade, checkpointIndex } = known.state;
  if (checkpointMade > index) return refuse(`a newer checkpoint was made by entry ${checkpointMade}`, false);
  if (checkpointMade !== index || checkpointIndex !== body.index) return refuse('this ledger refused it', false);
  const own = known.checkpointHash(body.index);
  if (own === undefined) return { kind: 'wait' };
  if (own === null) return refuse(`the own state at entry ${body.index} was not kept`, false);
  if (own === body.stateHash) return sign;
  const [told, here] = [body.stateHash, own].map((hash) => hash.slice(0, 16));
  return refuse(`the own state at entry ${body.index} has the hash ${here}: the checkpoint says ${told}`, true);
}

/** What the entry says must be what the own ledger took from it, and what consensus put in force. */
function verdictOnConfiguration(entry: CommittedEntry, { setAfter }: Known): Verdict {
  const { configuration } = entry;
  if (configuration === undefined) return refuse('consensus does not say what it put in force', true);
  if (setAfter === undefined) return refuse('the voters in force at it are not known any more', false);
  if (setAfter.index !== entry.index) return refuse('it does not say who the voters are', true);
  const ids = (voters: VoterSet['voters']): string => voters.map(({ raftId }) => raftId).join();
  const isSame =
    ids(setAfter.voters) === configuration.voters.join() &&
    ids(setAfter.votersOutgoing) === configuration.votersOutgoing.join();
  if (isSame && isStated(entry, configuration)) return sign;
  return refuse('it names other voters than it put in force', true);
}

function isStated(entry: CommittedEntry, configuration: Configuration): boolean {
  const context = configurationContextOf(entry);
  return context === undefined || Buffer.compare(encode(context.configuration), encode(configuration)) === 0;
}
