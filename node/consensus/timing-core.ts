// Owns how long voters wait: for a leader that says nothing, and before they stand when its connection is gone. Waiting too
// little deposes leaders that are merely slow; waiting too long leaves the fleet without one.

/** An election must outlast so many round trips or disk writes: requests, their write, their answers, and some that are lost. */
const roundsPerElection = 10;
/** Nothing measured makes voters wait longer than this for a leader: ten times the slowest link that is worth a voter. */
const electionMsMax = 10_000;
/** A wait that was raised is lowered only when much less would do, so that it does not flap. */
const lowerBelow = 0.7;
/** Share of a heartbeat's period by which those who stand at the same time differ. */
const jitter = 0.25;

export interface Measured {
  /** Round trip to the leader, where it is known. */
  readonly leaderRttMs: number | undefined;
  /** Round trips to the other voters, where they are known. */
  readonly rttsMs: readonly number[];
  /** How long a slow write to the log takes (p99). */
  readonly writeMs: number;
}

/**
 * Shortest wait without a leader, in ticks: at least `minimumTicks`, and ten times what the slower of leader, majority and disk
 * needs. `current` is what holds now.
 */
export function electionTicksFor(
  measured: Measured,
  {
    current,
    minimumTicks,
    tickMs,
  }: { readonly current: number; readonly minimumTicks: number; readonly tickMs: number },
): number {
  const slowestMs = Math.max(measured.writeMs, measured.leaderRttMs ?? 0, majorityRttMs(measured.rttsMs));
  const wantedMs = Math.min(roundsPerElection * slowestMs, electionMsMax);
  const wanted = Math.max(minimumTicks, Math.ceil(wantedMs / tickMs));
  return wanted > current || wanted < lowerBelow * current ? wanted : current;
}

/** Round trip to the last voter that a majority needs besides ourselves. */
function majorityRttMs(rttsMs: readonly number[]): number {
  const others = Math.ceil(rttsMs.length / 2);
  return rttsMs.toSorted((a, b) => a - b)[others - 1] ?? 0;
}

/**
 * How long a voter waits before it stands once the leader's connection is gone. Voters stand one after another, in the order
 * of their numbers from the lost leader's on, a heartbeat apart: two who stand together share the votes, and nobody wins.
 */
export function standDelayMs(
  voters: readonly number[],
  {
    self,
    lost,
    tickMs,
    chance,
  }: { readonly self: number; readonly lost: number; readonly tickMs: number; readonly chance: number },
): number {
  const others = voters.filter((raftId) => raftId !== lost).sort((a, b) => a - b);
  const inTurn = [...others.filter((raftId) => raftId > lost), ...others.filter((raftId) => raftId < lost)];
  return (Math.max(inTurn.indexOf(self), 0) + jitter * chance) * tickMs;
}
