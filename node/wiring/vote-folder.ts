// Owns what a state folder says about its peer's vote, and the steps by which that changes. A voting key is deleted before
// anything else of its vote is, and made only where nothing is left of an earlier one; so a crash between two steps
// leaves either the old vote whole, or none and the rest to be cleared away at the next start.

import { readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import { generationsMax } from '../../protocols/generation-exchange.ts';
import type { JoinContact } from '../../protocols/join.ts';
import { contactsMax, type Membership } from '../../protocols/membership.ts';
import { loadMembership, openKey, voterKeyFileOf, writeMembership } from '../enrolment.ts';
import { loadIdentity } from '../mesh/index.ts';
import { replaceDurably, syncFolder } from '../store/index.ts';
import type { VoteTurn } from './vote-plan.ts';

/** The changes to a folder that must be on the disk one after another. */
export interface FolderFiles {
  /** Removes a file or a folder with all in it, if it is there. */
  remove(path: string): Promise<void>;
  /** Gives a file or folder that is there another name, in place of what had that name. */
  replace(from: string, to: string): Promise<void>;
  write(stateFolder: string, membership: Membership): Promise<void>;
}

export interface VoteFolder {
  /**
   * Makes this peer the voter that a generation begins with, under a new key; an earlier vote ends first. Cut off, it can be
   * begun again: the earlier log stays until the ledger that the generation follows on is kept.
   */
  beginGeneration(
    record: (voterKey: string) => GenerationRecord,
    keepLedger: () => Promise<void>,
  ): Promise<GenerationRecord>;
  /** What the folder says of its peer. @throws ParleyError `removed` where the fleet has removed the peer. */
  membership(): Promise<Membership>;
  /**
   * Clears away what a crash left half-done.
   * @throws ParleyError `removed`, or `recovery-unfinished` after a beginGeneration() that was cut off.
   */
  settle(): Promise<Membership>;
  /** Carries a turn out; called again after a crash, it ends the same. */
  carryOut(turn: VoteTurn): Promise<void>;
  /** Hashes of generations that root has named on this device: each wins over any other of its number. */
  namedGenerations(): Promise<string[]>;
  nameGeneration(hash: string): Promise<void>;
  /** The public half of the voting key; null without one. */
  key(): Promise<string | null>;
  makeKey(): Promise<string>;
  dropKey(): Promise<void>;
  /** Notes who votes since the entry at an index, for a start at which the ledger cannot say; what is older than what is noted is left out. */
  noteVoters(voters: readonly JoinContact[], index: number): Promise<void>;
  /** Notes that the voter's log exists. */
  logBegun(): Promise<void>;
}

export const ledgerFolderOf = (stateFolder: string): string => join(stateFolder, 'ledger');
/** Where a voter's log lies, and its witness beside it. */
export const logFolderOf = (stateFolder: string): string => join(stateFolder, 'consensus');
export const witnessFileOf = (stateFolder: string): string => join(stateFolder, 'consensus.witness');
/** What is added to their names for the log of before a recovery. */
export const setAsideBefore = (generation: number): string => `.before-generation-${generation}`;

export function createVoteFolder(stateFolder: string, files: FolderFiles = realFiles): VoteFolder {
  const keyFile = voterKeyFileOf(stateFolder);
  const namesFile = join(stateFolder, 'generations.named');
  const logPaths = [logFolderOf(stateFolder), witnessFileOf(stateFolder)];

  async function write(change: Partial<Membership>): Promise<void> {
    const { logBegun, frozen, recovering, ...membership } = await loadMembership(stateFolder);
    const isSameVote = change.raftId === undefined && logBegun;
    // The next generation settles which of two rivals was right.
    const isSameGeneration = change.generations === undefined && frozen !== undefined;
    const isRecovering = recovering && !change.raftId;
    await files.write(stateFolder, {
      ...membership,
      ...(isRecovering && { recovering }),
      ...(isSameVote && { logBegun }),
      ...(isSameGeneration && { frozen }),
      ...change,
    });
  }

  async function clearLog(): Promise<void> {
    for (const path of logPaths) await files.remove(path);
  }

  /** Keeps what is damaged or over for whoever wants to look into it: of damaged ones the newest. */
  async function setAside(paths: readonly string[], suffix = '.damaged'): Promise<void> {
    for (const path of paths) if (await exists(path)) await files.replace(path, `${path}${suffix}`);
  }

  async function membershipOf(): Promise<Membership> {
    const membership = await loadMembership(stateFolder);
    if (membership.removed) throw removedError(membership.name);
    return membership;
  }

  return {
    membership: membershipOf,
    async settle() {
      const membership = await membershipOf();
      if (membership.recovering) throw unfinishedError(membership.name);
      if (membership.raftId > 0 && !(await exists(keyFile))) {
        await setAside(logPaths);
        await write({ raftId: 0 });
      } else if (membership.raftId === 0) await clearLog();
      return loadMembership(stateFolder);
    },
    async carryOut(turn) {
      switch (turn.kind) {
        case 'take-up':
          await clearLog();
          await write({ raftId: turn.raftId, roles: [...turn.roles] });
          return;
        case 'give-up':
          await files.remove(keyFile);
          await write({ raftId: 0, roles: [...turn.roles] });
          await clearLog();
          return;
        case 'set-aside':
          await files.remove(keyFile);
          await setAside(logPaths);
          await write({ raftId: 0 });
          return;
        case 'set-ledger-aside':
          await setAside([ledgerFolderOf(stateFolder)]);
          return;
        case 'new-generation': {
          const { generations = [] } = await loadMembership(stateFolder);
          await files.remove(keyFile);
          const kept = generations.filter(({ number }) => !turn.records.some((record) => record.number === number));
          const all = [...kept, ...turn.records].slice(-generationsMax);
          const votersIndex = (all.at(-1)?.baseIndex ?? 0) + 1;
          // Before the record counts: a log of an older generation never lies beside a newer one.
          await clearLog();
          // Entries of the rival, which has the same number, could not be told from those of the generation.
          if (kept.length < generations.length) await files.remove(ledgerFolderOf(stateFolder));
          await write({ raftId: 0, generations: all, contacts: [...turn.contacts], votersIndex });
          return;
        }
        case 'freeze':
          await write({ frozen: turn.reason });
          return;
        case 'leave':
          await files.remove(keyFile);
          await write({ raftId: 0, removed: true });
          await clearLog();
          throw removedError((await loadMembership(stateFolder)).name);
      }
    },
    async beginGeneration(recordFor, keepLedger) {
      await write({ recovering: true });
      await files.remove(keyFile);
      await write({ raftId: 0 });
      const record = recordFor((await openKey(keyFile)).peer);
      const { generations = [], contacts } = await loadMembership(stateFolder);
      const founders = record.voters.map(({ peer, raftId }) => ({ peer, raftId, addresses: [] }));
      const others = contacts.filter(({ peer }) => !founders.some((founder) => founder.peer === peer));
      await write({
        generations: [...generations, record].slice(-generationsMax),
        contacts: [...founders, ...others.map((contact) => ({ ...contact, raftId: 0 }))].slice(0, contactsMax),
        votersIndex: record.baseIndex + 1,
      });
      // From here on an entry that was never committed does no harm in its ledger: the generation has it.
      await keepLedger();
      await setAside(logPaths, setAsideBefore(record.number));
      await write({ raftId: founders[0]?.raftId ?? 0 });
      return record;
    },
    async key() {
      return (await exists(keyFile)) ? (await loadIdentity(keyFile)).peer : null;
    },
    namedGenerations: () => readNames(namesFile),
    async nameGeneration(hash) {
      const names = new Set([...(await readNames(namesFile)), hash]);
      await replaceDurably(namesFile, [...names, ''].join('\n'));
    },
    makeKey: async () => (await openKey(keyFile)).peer,
    dropKey: () => files.remove(keyFile),
    async noteVoters(contacts, index) {
      const { votersIndex = 0 } = await loadMembership(stateFolder);
      if (index >= votersIndex) await write({ contacts: [...contacts], votersIndex: index });
    },
    logBegun: () => write({ logBegun: true }),
  };
}

async function readNames(file: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  return text.split('\n').filter((line) => line !== '');
}

const realFiles: FolderFiles = {
  async remove(path) {
    await rm(path, { recursive: true, force: true });
    await syncFolder(dirname(path));
  },
  async replace(from, to) {
    await rm(to, { recursive: true, force: true });
    await rename(from, to);
    await syncFolder(dirname(to));
  },
  write: writeMembership,
};

async function exists(path: string): Promise<boolean> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  return found !== undefined;
}

function unfinishedError(name: string): ParleyError {
  return new ParleyError('recovery-unfinished', `the recovery on '${name}' was cut off before its end`, {
    hint: 'Begin it again: `parley recover`.',
  });
}

function removedError(name: string): ParleyError {
  return new ParleyError('removed', `'${name}' was removed from the fleet: this peer has stopped for good`, {
    hint: 'To let this machine join again, use an empty state folder and the token of a new invite.',
  });
}
