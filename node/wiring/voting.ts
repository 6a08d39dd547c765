// Owns the start of a voter's consensus: its log begins where the ledger's own durable state is, and one that is not what it
// was is told of before the peer gives up starting.

import type { SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { JoinContact } from '../../protocols/join.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { advised, bootstrapLog, damaged, damagedLogCode, type LogDisk } from '../consensus/index.ts';
import type { Startable } from '../interfaces.ts';
import type { VoteFolder } from './vote-folder.ts';

export function createVoting(init: {
  /** The log was begun earlier: it is there, or it was lost. */
  readonly hasLog: boolean;
  readonly self: string;
  /** Who voted when that was last noted: the ledger's own state may be older. */
  readonly contacts: readonly JoinContact[];
}): (components: {
  readonly disk: LogDisk;
  readonly ledger: { state(): LedgerState };
  readonly consensus: Startable;
  readonly folder: Pick<VoteFolder, 'logBegun'>;
  readonly onDamage: (error: Error) => void;
}) => Startable {
  return ({ disk, ledger, consensus, folder, onDamage }) => {
    async function open(): Promise<void> {
      if (!init.hasLog) {
        await bootstrapLog(disk, baseOf(ledger.state()));
        await folder.logBegun();
      }
      await consensus.start();
    }

    return {
      async start() {
        try {
          await open();
        } catch (cause) {
          const isGone = cause instanceof ParleyError && cause.code === 'not-bootstrapped';
          const voters = [...ledger.state().voterSet.voters, ...init.contacts].filter(({ raftId }) => raftId > 0);
          const raftIds = [...new Set(voters.map(({ raftId }) => raftId))];
          const error = advised(isGone ? damaged('it is gone', cause) : cause, raftIds);
          const isDamaged = error instanceof ParleyError && error.code === damagedLogCode;
          if (isDamaged && voters.some(({ peer }) => peer !== init.self)) onDamage(error);
          throw error;
        }
      },
      stop: () => consensus.stop(),
    };
  };
}

/** Where the log of a voter begins that has the ledger's state and none of the entries before it. */
function baseOf({ index, term, chainHash, voters, learners, joint }: LedgerState): SnapshotMetadata {
  const { votersOutgoing, learnersNext, autoLeave } = joint ?? notJoint;
  return { index, term, chainHash, configuration: { voters, votersOutgoing, learners, learnersNext, autoLeave } };
}

const notJoint = { votersOutgoing: [], learnersNext: [], autoLeave: false };
