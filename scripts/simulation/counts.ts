// Owns the tally of what happened in a run: a simulation in which something never happens proves nothing about it.

/** Faults, and the interesting events that they should not prevent. */
const none = {
  elections: 0,
  crashes: 0,
  crashesAtWrites: 0,
  powerCuts: 0,
  fleetRestarts: 0,
  flippedBits: 0,
  flippedLogs: 0,
  lostTails: 0,
  fullDisks: 0,
  quarantines: 0,
  restoredBackups: 0,
  votersRolledBack: 0,
  rolledBackNoticed: 0,
  pauses: 0,
  forgedPages: 0,
  certificates: 0,
  cuts: 0,
  partitions: 0,
  messagesLost: 0,
  framesRepeated: 0,
  slowTimes: 0,
  transfers: 0,
  compactions: 0,
  snapshotsToVoters: 0,
  snapshotsToMembers: 0,
  joins: 0,
  voterChanges: 0,
  voterAdditions: 0,
  voterRemovals: 0,
  voterReplacements: 0,
  peerRemovals: 0,
  votesTakenUp: 0,
  votesGivenUp: 0,
  votesGivenBack: 0,
  departures: 0,
  writes: 0,
  reads: 0,
  unknownOutcomes: 0,
  repeatedCommands: 0,
  refusedCommands: 0,
  deploys: 0,
  approvals: 0,
  aborts: 0,
  hastyOrders: 0,
  ordersGiven: 0,
  ordersExecuted: 0,
  ordersSucceeded: 0,
  ordersSuperseded: 0,
  ordersUndone: 0,
  rollbacks: 0,
};

export type Counts = Record<keyof typeof none, number>;

export function noCounts(): Counts {
  return { ...none };
}

export function addCounts(sum: Counts, other: Counts): void {
  for (const name of Object.keys(none) as (keyof Counts)[]) sum[name] += other[name];
}
