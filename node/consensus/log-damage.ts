// Owns the error of a voter whose log is not what it wrote: what it says, and what a person or the peer itself is to do. Such
// a voter may have acknowledged what it no longer holds, so it must never speak under its raft id again.

import { ParleyError } from '../../protocols/errors.ts';

export const damagedLogCode = 'damaged-log';

const hintForOne =
  'This is the only voter of its fleet: nobody else holds what was acknowledged here. Stop it, see with `parley recover --show` what is sound, and begin a new generation of the fleet from there with the recovery key. A backup of its state folder must also begin a new generation before it runs: others may be ahead of it.';
const hintForSeveral =
  'It must not vote again with this state: it rejoins with an empty log under a new raft id that the ledger allots; its key stays.';

/** The error for a log that is not what was written. */
export function damaged(what: string, cause?: unknown): ParleyError {
  const hint = 'Do not start this voter with this state again.';
  return new ParleyError(damagedLogCode, `cannot use the log of this voter: ${what}`, { hint, cause });
}

/** The same error with a hint that fits a fleet of these voters; other errors pass unchanged. */
export function advised(error: unknown, voters: readonly number[]): unknown {
  const seen = error instanceof ParleyError && error.code === 'store-damaged' ? damaged(error.message, error) : error;
  if (!(seen instanceof ParleyError) || seen.code !== damagedLogCode) return error;
  const hint = voters.length > 1 ? hintForSeveral : hintForOne;
  return new ParleyError(seen.code, seen.message, { hint, cause: seen.cause ?? seen });
}
