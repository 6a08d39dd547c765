// Owns what the voters of a bench vote on: a state machine that only counts, and certifies what it has applied as a ledger does,
// but for keeping certificates: the newest stays in memory. Its snapshots are a ledger's state, encoded, decoded and checked.

import type { CertifiedLedger, Certifying, StateMachine, StateMachineSnapshot } from '../../node/consensus/index.ts';
import { snapshotOf, stateOf } from '../../node/ledger/index.ts';
import { type Identity, verifySignature } from '../../node/mesh/index.ts';
import { type Certificate, isCertified, type VoterSet } from '../../protocols/certificate.ts';
import { hashOf } from '../../protocols/codec.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';

/** The chain's first hash, and the fleet's id. */
export const genesisHash = hashOf('bench');

export class CertifiedCounter implements StateMachine, CertifiedLedger {
  state: LedgerState | undefined;
  #last: Pick<CommittedEntry, 'index' | 'term' | 'chainHash'> = { index: 1, term: 1, chainHash: genesisHash };
  #newest: Certificate | undefined;
  readonly #voterSet: VoterSet;

  /** Takes the voters' keys, by raft id from 1 on. */
  constructor(keys: readonly Identity[]) {
    const voters = keys.map(({ peer }, position) => ({ raftId: position + 1, peer, key: peer }));
    this.#voterSet = { generation: 0, index: 1, voters, votersOutgoing: [] };
  }

  certifying({ sign }: Identity): Certifying {
    return { ledger: () => this, sign, verifySignature };
  }

  appliedIndex(): number {
    return this.#last.index;
  }

  async apply(entries: readonly CommittedEntry[]): Promise<void> {
    this.#last = entries.at(-1) ?? this.#last;
  }

  async snapshot(): Promise<{ index: number; data: Uint8Array }> {
    if (this.state === undefined) throw new Error('there is no state yet');
    const { index, term, chainHash } = this.#last;
    return snapshotOf({ ...this.state, index, term, chainHash });
  }

  async restore({ index, term, chainHash, data }: StateMachineSnapshot): Promise<void> {
    this.state = await stateOf({ index, term, chainHash, data });
    this.#last = { index, term, chainHash };
  }

  fleet(): string {
    return genesisHash;
  }

  voterSetBefore(index: number): VoterSet | undefined {
    return index > 1 ? this.#voterSet : undefined;
  }

  verdictOn(): ReturnType<CertifiedLedger['verdictOn']> {
    return { kind: 'sign' };
  }

  recall(): void {
    // Only the log's end is certified.
  }

  uncertified(): readonly number[] {
    return [];
  }

  certificateAt(index: number): Certificate | undefined {
    return this.#newest?.index === index ? this.#newest : undefined;
  }

  certifiedIndex(): number {
    return this.#newest?.index ?? 0;
  }

  async take(certificate: Certificate): Promise<void> {
    if (!isCertified(this.#voterSet, genesisHash, certificate, verifySignature)) {
      throw new ParleyError('certificate-invalid', `a certificate of entry ${certificate.index} is no good`);
    }
    if (certificate.index > this.certifiedIndex()) this.#newest = certificate;
  }
}
