// Owns what a voter tells of what it keeps for the fleet: how much of what the ledger names is not here. No voter is let go
// while it has what the others lack.

import type { BeatFacts } from '../control/index.ts';
import type { Ledger } from '../ledger/index.ts';
import type { ProjectFollower } from './project-follower.ts';

export interface Keeping {
  /** For the beat; empty on peers that do not vote, and before the first look. */
  facts(): Pick<BeatFacts, 'keeps'>;
  /** Called when the facts have changed. */
  onChange(listener: () => void): void;
}

/** The project's head counts as one more thing that may be missing. `follower` is null where no project is kept. */
export function keepingOf(
  ledger: Pick<Ledger, 'kept' | 'onKept'>,
  follower: Pick<ProjectFollower, 'isBehind' | 'onCaughtUp'> | null,
): Keeping {
  return {
    facts() {
      const kept = ledger.kept();
      if (kept === undefined) return {};
      return { keeps: { index: kept.index, lacking: kept.lacking + (follower?.isBehind() ? 1 : 0) } };
    },
    onChange(listener) {
      ledger.onKept(listener);
      follower?.onCaughtUp(listener);
    },
  };
}
