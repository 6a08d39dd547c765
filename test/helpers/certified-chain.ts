// A ledger with its voters' keys at hand: entries, changes of voters and checkpoints, and pages and proofs of them as servers
// in order send them. Tests bend these.

import assert from 'node:assert/strict';
import { recordsOf } from '../../node/ledger/trust-core.ts';
import type { Certificate, ConfigurationProof, VoterSet } from '../../protocols/certificate.ts';
import { encode, sha256Hex } from '../../protocols/codec.ts';
import { type CommittedEntry, encodeConfigurationChange } from '../../protocols/consensus-record.ts';
import type { CheckpointProof, EntryPage } from '../../protocols/entry-pull.ts';
import { createLedgerScript, type LedgerScript } from './ledger-script.ts';
import { signedBy } from './voter-keys.ts';

/** As consensus leaves a joint configuration: the entry names nobody. */
const leavingData = encodeConfigurationChange({ transition: 'automatic', steps: [], context: new Uint8Array(0) });

export interface CertifiedChain {
  readonly script: LedgerScript;
  entry(index: number): CommittedEntry;
  /** Index of the last entry. */
  last(): number;
  setBefore(index: number): VoterSet;
  /** Entries that change nothing much. */
  fill(count: number): void;
  /** Lets peers join as voters; they are numbered in order from 2 on. */
  enrol(...names: readonly string[]): void;
  /** Enters a joint configuration and leaves it again; returns the indexes of both entries. */
  change(voters: readonly number[]): [entering: number, leaving: number];
  /** Begins and makes a checkpoint; returns the index of the state. */
  checkpoint(): number;
  certificate(index: number, raftIds?: readonly number[]): Certificate;
  /** Normal entries, or up to a change of voters, with a certificate unless said otherwise. */
  page(from: number, to: number, isCertified?: boolean): EntryPage;
  /** Pages as a server sends them: one for each change of voters, and the rest. */
  pages(from: number, to?: number): EntryPage[];
  proof(index: number): ConfigurationProof;
  /** The newest checkpoint with the bytes of its state. */
  madeCheckpoint(): { readonly proof: CheckpointProof; readonly data: Uint8Array; readonly index: number };
}

export function createCertifiedChain(): CertifiedChain {
  const script = createLedgerScript();
  const { fleet } = script.genesis;
  const sets: VoterSet[] = [script.genesis.state.voterSet];
  let made: { readonly index: number; readonly at: number; readonly data: Uint8Array } | undefined;

  const chain: CertifiedChain = {
    script,
    entry: (index) => script.entries[index - 2] ?? assert.fail(`no entry ${index}`),
    last: () => script.entries.length + 1,
    setBefore: (index) => sets.findLast((set) => set.index < index) ?? assert.fail(`no voters before ${index}`),
    fill(count) {
      for (let number = 0; number < count; number += 1) script.apply('draft-discarded', {});
    },
    enrol(...names) {
      for (const name of names) script.join(name, ['voter']);
    },
    change(voters) {
      const { voters: votersOutgoing } = script.state();
      const placed = (): number => {
        assert.equal(script.state().voterSet.index, chain.last(), 'the configuration is in force');
        sets.push(script.state().voterSet);
        return chain.last();
      };
      script.configure({ voters: [...voters], votersOutgoing });
      const entering = placed();
      script.applyConfiguration(leavingData);
      return [entering, placed()];
    },
    checkpoint() {
      script.accept('checkpoint-begun', {});
      const data = encode(script.state());
      const { index } = script.state();
      chain.fill(3);
      script.accept('checkpoint-made', { index, stateHash: sha256Hex(data) });
      made = { index, at: chain.last(), data };
      return index;
    },
    certificate: (index, raftIds) => signedBy(chain.setBefore(index), fleet, chain.entry(index), raftIds),
    page(from, to, isCertified = true) {
      const entries = script.entries.slice(from - 2, to - 1);
      const { signatures } = chain.certificate(to);
      return {
        kind: 'entries',
        term: 1,
        entries: entries.map(({ data }) => data),
        ...(chain.entry(to).type === 'configuration' ? { endsWithConfiguration: true } : {}),
        ...(isCertified ? { signatures: signatures.map(({ raftId, signature }) => [raftId, signature]) } : {}),
      };
    },
    pages(from, to = chain.last()) {
      const ends = script.entries.filter(({ type, index }) => type === 'configuration' && index >= from && index < to);
      const bounds = [...ends.map(({ index }) => index), to];
      return bounds.map((end, at) => chain.page(at === 0 ? from : (bounds[at - 1] ?? 0) + 1, end));
    },
    proof(index) {
      const previous = index === 2 ? script.genesis.chainHash : chain.entry(index - 1).chainHash;
      return recordsOf(chain.entry(index), previous, chain.certificate(index)).configuration ?? assert.fail();
    },
    madeCheckpoint() {
      const { index, at, data } = made ?? assert.fail('no checkpoint was made');
      const proof = recordsOf(chain.entry(at), chain.entry(at - 1).chainHash, chain.certificate(at)).checkpoint;
      return { index, data, proof: proof ?? assert.fail() };
    },
  };
  return chain;
}
