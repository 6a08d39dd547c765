// Owns the ledger of a peer that is stopped: it starts from what the disk holds and changes in memory only, until what it has
// come to is to last. One that is damaged starts empty, where the peer's log may fill it.

import { join } from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import type { Membership } from '../../protocols/membership.ts';
import { createLogger, systemClock } from '../host/index.ts';
import type { KeyValueStore } from '../interfaces.ts';
import { createLedger, type Ledger } from '../ledger/index.ts';
import { verifySignature } from '../mesh/index.ts';
import { createBlobStore, createTentativeStore, openStore } from '../store/index.ts';
import { ledgerFolderOf, type VoteFolder } from './vote-folder.ts';

export interface StoppedLedger {
  readonly ledger: Ledger;
  /** Why what the disk holds is of no use; null where it is sound. */
  readonly damage: string | null;
  /** Writes the ledger as it is now to the disk; a damaged one is set aside first. */
  keep(folder: Pick<VoteFolder, 'carryOut'>): Promise<void>;
  close(): Promise<void>;
}

/** @throws ParleyError `store-damaged` where there is no log that could fill a new ledger; whatever the store says. */
export async function openStoppedLedger(init: {
  readonly stateFolder: string;
  readonly peer: string;
  readonly membership: Membership;
  readonly hasLog: boolean;
}): Promise<StoppedLedger> {
  const { stateFolder, hasLog } = init;
  const found = await startOn(init, () => openStore(ledgerFolderOf(stateFolder))).catch((error: unknown) => error);
  if (isStarted(found)) return { ...found, damage: null, keep: () => found.store.keep() };
  if (!(found instanceof ParleyError) || found.code !== 'store-damaged') throw found;
  if (!hasLog) throw withoutLog(found);
  const { message: damage } = found;
  const begun = await startOn(init, async () => emptyStore);
  return {
    ...{ ...begun, damage },
    async keep(folder) {
      await folder.carryOut({ kind: 'set-ledger-aside', reason: damage });
      const fresh = await openStore(ledgerFolderOf(stateFolder));
      await begun.store.keep(fresh).finally(() => fresh.close());
    },
  };
}

type Started = Awaited<ReturnType<typeof startOn>>;

function isStarted(found: unknown): found is Started {
  return typeof found === 'object' && found !== null && 'ledger' in found;
}

async function startOn(
  { stateFolder, peer, membership, hasLog }: Parameters<typeof openStoppedLedger>[0],
  open: () => Promise<KeyValueStore>,
) {
  const store = createTentativeStore(await open());
  const { genesis, contacts, generations = [] } = membership;
  const source = hasLog ? 'consensus' : 'voters';
  const ledger = createLedger({ self: peer, source, genesis, contacts, generations })({
    ...{ store, mesh: emptyMesh, clock: systemClock, verifySignature },
    blobs: createBlobStore(join(stateFolder, 'blobs')),
    logger: createLogger({ level: 'error' }),
  });
  const close = async (): Promise<void> => {
    await ledger.stop();
    await store.close();
  };
  try {
    await ledger.start();
  } catch (error) {
    await close();
    throw error;
  }
  return { store, ledger, close };
}

function withoutLog({ code, message, cause }: ParleyError): ParleyError {
  return new ParleyError(code, message, {
    hint: 'Recover on another survivor. When this one runs, it sets its ledger aside and fetches it anew.',
    cause,
  });
}

const emptyMesh = {
  handle: () => undefined,
  open: () => Promise.reject(new ParleyError('peer-unreachable', 'this peer is stopped')),
  connectedPeers: () => [],
  onPeerChange: () => () => undefined,
};

const emptyStore: KeyValueStore = {
  get: async () => undefined,
  batch: async () => undefined,
  range: async () => [],
  close: async () => undefined,
};
