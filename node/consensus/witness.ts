// Owns the witness: a record beside the database that says which batch was acknowledged last. LevelDB may open without an
// error and lack its newest batches; only something outside it can notice, and only if it is synced after each batch.

import { decode, encode } from '../../protocols/codec.ts';
import {
  type TailRecord,
  type WitnessRecord,
  witnessBytesMax,
  witnessRecordSchema,
} from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { RecordFile } from '../interfaces.ts';
import { damaged } from './log-damage.ts';

export type Witness = Pick<RecordFile, 'read' | 'write'>;

/** What a tail and its witness say alike. */
type Testimony = Pick<TailRecord, 'batch' | 'term' | 'vote' | 'lastHash'>;

/** Notes a batch that is on disk. Nobody may hear of the batch before this resolves. */
export async function testify(witness: Witness, { batch, term, vote, lastHash }: Testimony): Promise<void> {
  await witness.write(encode({ version: 1, batch, term, vote, lastHash }));
}

/** What the witness says; undefined when it is missing or none of it can be read. */
export async function readWitness(witness: Witness): Promise<WitnessRecord | undefined> {
  const bytes = await witness.read();
  if (bytes === undefined) return undefined;
  try {
    return decode(witnessRecordSchema, bytes, witnessBytesMax, 'witness');
  } catch (error) {
    if (error instanceof ParleyError && error.code === 'malformed') return undefined;
    throw error;
  }
}

/**
 * Holds the database's tail against the witness. A tail that is ahead is what a power cut between the two writes leaves:
 * nobody has heard of it, and the witness is brought up to it. So is the first batch without a witness.
 * @throws ParleyError `damaged-log` when the tail is behind the witness or differs from it.
 */
export async function confirm(witness: Witness, tail: Testimony): Promise<void> {
  const noted = await readWitness(witness);
  if (noted === undefined) {
    if (tail.batch > 0) throw damaged('its witness is missing or cannot be read');
  } else if (tail.batch < noted.batch) {
    throw damaged(`it ends with batch ${tail.batch}, and batch ${noted.batch} was acknowledged`);
  } else if (tail.batch === noted.batch) {
    if (isSame(tail, noted)) return;
    throw damaged(`its batch ${tail.batch} is not the one that was acknowledged`);
  } else if (takesBack(tail, noted)) {
    throw damaged(`its term ${tail.term} and vote ${tail.vote} take back term ${noted.term} and vote ${noted.vote}`);
  }
  await testify(witness, tail);
}

function isSame(tail: Testimony, noted: WitnessRecord): boolean {
  return tail.term === noted.term && tail.vote === noted.vote && tail.lastHash === noted.lastHash;
}

/** No later batch has an earlier term, nor another vote in a term in which this peer has voted. */
function takesBack(tail: Testimony, noted: WitnessRecord): boolean {
  if (tail.term !== noted.term) return tail.term < noted.term;
  return noted.vote !== 0 && tail.vote !== noted.vote;
}
