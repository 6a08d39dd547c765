// The consensus room: one log that a majority of voters keeps, and the certainty that an entry is committed once a caller
// hears so. A pure core (core/, after etcd/raft), a verified log on a key-value store, and streams between voters.

import type { Consensus } from './types.ts';
import { type ConsensusComponents, type ConsensusInit, Voter } from './voter.ts';

export { advised, behindLog, damaged, damagedLogCode, isDamage } from './log-damage.ts';
export { bootstrapLog, type LogDisk } from './log-store.ts';
export type { MemberDirectory } from './message-links.ts';
export { beginLog, type OfflineLog, readLog } from './offline-log.ts';
export type * from './types.ts';
export type { ConsensusComponents, ConsensusInit } from './voter.ts';

/** One voter. Its start() rejects with ParleyError `not-bootstrapped`, `damaged-log` or `state-behind-log`. */
export function createConsensus(init: ConsensusInit): (components: ConsensusComponents) => Consensus {
  return (components) => new Voter(init, components);
}
