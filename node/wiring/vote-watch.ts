// Owns how a running peer follows what the ledger says about its vote: it makes or drops the key by itself, and says when the
// process must start anew as something else.

import { allVoters, type VoterSet } from '../../protocols/certificate.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Clock, Logger, Startable } from '../interfaces.ts';
import type { VoteFolder } from './vote-folder.ts';
import { goneOn, nextVoteStep, type VoteTurn } from './vote-plan.ts';

/** A device that switches is not disturbed: it is asked again this often whether it still does. */
const lookPeriodMs = 1_000;
/** A voter without a leader for so long asks others whether it still votes. */
const leaderlessMs = 5_000;
/** A raft id that counts nowhere and hears no leader for so long was dropped before it ever voted: it begins anew as a member. */
const forlornMs = 30_000;

export interface VoteWatch extends Startable {
  /** Resolves with the first turn that is due. */
  readonly turned: Promise<VoteTurn>;
  /** Something else than the ledger says what this peer must become, once no switch is under way: of several the first. */
  turn(to: VoteTurn): void;
  /**
   * Consensus could not start with the log that it found, or has ended since it proved to be that of an earlier time: this
   * peer goes on without, since others vote; once it has started, not before a switch that is under way is over.
   */
  damaged(error: Pick<Error, 'message'>): void;
  /** The ledger could not be read: this peer goes on with an empty one, which fills from its own log or from others. */
  ledgerDamaged(error: Error): void;
}

export function createVoteWatch(init: {
  readonly self: string;
  /** Under which this process runs; 0 for a peer that does not vote. */
  readonly raftId: number;
  /** The newest that this peer has accepted. */
  readonly generation: number;
}): (components: {
  readonly folder: Pick<VoteFolder, 'key' | 'makeKey' | 'dropKey' | 'noteVoters'>;
  readonly ledger: {
    state(): LedgerState;
    onApplied(listener: () => void): () => void;
    certification(): { certifiedIndex(): number; voterSetBefore(index: number): VoterSet | undefined };
    newestVoterSet(): VoterSet;
    onVoterSetProven(listener: () => void): () => void;
    watchVoterSet(): () => Promise<void>;
  };
  /** False on a voter that knows of no leader. */
  readonly hasLeader: () => boolean;
  /** The ledger is to be told of this key. */
  readonly announceKey: (key: string) => void;
  /** True while an interruption would undo a switch. That ends by itself; an order may wait for ever to be armed. */
  readonly isBusy: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}) => VoteWatch {
  return ({ folder, ledger, hasLeader, announceKey, isBusy, clock, logger }) => {
    const { promise: turned, resolve } = Promise.withResolvers<VoteTurn>();
    let stops: (() => void)[] = [];
    let looking: Promise<void> | undefined;
    let hasTurned = false;
    /** Said from outside the ledger, and waiting for the device. */
    let due: VoteTurn | undefined;
    let notedIndex = 0;
    let ledAtMs = clock.monotonicMs();
    let stopFollowing: (() => Promise<void>) | undefined;

    function wake(): void {
      looking ??= look()
        .catch((error: unknown) => logger.error({ error: String(error) }, 'the vote could not be followed'))
        .finally(() => {
          looking = undefined;
        });
    }

    async function look(): Promise<void> {
      if (due !== undefined) {
        if (!isBusy()) startAnew(due);
        return;
      }
      await noteVoters(ledger.state());
      const key = await folder.key();
      const step = nextVoteStep(stateSeen(), { peer: init.self, raftId: init.raftId, key });
      await followWhereForgotten();
      if (step.kind === 'stay') {
        const { roles = ['member' as const] } = ledger.state().members[init.self] ?? {};
        if (isForlorn() && !isBusy()) startAnew({ kind: 'give-up', roles });
        return;
      }
      if (step.kind === 'make-key') announceKey(await folder.makeKey());
      else if (step.kind === 'drop-key') await folder.dropKey();
      // What a leader alone says may be a lie: a vote ends for good with the word of a majority.
      else if (isProven() && (step.kind === 'leave' || !isBusy())) startAnew(step);
    }

    async function noteVoters({ voterSet, members, generation }: LedgerState): Promise<void> {
      // A ledger that has gone back behind a new generation knows less than what was noted.
      if (voterSet.index === notedIndex || generation < init.generation) return;
      const voters = [...voterSet.votersOutgoing, ...voterSet.voters].map(({ peer, raftId }) => ({
        ...{ peer, raftId },
        addresses: members[peer]?.addresses ?? [],
      }));
      const byPeer = new Map(voters.map((voter) => [voter.peer, voter]));
      await folder.noteVoters([...byPeer.values()], voterSet.index);
      notedIndex = voterSet.index;
    }

    /** The ledger's state with the newest voters that somebody has proven. */
    function stateSeen(): Parameters<typeof nextVoteStep>[0] {
      const state = ledger.state();
      const newest = ledger.newestVoterSet();
      return newest.index > state.voterSet.index ? goneOn(state, newest) : state;
    }

    /** Nobody sends it entries, and nothing that others can prove would ever tell it so: it is named in no set of voters. */
    function isForlorn(): boolean {
      if (init.raftId === 0 || clock.monotonicMs() - ledAtMs < forlornMs) return false;
      const { learners, voterSet } = ledger.state();
      const newest = ledger.newestVoterSet();
      const counted = [voterSet, newest].flatMap(allVoters);
      return !learners.includes(init.raftId) && !counted.some(({ raftId }) => raftId === init.raftId);
    }

    function isProven(): boolean {
      if (ledger.newestVoterSet().index > ledger.state().voterSet.index) return true;
      return ledger.certification().certifiedIndex() >= lostIndex();
    }

    /** Since when this voter counts in no set; the newest change of voters where it never did. What follows on it may never reach it. */
    function lostIndex(): number {
      const { voterSet } = ledger.state();
      const { voterSetBefore } = ledger.certification();
      let index = voterSet.index;
      for (let set = voterSetBefore(index); set !== undefined; set = voterSetBefore(index)) {
        if (allVoters(set).some(({ raftId }) => raftId === init.raftId)) return index;
        index = set.index;
      }
      return voterSet.index;
    }

    /** A voter that was dropped while it was away, or whose leader it does not know yet, is sent nothing that it takes. */
    async function followWhereForgotten(): Promise<void> {
      const now = clock.monotonicMs();
      if (hasLeader()) ledAtMs = now;
      const votes = ledger.state().members[init.self]?.roles.includes('voter') === true;
      const isForgotten = init.raftId > 0 && (!votes || now - ledAtMs >= leaderlessMs);
      if (isForgotten === (stopFollowing !== undefined)) return;
      if (!isForgotten) {
        await stopFollowing?.();
        stopFollowing = undefined;
      } else {
        stopFollowing = ledger.watchVoterSet();
      }
    }

    function startAnew(to: VoteTurn): void {
      if (hasTurned || stops.length === 0) return;
      hasTurned = true;
      logger.warn(to, 'this peer starts anew: its part in the fleet has changed');
      resolve(to);
    }

    function turn(to: VoteTurn): void {
      due ??= to;
      wake();
    }

    return {
      turned,
      turn,
      damaged(error) {
        logger.error({ error: error.message }, 'this voter sets its log aside and takes part under a new key');
        const aside = { kind: 'set-aside', reason: error.message } as const;
        if (stops.length === 0) resolve(aside);
        else turn(aside);
      },
      ledgerDamaged(error) {
        logger.error({ error: error.message }, 'this peer sets its ledger aside and makes it anew');
        resolve({ kind: 'set-ledger-aside', reason: error.message });
      },
      async start() {
        stops = [ledger.onApplied(wake), ledger.onVoterSetProven(wake), clock.every(lookPeriodMs, wake)];
        wake();
      },
      async stop() {
        for (const stop of stops) stop();
        stops = [];
        await looking;
        await stopFollowing?.();
      },
    };
  };
}
