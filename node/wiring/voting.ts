// Owns the start of a voter's consensus: its log begins where the ledger's own durable state is, and one that is not what it
// was is told of before the peer gives up starting, or as soon as the leader's words show it.

import { allVoters } from '../../protocols/certificate.ts';
import { plainConfiguration, type RaftEntry, type SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import type { JoinContact } from '../../protocols/join.ts';
import { encodeEntry } from '../../protocols/ledger-entries.ts';
import { configurationIn } from '../../protocols/ledger-rules.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import {
  advised,
  beginLog,
  type Consensus,
  damaged,
  damagedLogCode,
  isDamage,
  type LogDisk,
} from '../consensus/index.ts';
import type { Startable } from '../interfaces.ts';
import type { VoteFolder } from './vote-folder.ts';

export function createVoting(init: {
  /** The log was begun earlier: it is there, or it was lost. */
  readonly hasLog: boolean;
  readonly self: string;
  readonly raftId: number;
  /** Those that the peer has accepted: one that is still to begin, and names this voter, it begins. */
  readonly generations: readonly GenerationRecord[];
  /** Who voted when that was last noted, and since which entry: the ledger's own state may be older. */
  readonly contacts: readonly JoinContact[];
  readonly votersIndex: number | undefined;
}): (components: {
  readonly disk: LogDisk;
  readonly ledger: { state(): LedgerState };
  readonly consensus: Pick<Consensus, 'start' | 'stop' | 'onRoleChange'>;
  readonly folder: Pick<VoteFolder, 'logBegun'>;
  readonly onDamage: (error: Pick<Error, 'message'>) => void;
}) => Startable {
  return ({ disk, ledger, consensus, folder, onDamage }) => {
    async function open(): Promise<void> {
      if (!init.hasLog) {
        const state = ledger.state();
        const begun = init.generations.findLast(
          ({ number, voters }) =>
            number > state.generation &&
            voters.some(({ peer, raftId }) => peer === init.self && raftId === init.raftId),
        );
        if (begun === undefined) await beginLog(disk, baseOf(state), []);
        else await beginLog(disk, generationBase(begun, state), [generationEntry(begun, state)]);
        await folder.logBegun();
      }
      consensus.onRoleChange(({ failure }) => {
        if (failure?.code === damagedLogCode) onDamage(failure);
      });
      await consensus.start();
    }

    return {
      async start() {
        try {
          await open();
        } catch (cause) {
          const isGone = cause instanceof ParleyError && cause.code === 'not-bootstrapped';
          const voters = votersKnown(init, ledger.state());
          const error = advised(isGone ? damaged('it is gone', cause) : cause, [...voters.keys()]);
          if (isDamage(error) && [...voters.values()].some((peer) => peer !== init.self)) onDamage(error);
          throw error;
        }
      },
      stop: () => consensus.stop(),
    };
  };
}

/** Who votes, by raft id, as far as this peer knows. What was noted counts alone where it is as new as the ledger's state. */
function votersKnown(
  { contacts, votersIndex }: Pick<Parameters<typeof createVoting>[0], 'contacts' | 'votersIndex'>,
  { voterSet }: LedgerState,
): Map<number, string> {
  const inState = allVoters(voterSet);
  const isNoted = votersIndex !== undefined && votersIndex >= voterSet.index;
  const isOld = votersIndex !== undefined && votersIndex < voterSet.index;
  const voters = [...(isNoted ? [] : inState), ...(isOld ? [] : contacts)].filter(({ raftId }) => raftId > 0);
  return new Map(voters.map(({ raftId, peer }) => [raftId, peer]));
}

/** Where the log of a voter begins that has the ledger's state and none of the entries before it. */
function baseOf(state: LedgerState): SnapshotMetadata {
  const { index, term, chainHash } = state;
  return { index, term, chainHash, configuration: configurationIn(state) };
}

/** A generation's voters have the log up to its base in common. @throws ParleyError `generation-misplaced`. */
function generationBase(
  { number, baseIndex, baseHash, voters }: GenerationRecord,
  state: LedgerState,
): SnapshotMetadata {
  if (state.index !== baseIndex || state.chainHash !== baseHash) {
    const text = `generation ${number} begins after entry ${baseIndex}: this ledger is at entry ${state.index}, or has another one there`;
    throw new ParleyError('generation-misplaced', text, { hint: 'Recover on this peer again: `parley recover`.' });
  }
  const raftIds = voters.map(({ raftId }) => raftId).sort((a, b) => a - b);
  return {
    ...{ index: baseIndex, term: state.term, chainHash: baseHash },
    configuration: plainConfiguration(raftIds),
  };
}

/** The first entry of a generation: the same on all its voters, so that it is committed as it stands. */
function generationEntry(record: GenerationRecord, { index, term, timeMs }: LedgerState): RaftEntry {
  const data = encodeEntry({ version: 1, kind: 'generation-begun', timeMs, actor: 'controller', body: record });
  return { index: index + 1, term: term + 1, type: 'normal', data };
}
