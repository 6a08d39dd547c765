// Owns how a fleet that lost most of its voters goes on: a survivor that is stopped says how far its ledger is, and begins a
// new generation there, of which it is the only voter. What others had after that point never counts again.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ParleyError } from '../protocols/errors.ts';
import { type GenerationRecord, raftIdsPerGeneration } from '../protocols/generation.ts';
import { memberNamed, votingMembers } from '../protocols/ledger-rules.ts';
import type { LedgerState } from '../protocols/ledger-state.ts';
import type { Membership } from '../protocols/membership.ts';
import { readLog } from './consensus/index.ts';
import { identityFileOf } from './enrolment.ts';
import { createLogger, systemClock } from './host/index.ts';
import { createLedger, type Ledger } from './ledger/index.ts';
import { loadIdentity, verifySignature } from './mesh/index.ts';
import { createBlobStore, createWitnessFile, lockStateFolder, openStore } from './store/index.ts';
import { signRecord } from './wiring/recovery-key.ts';
import { createVoteFolder, logFolderOf, witnessFileOf } from './wiring/vote-folder.ts';

/** How far a survivor is. */
export interface Survey {
  readonly peer: string;
  readonly name: string;
  readonly fleet: string;
  readonly generation: number;
  readonly index: number;
  readonly term: number;
  readonly chainHash: string;
  readonly timeMs: number;
  /** Commit of the project. */
  readonly head: string | null;
  readonly voters: readonly string[];
  readonly members: readonly string[];
  /** Entries that it has and does not know to be committed. */
  readonly uncertain: number;
  /** Why its log could not be used; null where it could, or where there is none. */
  readonly damage: string | null;
  readonly recoveryKey: string;
}

/** The ledger of a state folder whose peer is stopped. @throws ParleyError `state-in-use`, `not-enrolled`, `removed`. */
export async function survey(stateFolder: string): Promise<Survey> {
  return withFolder(stateFolder, (folder) => surveyFolder(stateFolder, folder));
}

/**
 * Begins the next generation with this peer as its only voter.
 * @param keyFile the recovery key; null where that is lost: then root on each device must name the record.
 * @throws ParleyError as survey(), `recovery-key-unusable`, `recovery-key-wrong`.
 */
export async function recover(init: {
  readonly stateFolder: string;
  readonly keyFile: string | null;
}): Promise<{ readonly survey: Survey; readonly record: GenerationRecord }> {
  const { stateFolder, keyFile } = init;
  const pem = keyFile === null ? null : await readKey(keyFile);
  return withFolder(stateFolder, async (folder) => {
    const found = await surveyFolder(stateFolder, folder);
    const { generations = [] } = await folder.settle();
    const number = Math.max(found.generation, generations.at(-1)?.number ?? 0) + 1;
    const recordFor = (key: string): GenerationRecord => {
      const { fleet, peer, index, term, chainHash, recoveryKey } = found;
      const voters = [{ raftId: number * raftIdsPerGeneration, peer, key }];
      const base = { baseIndex: index, baseTerm: term, baseHash: chainHash };
      const record = { version: 1, fleet, number, ...base, voters } as const;
      return pem === null ? { ...record, signature: null } : signRecord(pem, recoveryKey, record);
    };
    // A key that does not fit is found out before anything is given up.
    recordFor(found.peer);
    return { survey: found, record: await folder.beginGeneration(recordFor) };
  });
}

async function withFolder<T>(
  stateFolder: string,
  work: (folder: ReturnType<typeof createVoteFolder>) => Promise<T>,
): Promise<T> {
  const lock = await lockStateFolder(stateFolder);
  try {
    return await work(createVoteFolder(stateFolder));
  } finally {
    await lock.release();
  }
}

async function readKey(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new ParleyError('recovery-key-unusable', `cannot read the recovery key: ${(cause as Error).message}`, {
      cause,
    });
  }
}

async function surveyFolder(stateFolder: string, folder: ReturnType<typeof createVoteFolder>): Promise<Survey> {
  const membership = await folder.settle();
  const { peer } = await loadIdentity(identityFileOf(stateFolder));
  const store = await openStore(join(stateFolder, 'ledger'));
  const { genesis, contacts, generations = [] } = membership;
  const source = membership.raftId > 0 ? 'consensus' : 'voters';
  const ledger = createLedger({ self: peer, source, genesis, contacts, generations })({
    ...{ store, mesh: nobody, clock: systemClock, verifySignature },
    blobs: createBlobStore(join(stateFolder, 'blobs')),
    logger: createLogger({ level: 'error' }),
  });
  try {
    await ledger.start();
    const log = await applyLog(stateFolder, membership, ledger);
    await ledger.snapshot();
    return describe(ledger.state(), { peer, name: membership.name, ...log });
  } finally {
    await ledger.stop();
    await store.close();
  }
}

/** Brings a voter's ledger to the last entry that it knows to be committed. */
async function applyLog(
  stateFolder: string,
  { raftId, logBegun }: Membership,
  ledger: Ledger,
): Promise<Pick<Survey, 'uncertain' | 'damage'>> {
  if (raftId === 0 || !logBegun) return { uncertain: 0, damage: null };
  const store = await openStore(logFolderOf(stateFolder));
  const witness = createWitnessFile(witnessFileOf(stateFolder));
  try {
    const log = await readLog({ store, witness });
    if (log.snapshot !== undefined && log.snapshot.index > ledger.appliedIndex()) await ledger.restore(log.snapshot);
    await ledger.apply(log.entriesAfter(ledger.appliedIndex()));
    return { uncertain: log.lastIndex - log.commitIndex, damage: null };
  } catch (error) {
    // What its ledger had stored before is still there, and may be all that is left of the fleet.
    return { uncertain: 0, damage: (error as Error).message };
  } finally {
    await store.close();
    await witness.close();
  }
}

function describe(state: LedgerState, found: Pick<Survey, 'peer' | 'name' | 'uncertain' | 'damage'>): Survey {
  const own = memberNamed(state, found.name);
  if (own?.peer !== found.peer) {
    throw new ParleyError('not-a-member', `the ledger of '${found.name}' does not know it as a member yet`, {
      hint: 'Recover on another survivor.',
    });
  }
  const { fleet, generation, index, term, chainHash, timeMs, head, recoveryKey } = state;
  const voters = votingMembers(state).map(({ name }) => name);
  const members = Object.values(state.members).map(({ name }) => name);
  return {
    ...found,
    fleet,
    generation,
    index,
    term,
    chainHash,
    timeMs,
    head,
    recoveryKey,
    voters,
    members: members.sort(),
  };
}

/** A mesh without anybody. */
const nobody = {
  handle: () => undefined,
  open: () => Promise.reject(new ParleyError('peer-unreachable', 'this peer is stopped')),
  connectedPeers: () => [],
  onPeerChange: () => () => undefined,
};
