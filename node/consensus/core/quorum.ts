// Owns the arithmetic of majorities, single and joint: which index a quorum has acknowledged, and how a vote stands.

export type RaftIds = ReadonlySet<number>;

/** Two majorities that must both agree; `outgoing` is empty unless the configuration is joint. */
export interface JointVoters {
  readonly incoming: RaftIds;
  readonly outgoing: RaftIds;
}

export type VoteResult = 'pending' | 'lost' | 'won';
/** What a voter has acknowledged; undefined when nothing is known. */
export type AckedIndex = (raftId: number) => number | undefined;

export const majorityOf = (count: number): number => Math.floor(count / 2) + 1;

/** The highest index that a majority has acknowledged; Infinity without voters, so that joint quorums work. */
export function majorityIndex(voters: RaftIds, acked: AckedIndex): number {
  if (voters.size === 0) return Number.POSITIVE_INFINITY;
  const indexes = [...voters].map((raftId) => acked(raftId) ?? 0).sort((a, b) => b - a);
  return indexes[majorityOf(voters.size) - 1] ?? 0;
}

/** Result of the votes cast so far; without voters a vote is won, so that joint quorums work. */
export function majorityVote(voters: RaftIds, votes: ReadonlyMap<number, boolean>): VoteResult {
  if (voters.size === 0) return 'won';
  let granted = 0;
  let missing = 0;
  for (const raftId of voters) {
    const vote = votes.get(raftId);
    if (vote === undefined) missing += 1;
    else if (vote) granted += 1;
  }
  const needed = majorityOf(voters.size);
  if (granted >= needed) return 'won';
  return granted + missing >= needed ? 'pending' : 'lost';
}

export function jointIndex(voters: JointVoters, acked: AckedIndex): number {
  return Math.min(majorityIndex(voters.incoming, acked), majorityIndex(voters.outgoing, acked));
}

export function jointVote(voters: JointVoters, votes: ReadonlyMap<number, boolean>): VoteResult {
  const results = [majorityVote(voters.incoming, votes), majorityVote(voters.outgoing, votes)];
  if (results.includes('lost')) return 'lost';
  return results.includes('pending') ? 'pending' : 'won';
}

/** All voters of both halves, in order. */
export function voterIds(voters: JointVoters): number[] {
  return sortedIds(new Set([...voters.incoming, ...voters.outgoing]));
}

export function sortedIds(ids: Iterable<number>): number[] {
  return [...ids].sort((a, b) => a - b);
}
