// Owns how a fleet that lost most of its voters goes on: a survivor that is stopped says how far its ledger is, and begins a
// new generation there, of which it is the only voter. What others had after that point never counts again.

import { readFile, stat } from 'node:fs/promises';
import { ParleyError } from '../protocols/errors.ts';
import { type GenerationRecord, raftIdsPerGeneration } from '../protocols/generation.ts';
import { memberNamed, votingMembers } from '../protocols/ledger-rules.ts';
import type { LedgerState } from '../protocols/ledger-state.ts';
import type { Membership } from '../protocols/membership.ts';
import { behindLog, damaged, type OfflineLog, readLog } from './consensus/index.ts';
import { identityFileOf } from './enrolment.ts';
import type { Ledger } from './ledger/index.ts';
import { loadIdentity } from './mesh/index.ts';
import { createWitnessFile, lockStateFolder, openStore } from './store/index.ts';
import { signRecord } from './wiring/recovery-key.ts';
import { openStoppedLedger } from './wiring/stopped-ledger.ts';
import { createVoteFolder, logFolderOf, setAsideBefore, type VoteFolder, witnessFileOf } from './wiring/vote-folder.ts';

/** How far a survivor is. */
export interface Survey {
  readonly peer: string;
  readonly name: string;
  readonly fleet: string;
  /** The newest that it has accepted: its ledger may not have come to it yet. */
  readonly generation: number;
  /** The one that recover() would begin. */
  readonly nextGeneration: number;
  /** Of the last entry that it has. */
  readonly index: number;
  readonly term: number;
  readonly chainHash: string;
  readonly timeMs: number;
  /** Commit of the project. */
  readonly head: string | null;
  readonly voters: readonly string[];
  readonly members: readonly string[];
  /** The last of its entries, which it does not know to be committed. */
  readonly uncertain: number;
  /** What is wrong with its log; null where nothing is, or where it has none. */
  readonly damage: string | null;
  /** What is wrong with its ledger, which its log has made anew here; null where nothing is. */
  readonly ledgerDamage: string | null;
  /** Entries that it had after these and that are lost with the damage; null where nobody can tell how many. */
  readonly lost: number | null;
  readonly recoveryKey: string;
}

/**
 * How far the peer of a state folder is, which is stopped. Changes nothing that the peer would find.
 * @throws ParleyError `state-in-use`, `not-enrolled`, `removed`; `store-damaged` or `state-behind-log` where its ledger is lost and its log
 * cannot make it anew.
 */
export async function survey(stateFolder: string): Promise<Survey> {
  return withSurvivor(stateFolder, async ({ found }) => found);
}

/**
 * Begins the next generation after the last entry that this peer has, with it as the only voter.
 * @param keyFile the recovery key; null where that is lost: then root on each device must name the record.
 * @returns what it had, the record, and the folder that its earlier log is now in, null where it had none.
 * @throws ParleyError as survey(), `recovery-key-unusable`, `recovery-key-wrong`.
 */
export async function recover(init: {
  readonly stateFolder: string;
  readonly keyFile: string | null;
  readonly folder?: Pick<VoteFolder, 'beginGeneration' | 'carryOut'>;
}): Promise<{ readonly survey: Survey; readonly record: GenerationRecord; readonly oldLog: string | null }> {
  const { stateFolder, keyFile, folder = createVoteFolder(stateFolder) } = init;
  const pem = keyFile === null ? null : await readKey(keyFile);
  return withSurvivor(stateFolder, async ({ found, hasLog, keepLedger }) => {
    const number = found.nextGeneration;
    const recordFor = (key: string): GenerationRecord => {
      const { fleet, peer, index, term, chainHash, recoveryKey } = found;
      const voters = [{ raftId: number * raftIdsPerGeneration, peer, key }];
      const base = { baseIndex: index, baseTerm: term, baseHash: chainHash };
      const record = { version: 1, fleet, number, ...base, voters } as const;
      return pem === null ? { ...record, signature: null } : signRecord(pem, recoveryKey, record);
    };
    // A key that does not fit is found out before anything is given up.
    recordFor(found.peer);
    const record = await folder.beginGeneration(recordFor, () => keepLedger(folder));
    const oldLog = hasLog ? `${logFolderOf(stateFolder)}${setAsideBefore(number)}` : null;
    return { survey: found, record, oldLog };
  });
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

interface Survivor {
  readonly found: Survey;
  readonly hasLog: boolean;
  /** Writes the ledger as it was found, its last entry included, to the disk. */
  readonly keepLedger: (folder: Pick<VoteFolder, 'carryOut'>) => Promise<void>;
}

/** Works on a stopped peer's ledger, brought to the end of its log in memory. */
async function withSurvivor<T>(stateFolder: string, work: (survivor: Survivor) => Promise<T>): Promise<T> {
  const lock = await lockStateFolder(stateFolder);
  try {
    const membership = await createVoteFolder(stateFolder).membership();
    const { peer } = await loadIdentity(identityFileOf(stateFolder));
    const { generations = [], name } = membership;
    const hasLog = await isFolder(logFolderOf(stateFolder));
    const opened = await openStoppedLedger({ stateFolder, peer, membership, hasLog });
    const { ledger, damage: ledgerDamage } = opened;
    try {
      const log = hasLog ? await applyLog(stateFolder, membership, ledger) : logless(membership);
      await ledger.snapshot();
      const generation = Math.max(ledger.state().generation, ...generations.map(({ number }) => number));
      const found = describe(ledger.state(), { peer, name, generation, ledgerDamage, ...log });
      return await work({ found, hasLog, keepLedger: opened.keep });
    } finally {
      await opened.close();
    }
  } finally {
    await lock.release();
  }
}

type LogFindings = Pick<Survey, 'uncertain' | 'damage' | 'lost'>;

/** Brings a voter's ledger to the end of what is sound of its log. @throws ParleyError `level-unsupported`, `state-behind-log`. */
async function applyLog(stateFolder: string, membership: Membership, ledger: Ledger): Promise<LogFindings> {
  const certainIndex = ledger.appliedIndex();
  const opened = await openStore(logFolderOf(stateFolder)).catch((error: unknown) => {
    if (error instanceof ParleyError) return error;
    throw error;
  });
  if (opened instanceof ParleyError) return { uncertain: 0, damage: opened.message, lost: null };
  const witness = createWitnessFile(witnessFileOf(stateFolder));
  try {
    const log = await readLog({ store: opened, witness }).catch((error: ParleyError) => {
      if (error.code !== 'not-bootstrapped') throw error;
    });
    if (log === undefined) return logless(membership);
    if (log.snapshot !== undefined && log.snapshot.index > certainIndex) await ledger.restore(log.snapshot);
    if (ledger.appliedIndex() < log.baseIndex) throw behindLog(ledger.appliedIndex(), log.baseIndex);
    await ledger.apply(await log.entriesAfter(ledger.state()));
    return findingsOf(log, ledger.appliedIndex(), certainIndex);
  } finally {
    await opened.close();
    await witness.close();
  }
}

/** @param lastIndex of the ledger with what is sound of the log; `certainIndex` is of the ledger before. */
function findingsOf(
  { damage, commitIndex, lastIndex: end }: OfflineLog,
  lastIndex: number,
  certainIndex: number,
): LogFindings {
  const uncertain = Math.max(0, lastIndex - Math.max(commitIndex, certainIndex));
  if (damage === null) return { uncertain, damage, lost: 0 };
  // Where the log's end is what is missing, so is the word of how far it went.
  return { uncertain, damage, lost: end > lastIndex ? end - lastIndex : null };
}

function logless({ logBegun = false }: Membership): LogFindings {
  return logBegun
    ? { uncertain: 0, damage: damaged('it is gone').message, lost: null }
    : { uncertain: 0, damage: null, lost: 0 };
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function describe(
  state: LedgerState,
  found: Pick<Survey, 'peer' | 'name' | 'generation' | 'ledgerDamage'> & LogFindings,
): Survey {
  const own = memberNamed(state, found.name);
  if (own?.peer !== found.peer) {
    throw new ParleyError('not-a-member', `the ledger of '${found.name}' does not know it as a member yet`, {
      hint: 'Recover on another survivor.',
    });
  }
  const { fleet, index, term, chainHash, timeMs, head, recoveryKey } = state;
  const voters = votingMembers(state).map(({ name }) => name);
  const members = Object.values(state.members).map(({ name }) => name);
  return {
    ...found,
    fleet,
    nextGeneration: found.generation + 1,
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
