// Owns the errors of a voter whose log is not what it wrote, or does not reach back to what it has applied: what they say, and
// what a person or the peer itself is to do. Such a voter must never speak under its raft id again: it may have acknowledged
// what it no longer holds.

import { ParleyError } from '../../protocols/errors.ts';

export const damagedLogCode = 'damaged-log';
const behindLogCode = 'state-behind-log';

const hintForSeveral =
  'It must not vote again with this state: it rejoins with an empty log under a new raft id that the ledger allots; its key stays.';
const hintForOne =
  'This is the only voter of its fleet: nobody else holds what was acknowledged here. Stop it, see with `parley recover --show` what is sound, and begin a new generation of the fleet from there with the recovery key. A backup of its state folder must also begin a new generation before it runs: others may be ahead of it.';
const hintBehindForOne =
  'This is the only voter of its fleet, and its log alone cannot make the ledger anew. Keep the state folder: a ledger that was damaged is in it as `ledger.damaged`. Put the folder `ledger` of a backup in the place of the present one, and start again: the log holds what came after it. Without one, begin a new generation on a member, which has the ledger as well: see `parley recover --show` there.';

/** The error for a log that is not what was written. */
export function damaged(what: string, cause?: unknown): ParleyError {
  const hint = 'Do not start this voter with this state again.';
  return new ParleyError(damagedLogCode, `cannot use the log of this voter: ${what}`, { hint, cause });
}

/** The error for a state machine that was lost, or put back to what it was before the log was compacted. */
export function behindLog(appliedIndex: number, baseIndex: number): ParleyError {
  const text = `the ledger of this voter ends at entry ${appliedIndex}: its log starts after entry ${baseIndex}`;
  return new ParleyError(behindLogCode, text, { hint: hintBehindForOne });
}

/** True where a voter can only go on under a new raft id. */
export function isDamage(error: unknown): error is ParleyError {
  return error instanceof ParleyError && [damagedLogCode, behindLogCode].includes(error.code);
}

/** The same error with a hint that fits a fleet of these voters; other errors pass unchanged. */
export function advised(error: unknown, voters: readonly number[]): unknown {
  const seen = error instanceof ParleyError && error.code === 'store-damaged' ? damaged(error.message, error) : error;
  if (!isDamage(seen)) return error;
  const alone = seen.code === behindLogCode ? hintBehindForOne : hintForOne;
  const hint = voters.length > 1 ? hintForSeveral : alone;
  return new ParleyError(seen.code, seen.message, { hint, cause: seen.cause ?? seen });
}
