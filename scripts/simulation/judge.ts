// Owns what must hold in every schedule. It sees the fleet from outside: what every peer applied, who led and voted, which
// orders were executed, what clients were told; and it keeps its own book of plans, approvals and orders, so that a mistake
// in the ledger's rules does not excuse itself.

import type { Certificate } from '../../protocols/certificate.ts';
import type { CommittedEntry, TailRecord } from '../../protocols/consensus-record.ts';
import type { SlotRecord } from '../../protocols/device-record.ts';
import { type EntryBody, type LedgerEntry, readEntry } from '../../protocols/ledger-entries.ts';
import type { CommandResult, LedgerState } from '../../protocols/ledger-state.ts';
import { operators } from './workshop.ts';

/** Whole states are compared at indexes that this divides: a hash of the state takes long. */
const stateHashPeriod = 64;

interface Chosen {
  readonly chainHash: string;
  readonly term: number;
}

interface BookedOrder {
  readonly body: EntryBody<'order-given'>;
  readonly isApproved: boolean;
}

export interface Execution {
  readonly peer: string;
  readonly host: string;
  readonly toplevel: string;
  /** The slot's record, and whether a crash now would leave it. */
  readonly slot: SlotRecord | undefined;
  readonly isSynced: boolean;
}

export class Judge {
  readonly violations: string[] = [];
  /** The last index that anybody applied. */
  lastIndex = 1;
  /** Everything that was committed since the beginning. */
  readonly entries: CommittedEntry[] = [];
  readonly #leaders = new Map<number, number>();
  readonly #votes = new Map<string, number>();
  readonly #lastVotes = new Map<number, { readonly term: number; readonly candidate: number }>();
  readonly #chosen = new Map<number, Chosen>();
  readonly #stateHashes = new Map<number, string>();
  readonly #waiting = new Map<number, LedgerEntry | undefined>();
  readonly #plans = new Map<string, EntryBody<'plan-made'>>();
  readonly #approved = new Set<string>();
  /** Hosts by the plans of their rollbacks: those were approved when they first ran. */
  readonly #rollbacks = new Map<string, string>();
  readonly #orders = new Map<number, BookedOrder>();
  readonly #executed = new Map<string, { number: number; toplevel: string; hasEnded: boolean }>();
  readonly #acknowledged = new Map<string, CommandResult>();
  #booked = 1;
  #certifiedIndex = 1;
  #automaticHosts = new Set<string>();

  get terms(): number {
    return this.#leaders.size;
  }

  get acknowledgedCount(): number {
    return this.#acknowledged.size;
  }

  accuse(text: string): void {
    if (this.violations.length < 10) this.violations.push(text);
  }

  /** At most one voter leads a term. @returns whether the term is new. */
  led(raftId: number, term: number): boolean {
    const known = this.#leaders.get(term);
    if (known !== undefined && known !== raftId) this.accuse(`voters ${known} and ${raftId} both lead term ${term}`);
    this.#leaders.set(term, raftId);
    return known === undefined;
  }

  /** A voter tells a candidate that it has its vote: one in a term, whatever happens to the voter in between. */
  voted(raftId: number, term: number, candidate: number): void {
    const key = `${raftId} ${term}`;
    const known = this.#votes.get(key);
    if (known !== undefined && known !== candidate) {
      this.accuse(`voter ${raftId} votes for ${known} and for ${candidate} in term ${term}`);
    }
    this.#votes.set(key, candidate);
    const last = this.#lastVotes.get(raftId);
    if (last === undefined || last.term < term) this.#lastVotes.set(raftId, { term, candidate });
  }

  /** A process has died: what its disk says must not take back what the voter promised. */
  left(raftId: number, tail: Pick<TailRecord, 'term' | 'vote'> | undefined): void {
    const promise = this.#lastVotes.get(raftId);
    if (promise === undefined) return;
    const { term, candidate } = promise;
    if (tail === undefined || tail.term < term || (tail.term === term && tail.vote !== candidate)) {
      this.accuse(`voter ${raftId} dies and forgets its vote for ${candidate} in term ${term}`);
    }
  }

  /** A voter's state machine is given a committed entry. @returns whether it is the first to get it. */
  applied(peer: string, entry: CommittedEntry): boolean {
    const { index, chainHash, term, type, data } = entry;
    const known = this.#chosen.get(index);
    if (known === undefined) {
      this.#chosen.set(index, { chainHash, term });
      this.entries.push(entry);
      this.#waiting.set(index, type === 'normal' ? readEntry(data) : undefined);
      this.lastIndex = Math.max(this.lastIndex, index);
      this.#book();
    } else if (known.chainHash !== chainHash) {
      this.accuse(`${peer} applies another entry ${index} of term ${term} than was applied in term ${known.term}`);
    }
    return known === undefined;
  }

  /** A peer holds a state; each is one of the single ledger's. */
  saw(peer: string, state: LedgerState, stateHash: () => string): void {
    const { index, chainHash } = state;
    const known = this.#chosen.get(index);
    if (index > 1 && known?.chainHash !== chainHash) {
      this.accuse(`${peer} holds a state of index ${index} that is none of the ledger's`);
    }
    if (index % stateHashPeriod === 0) this.compare(peer, index, stateHash());
  }

  compare(peer: string, index: number, stateHash: string): void {
    const known = this.#stateHashes.get(index) ?? stateHash;
    if (known !== stateHash) this.accuse(`${peer} comes to another state at index ${index} than its fellows`);
    this.#stateHashes.set(index, known);
  }

  /** A peer believes a certificate: it is about what was committed, and nothing else can be. */
  certified(peer: string, { index, chainHash }: Pick<Certificate, 'index' | 'chainHash'>): void {
    const known = this.#chosen.get(index);
    if (index > 1 && known?.chainHash !== chainHash)
      this.accuse(`${peer} has a certificate of entry ${index} that was not committed`);
    this.#certifiedIndex = Math.max(this.#certifiedIndex, index);
  }

  /** A device begins to run the system of an order. */
  executes({ peer, host, toplevel, slot, isSynced }: Execution): void {
    if (slot === undefined || !isSynced) {
      this.accuse(`${host} runs '${toplevel}' without an order that a crash would leave on its disk`);
      return;
    }
    const { number } = slot;
    const order = this.#orders.get(number);
    if (order === undefined) {
      this.accuse(`${host} executes order ${number}, which is not in the ledger`);
      return;
    }
    const { body, isApproved } = order;
    // A certificate covers all that its entry is chained to.
    if (number > this.#certifiedIndex) this.accuse(`${host} executes order ${number}, which no voters have certified`);
    if (!isApproved) this.accuse(`${host} executes order ${number}, whose plan nobody approved`);
    if (body.host !== host || body.closure !== toplevel || body.plan !== slot.plan) {
      this.accuse(`${host} runs '${toplevel}' for order ${number}, which says '${body.closure}' for ${body.host}`);
    }
    const last = this.#executed.get(peer);
    if (last !== undefined && number < last.number) {
      this.accuse(`${host} executes order ${number} after order ${last.number}`);
    }
    if (last?.number === number && (last.toplevel !== toplevel || last.hasEnded)) {
      this.accuse(`${host} executes order ${number} once more, for '${toplevel}'`);
    }
    this.#executed.set(peer, { number, toplevel, hasEnded: false });
  }

  /** A device has said how an order ended. */
  ended(peer: string, number: number): void {
    const last = this.#executed.get(peer);
    if (last?.number === number) last.hasEnded = true;
  }

  /** A client was told what its command came to. */
  acknowledged(commandId: string, result: CommandResult): void {
    const known = this.#acknowledged.get(commandId) ?? result;
    if (known.index !== result.index) {
      this.accuse(`command ${commandId} came to entry ${known.index}, and asked again to ${result.index}`);
    }
    this.#acknowledged.set(commandId, known);
  }

  /** The end: nothing that was applied or acknowledged is missing, and nothing happened twice. */
  concludes(peer: string, state: LedgerState): void {
    if (state.index < this.lastIndex) this.accuse(`${peer} ends at ${state.index}: ${this.lastIndex} was committed`);
    for (const [commandId, { index }] of this.#acknowledged) {
      if (state.commands[commandId]?.index !== index) this.accuse(`command ${commandId} was acknowledged and is lost`);
    }
    const started = new Map<string, string>();
    for (const { commandId, id, parent } of Object.values(state.tasks)) {
      if (commandId === null || parent !== null) continue;
      const other = started.get(commandId);
      if (other !== undefined) this.accuse(`command ${commandId} started ${other} and ${id}`);
      started.set(commandId, id);
    }
  }

  /** Goes on with its own book as far as the entries are known without a gap. */
  #book(): void {
    while (this.#waiting.has(this.#booked + 1)) {
      this.#booked += 1;
      const entry = this.#waiting.get(this.#booked);
      this.#waiting.delete(this.#booked);
      if (entry !== undefined) this.#note(entry, this.#booked);
    }
  }

  #note(entry: LedgerEntry, index: number): void {
    switch (entry.kind) {
      case 'policy-adopted': {
        const hosts = Object.entries(entry.body.hosts);
        this.#automaticHosts = new Set(hosts.filter(([, { approval }]) => approval === 'auto').map(([host]) => host));
        break;
      }
      case 'plan-made': {
        this.#plans.set(entry.body.plan, entry.body);
        const { hosts, changesPolicy, plan } = entry.body;
        if (!changesPolicy && hosts.every((host) => this.#automaticHosts.has(host))) this.#approved.add(plan);
        break;
      }
      case 'approval-given': {
        const { verdict, plan } = entry.body;
        if (verdict === 'approve' && hasRole(entry.actor, 'approver')) this.#approved.add(plan);
        break;
      }
      case 'rollback-requested': {
        const { plan, host } = entry.body;
        if (hasRole(entry.actor, 'deployer') && !this.#rollbacks.has(plan)) this.#rollbacks.set(plan, host);
        break;
      }
      case 'order-given': {
        const { plan, host } = entry.body;
        if (this.#rollbacks.get(plan) === host) this.#approved.add(plan);
        const isNamed = this.#plans.get(plan)?.hosts.includes(host) ?? this.#rollbacks.get(plan) === host;
        this.#orders.set(index, { body: entry.body, isApproved: isNamed && this.#approved.has(plan) });
        break;
      }
      default:
    }
  }
}

function hasRole(actor: string, role: string): boolean {
  const known: Readonly<Record<string, { readonly roles: readonly string[] }>> = operators;
  return Object.hasOwn(known, actor) && (known[actor]?.roles.includes(role) ?? false);
}
