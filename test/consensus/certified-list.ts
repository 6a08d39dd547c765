// A list whose voters certify it: words that begin with "mark" get certificates of their own, those with "never" none.
// It follows the voters by what configuration entries say, and keeps certificates in memory.

import type { CertifiedLedger, Certifying } from '../../node/consensus/index.ts';
import { type Identity, identityFromSeed, verifySignature } from '../../node/mesh/identity.ts';
import {
  type Certificate,
  configurationContextOf,
  isCertified,
  nextVoterSet,
  type VoterIdentity,
  type VoterSet,
} from '../../protocols/certificate.ts';
import { hashOf } from '../../protocols/codec.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { ListMachine } from './list-machine.ts';

export const certifiedFleet = hashOf('a certified fleet');

export const voterKey = (raftId: number): Identity => identityFromSeed(new Uint8Array(32).fill(raftId));

/** The peer of a raft id. */
export const peerOf = (raftId: number): string => identityFromSeed(new Uint8Array(32).fill(100 + raftId)).peer;

export const identityOf = (raftId: number): VoterIdentity => ({
  raftId,
  peer: peerOf(raftId),
  key: voterKey(raftId).peer,
});

const wordOf = ({ type, data }: CommittedEntry): string => (type === 'normal' ? new TextDecoder().decode(data) : '');

export class CertifiedList extends ListMachine implements CertifiedLedger {
  readonly certificates = new Map<number, Certificate>();
  /** Words that this voter will not sign for. */
  refused = new Set<string>();
  /** Words about which it cannot tell yet. */
  undecided = new Set<string>();
  /** Entries about which it was asked. */
  readonly judged = new Set<number>();
  /** True where it signs for nothing any more. */
  refusesAll = false;
  /** What its key was used for. */
  readonly signed: Uint8Array[] = [];
  #voterSets: VoterSet[];
  #marks = new Set<number>();

  constructor(voters: number) {
    super();
    const first = Array.from({ length: voters }, (_, position) => identityOf(position + 1));
    this.#voterSets = [{ generation: 0, index: 1, voters: first, votersOutgoing: [] }];
  }

  certifying(raftId: number): Certifying {
    return {
      ledger: () => this,
      sign: (statement) => {
        this.signed.push(statement);
        return voterKey(raftId).sign(statement);
      },
      verifySignature,
    };
  }

  override async apply(entries: readonly CommittedEntry[]): Promise<void> {
    await super.apply(entries);
    for (const entry of entries) {
      const before = this.voterSetBefore(entry.index);
      if (entry.type === 'configuration' && before) {
        this.#voterSets.push(nextVoterSet(before, entry.index, configurationContextOf(entry)));
      }
      if (entry.type === 'configuration' || wordOf(entry).startsWith('mark')) this.#marks.add(entry.index);
    }
  }

  /** As a ledger starts again from a snapshot: what it still waited for is forgotten. */
  putAway(): void {
    this.certificates.clear();
    this.#marks.clear();
  }

  fleet(): string {
    return certifiedFleet;
  }

  voterSetBefore(index: number): VoterSet | undefined {
    return this.#voterSets.findLast((set) => set.index < index);
  }

  verdictOn(entry: CommittedEntry): ReturnType<CertifiedLedger['verdictOn']> {
    this.judged.add(entry.index);
    if (this.undecided.has(wordOf(entry))) return { kind: 'wait' };
    if (!this.refused.has(wordOf(entry)) && !this.refusesAll) return { kind: 'sign' };
    return { kind: 'refuse', reason: 'refused here', isAlarm: true };
  }

  recall({ index, type }: CommittedEntry): void {
    if (type === 'configuration') this.#marks.add(index);
  }

  uncertified(): readonly number[] {
    return [...this.#marks].filter((index) => !this.certificates.has(index));
  }

  certificateAt(index: number): Certificate | undefined {
    return this.certificates.get(index);
  }

  certifiedIndex(): number {
    return Math.max(0, ...this.certificates.keys());
  }

  async take(certificate: Certificate): Promise<void> {
    const set = this.voterSetBefore(certificate.index);
    if (!set || !isCertified(set, certifiedFleet, certificate, verifySignature)) {
      throw new ParleyError('certificate-invalid', `a certificate of entry ${certificate.index} is no good`);
    }
    this.certificates.set(certificate.index, certificate);
  }
}
