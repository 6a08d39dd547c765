// Owns what a voter's certifier hears from its ledger: which applied entries deserve certificates of their own and have
// none, and what it may sign.

import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { membersMax } from '../../protocols/limits.ts';
import type { Certificates } from './certificates.ts';
import { isMark, marksOf, verdictOn } from './certify-core.ts';
import type { Applied } from './ledger-core.ts';
import type { Certification } from './ledger-types.ts';

/** Each host's newest order, configurations and checkpoints, and as many that others have replaced. */
const marksMax = 2 * membersMax;

export interface LedgerCertification extends Certification {
  /** Takes note of an applied entry. */
  applied(entry: CommittedEntry, applied: Applied): void;
  /** A state took the place of entries. */
  restored(state: LedgerState): void;
}

export function createCertification(init: {
  readonly certificates: Certificates;
  readonly state: () => LedgerState;
  readonly checkpointHash: (index: number) => string | null | undefined;
  /** The newest generation that this peer has accepted. */
  readonly generation: number;
}): LedgerCertification {
  const { certificates, state, checkpointHash, generation } = init;
  const { voterSetBefore, certificateAt, certifiedIndex, take } = certificates;
  let marks = new Set(marksOf(state()));

  return {
    voterSetBefore,
    certificateAt,
    // Until the ledger has come to where the generation begins, nobody knows whether it is on the way there.
    certifiedIndex: () => (state().generation < generation ? 0 : certifiedIndex()),
    take,
    fleet: () => state().fleet,
    verdictOn(entry) {
      const verdict = verdictOn(entry, { state: state(), setAfter: voterSetBefore(entry.index + 1), checkpointHash });
      // What is refused once is refused for ever.
      if (verdict.kind === 'refuse') marks.delete(entry.index);
      return verdict;
    },
    recall({ index, type }) {
      if (type === 'configuration') marks.add(index);
    },
    uncertified() {
      // What came before a generation's beginning its record vouches for, and those who could sign for it are gone.
      const { generationIndex } = state();
      for (const index of marks) {
        if (index <= generationIndex || certificateAt(index) !== undefined) marks.delete(index);
      }
      return [...marks].sort((a, b) => a - b);
    },
    applied(entry, { state: next, entry: read, result }) {
      certificates.applied(next);
      // What was refused changes nothing: nobody needs to know of it for sure.
      if (result?.error || !isMark(entry, read)) return;
      marks.add(entry.index);
      const oldest = marks.values().next();
      if (marks.size > marksMax && !oldest.done) marks.delete(oldest.value);
    },
    restored(next) {
      certificates.applied(next);
      marks = new Set(marksOf(next));
    },
  };
}
