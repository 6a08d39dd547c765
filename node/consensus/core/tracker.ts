// Owns the group as one raft node sees it: the members in force, each one's progress, and the votes of this election.

import type { Configuration } from '../../../protocols/consensus-record.ts';
import {
  type Members,
  type Membership,
  noMembers,
  type ProgressMap,
  restoreMembership,
  type WindowLimits,
} from './configuration.ts';
import { Inflights, Progress } from './progress.ts';
import { jointIndex, jointVote, sortedIds, type VoteResult } from './quorum.ts';

export class Tracker implements Membership {
  readonly limits: WindowLimits;
  members: Members = noMembers;
  progress: ProgressMap = new Map();
  #votes = new Map<number, boolean>();

  constructor(limits: WindowLimits) {
    this.limits = limits;
  }

  adopt(membership: Membership): void {
    this.members = membership.members;
    this.progress = membership.progress;
  }

  /** Forgets all progress and takes a stored configuration. */
  restore(configuration: Configuration, lastIndex: number): void {
    this.adopt(restoreMembership(configuration, lastIndex, this.limits));
    this.#votes = new Map();
  }

  /** Forgets what was known of everybody; `self` is known to have all of its own log. */
  resetProgress(self: number, lastIndex: number): void {
    this.progress = new Map(
      [...this.progress].map(([raftId, { isLearner }]) => {
        const inflights = new Inflights(this.limits.inflightMessagesMax, this.limits.inflightBytesMax);
        const match = raftId === self ? lastIndex : 0;
        return [raftId, new Progress({ match, next: lastIndex + 1, isLearner, recentActive: false, inflights })];
      }),
    );
  }

  isSingleton(): boolean {
    return this.members.voters.incoming.size === 1 && this.members.voters.outgoing.size === 0;
  }

  /** The highest index that a quorum of voters holds. */
  committed(): number {
    return jointIndex(this.members.voters, (raftId) => this.progress.get(raftId)?.match);
  }

  /** All members in the order of their ids. */
  all(): [raftId: number, progress: Progress][] {
    return sortedIds(this.progress.keys()).flatMap((raftId) => {
      const progress = this.progress.get(raftId);
      return progress ? [[raftId, progress]] : [];
    });
  }

  quorumActive(): boolean {
    const active = new Map<number, boolean>();
    for (const [raftId, progress] of this.progress) if (!progress.isLearner) active.set(raftId, progress.recentActive);
    return jointVote(this.members.voters, active) === 'won';
  }

  resetVotes(): void {
    this.#votes = new Map();
  }

  /** The first vote of a member counts. Strangers' votes are kept out by the tally. */
  recordVote(raftId: number, granted: boolean): void {
    if (!this.#votes.has(raftId) && this.progress.has(raftId)) this.#votes.set(raftId, granted);
  }

  tallyVotes(): VoteResult {
    return jointVote(this.members.voters, this.#votes);
  }
}
