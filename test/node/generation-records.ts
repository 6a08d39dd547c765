// Owns records of generations for tests: of one fleet, with its recovery key.

import { createRecoveryKey, signRecord } from '../../node/wiring/recovery-key.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import { hash, peerIdOf } from '../helpers/ledger-script.ts';

export const fleet = hash('fleet');
export const keys = createRecoveryKey();

/** Signed by the recovery key, unless the fields say otherwise. */
export function recordOf(number: number, fields: Partial<GenerationRecord> = {}): GenerationRecord {
  const { signature: _, ...record } = {
    ...{ version: 1 as const, fleet, number, baseIndex: 10, baseTerm: 2, baseHash: hash('base'), signature: null },
    voters: [{ raftId: number * 1_000_000, peer: peerIdOf('n1'), key: peerIdOf('n1 votes') }],
    ...fields,
  };
  return fields.signature === null
    ? { ...record, signature: null }
    : signRecord(keys.privatePem, keys.publicKey, record);
}

export const contact = { peer: peerIdOf('n1'), addresses: ['/ip4/127.0.0.1/tcp/4400'], raftId: 1_000_000 };
export const contacts = [contact];
