// What the journal's tests share: journals with real databases and keys on one memory mesh, removed after the test.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { createLogger } from '../../node/host/index.ts';
import type { KeyValueStore, Mesh } from '../../node/interfaces.ts';
import { createJournal, type Journal } from '../../node/journal/index.ts';
import { type Identity, identityFromSeed, verifySignature } from '../../node/mesh/index.ts';
import { openStore } from '../../node/store/index.ts';
import type { ReportDraft } from '../../protocols/journal.ts';
import { createManualClock, type ManualClock } from '../helpers/manual-clock.ts';
import type { MemoryNetwork } from '../helpers/memory-mesh.ts';

export const logger = createLogger({ level: 'silent' });
export const closure = `/nix/store/${'a'.repeat(32)}-system`;

export interface TestPeer {
  readonly folder: string;
  readonly identity: Identity;
  readonly mesh: Mesh;
  readonly clock: ManualClock;
  readonly store: KeyValueStore;
  readonly journal: Journal;
  /** Closes and opens the database, with another journal on it. */
  restart(): Promise<TestPeer>;
}

export const identityOf = (number: number) => identityFromSeed(new Uint8Array(32).fill(number));

/** A started peer with the number's key. */
export async function startPeer(t: TestContext, network: MemoryNetwork, number: number): Promise<TestPeer> {
  const folder = await mkdtemp(path.join(tmpdir(), 'parley-journal-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return await openPeer(t, network, number, folder);
}

async function openPeer(t: TestContext, network: MemoryNetwork, number: number, folder: string): Promise<TestPeer> {
  const identity = identityOf(number);
  const mesh = network.join(identity.peer);
  await mesh.start();
  const clock = createManualClock();
  const store = await openStore(path.join(folder, 'journal'));
  t.after(() => store.close());
  const markerFile = path.join(folder, 'journal-marker');
  const init = { self: identity.peer, name: `peer${number}`, markerFile };
  const journal = createJournal(init)({ store, identity, verifySignature, mesh, clock, logger });
  await journal.start();
  const restart = async () => {
    await journal.stop();
    await store.close();
    return await openPeer(t, network, number, folder);
  };
  return { folder, identity, mesh, clock, store, journal, restart };
}

export const step = (order: number): ReportDraft => ({
  kind: 'order-step',
  running: closure,
  booted: null,
  body: { order, state: 'checked' },
});
