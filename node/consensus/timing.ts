// Owns what this voter measures of its disk and of the way to the others, and how long elections take for it.

import type { Clock, Mesh } from '../interfaces.ts';
import type { MemberDirectory } from './message-links.ts';
import { RecentTimes } from './recent-times.ts';
import { electionTicksFor } from './timing-core.ts';

export interface TimingInit {
  readonly raftId: number;
  readonly heartbeatMs: number;
  readonly electionMinMs: number;
}

export interface TimingComponents {
  readonly mesh: Pick<Mesh, 'connectedPeers'>;
  readonly members: MemberDirectory;
  readonly clock: Pick<Clock, 'monotonicMs'>;
}

export class Timing {
  /** What elections take where nothing is slow. */
  readonly minimumTicks: number;
  readonly #init: TimingInit;
  readonly #components: TimingComponents;
  readonly #writes: RecentTimes;
  readonly #rtts = new Map<number, RecentTimes>();

  constructor(init: TimingInit, components: TimingComponents) {
    this.#init = init;
    this.#components = components;
    this.#writes = new RecentTimes(components.clock);
    this.minimumTicks = Math.max(2, Math.ceil(init.electionMinMs / init.heartbeatMs));
  }

  /** A synced write to the log took so long. */
  wrote(tookMs: number): void {
    this.#writes.add(tookMs);
  }

  /** How many ticks elections take from now on, given what they take now. Looks at the mesh's newest round trips. */
  electionTicks(current: number, group: { readonly voters: readonly number[]; readonly leader: number }): number {
    this.#takeRoundTrips();
    for (const raftId of this.#rtts.keys()) if (!group.voters.includes(raftId)) this.#rtts.delete(raftId);
    const others = group.voters.filter((raftId) => raftId !== this.#init.raftId);
    const measured = {
      leaderRttMs: this.#rtts.get(group.leader)?.quantileMs(0.5),
      rttsMs: others.map((raftId) => this.#rtts.get(raftId)?.quantileMs(0.5) ?? 0),
      writeMs: this.#writes.quantileMs(0.99),
    };
    return electionTicksFor(measured, {
      current,
      minimumTicks: this.minimumTicks,
      tickMs: this.#init.heartbeatMs,
    });
  }

  #takeRoundTrips(): void {
    const { mesh, members, clock } = this.#components;
    for (const { peer, rttMs } of mesh.connectedPeers()) {
      const raftId = members.raftIdOf(peer);
      if (raftId === undefined || rttMs === undefined) continue;
      const times = this.#rtts.get(raftId) ?? new RecentTimes(clock);
      times.add(rttMs);
      this.#rtts.set(raftId, times);
    }
  }
}
