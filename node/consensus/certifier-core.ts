// Owns collecting signatures: which places are under way, whom to ask, whose signatures count, and when a majority is
// there. Pure: time and the check of a signature come from outside. Places of their own go side by side; of the log's end,
// the tail, there is one at a time.

import {
  allVoters,
  type Certificate,
  type CertifiedPlace,
  certificateStatement,
  isVoterMajority,
  type VoterSet,
  voterKeyOf,
} from '../../protocols/certificate.ts';
import type { CertificateShare } from '../../protocols/certificate-exchange.ts';

/** Places under way at once: the rest waits for its turn. */
const roundsMax = 256;
/** A voter that has not answered is asked again: it may have been away, or not have known enough. */
const repeatMs = 1_000;
/** A tail that lacks a majority for so long gives way to a later one. */
const tailPatienceMs = 2_000;

/** A place and the voters in force just before it. */
export interface Wanted {
  readonly place: CertifiedPlace;
  readonly voterSet: VoterSet;
}

interface Round extends Wanted {
  readonly statement: Uint8Array;
  readonly startedAtMs: number;
  readonly signatures: Map<number, Uint8Array>;
  readonly askedAtMs: Map<number, number>;
}

/** What became of a share. `forged` is the sender's doing; `open` came first, late or twice: there is no certificate by it. */
export type ShareResult =
  | { readonly kind: 'open' | 'forged' }
  | { readonly kind: 'certified'; readonly certificate: Certificate; readonly voterSet: VoterSet };

export class Collector {
  readonly #fleet: string;
  readonly #verify: (key: string, bytes: Uint8Array, signature: Uint8Array) => boolean;
  readonly #rounds = new Map<number, Round>();
  #tail = 0;

  constructor(fleet: string, verify: (key: string, bytes: Uint8Array, signature: Uint8Array) => boolean) {
    this.#fleet = fleet;
    this.#verify = verify;
  }

  get full(): boolean {
    return this.#rounds.size >= roundsMax;
  }

  has(index: number): boolean {
    return this.#rounds.has(index);
  }

  /** True while a tail is under way that may still succeed. */
  hasTail(nowMs: number): boolean {
    const round = this.#rounds.get(this.#tail);
    return round !== undefined && nowMs - round.startedAtMs < tailPatienceMs;
  }

  begin(wanted: Wanted, nowMs: number): void {
    const { index } = wanted.place;
    if (this.#rounds.has(index)) return;
    const statement = certificateStatement(this.#fleet, wanted.place);
    this.#rounds.set(index, {
      ...wanted,
      statement,
      startedAtMs: nowMs,
      signatures: new Map(),
      askedAtMs: new Map(),
    });
  }

  /** Like begin(), for the log's end; the tail before it is given up. */
  beginTail(wanted: Wanted, nowMs: number): void {
    this.#rounds.delete(this.#tail);
    this.begin(wanted, nowMs);
    this.#tail = wanted.place.index;
  }

  /** A place is certified already, or cannot be. */
  end(index: number): void {
    this.#rounds.delete(index);
  }

  clear(): void {
    this.#rounds.clear();
  }

  /** What to ask each peer now, besides ourselves; asking is noted as done. */
  asks(nowMs: number, ownRaftId: number): ReadonlyMap<string, readonly CertifiedPlace[]> {
    const asks = new Map<string, CertifiedPlace[]>();
    for (const { place, voterSet, signatures, askedAtMs } of this.#rounds.values()) {
      for (const { raftId, peer } of allVoters(voterSet)) {
        if (raftId === ownRaftId || signatures.has(raftId)) continue;
        if (nowMs - (askedAtMs.get(raftId) ?? Number.NEGATIVE_INFINITY) < repeatMs) continue;
        askedAtMs.set(raftId, nowMs);
        asks.set(peer, [...(asks.get(peer) ?? []), place]);
      }
    }
    return asks;
  }

  /** Counts a voter's signature if it is one of a voter in force, and good. */
  share({ raftId, index, signature }: CertificateShare): ShareResult {
    const round = this.#rounds.get(index);
    if (round === undefined || round.signatures.has(raftId)) return { kind: 'open' };
    const { place, voterSet, statement, signatures } = round;
    const key = voterKeyOf(voterSet, raftId);
    if (key === undefined || !this.#verify(key, statement, signature)) return { kind: 'forged' };
    signatures.set(raftId, signature);
    if (!isVoterMajority(voterSet, new Set(signatures.keys()))) return { kind: 'open' };
    this.#rounds.delete(index);
    const sorted = [...signatures].sort(([a], [b]) => a - b);
    const signed = sorted.map(([signer, bytes]) => ({ raftId: signer, signature: bytes }));
    return { kind: 'certified', certificate: { version: 1, ...place, signatures: signed }, voterSet };
  }
}
