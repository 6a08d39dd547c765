// Owns the certificates that this peer has: checked once when they come in, and from then on the proof that what the own
// ledger says at these places was committed.

import { type Certificate, isCertified, type VoterSet } from '../../protocols/certificate.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { membersMax } from '../../protocols/limits.ts';
import type { CertificateKeeper, LedgerComponents } from './ledger-types.ts';

/** One for each host's newest order, and the configurations and checkpoints of late. */
const certificatesMax = 2 * membersMax;
const voterSetsMax = 64;

export interface Certificates extends CertificateKeeper {
  /** Takes note of the voters in force after an applied entry. */
  applied(state: Pick<LedgerState, 'index' | 'voterSet'>): void;
}

export function createCertificates(init: {
  readonly first: LedgerState;
  readonly verifySignature: LedgerComponents['verifySignature'];
  readonly onCertified: (certificate: Certificate) => void;
}): Certificates {
  const { fleet } = init.first;
  let appliedIndex = init.first.index;
  let voterSets: VoterSet[] = [init.first.voterSet];
  const certificates = new Map<number, Certificate>();
  let newest = 0;

  function voterSetBefore(index: number): VoterSet | undefined {
    return index > appliedIndex + 1 ? undefined : voterSets.findLast((set) => set.index < index);
  }

  return {
    voterSetBefore,
    certificateAt: (index) => certificates.get(index),
    certifiedIndex: () => newest,
    async take(certificate) {
      const { index } = certificate;
      const set = voterSetBefore(index);
      if (set === undefined) {
        const text = `a certificate of entry ${index} cannot be judged: this ledger is at ${appliedIndex}`;
        throw new ParleyError('certificate-early', text, { retryable: true });
      }
      if (!isCertified(set, fleet, certificate, init.verifySignature)) {
        throw new ParleyError('certificate-invalid', `a certificate of entry ${index} lacks a majority of the voters`);
      }
      certificates.set(index, certificate);
      const oldest = certificates.keys().next();
      if (certificates.size > certificatesMax && !oldest.done) certificates.delete(oldest.value);
      newest = Math.max(newest, index);
      init.onCertified(certificate);
    },
    applied({ index, voterSet }) {
      appliedIndex = index;
      if (voterSet.index > (voterSets.at(-1)?.index ?? 0)) voterSets = [...voterSets, voterSet].slice(-voterSetsMax);
    },
  };
}
