// Ledgers of several peers in one process: real stores in temporary folders, a mesh and consensus in memory.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemClock } from '../../node/host/clock.ts';
import type { BlobStore, Clock, KeyValueStore, Logger, Mesh, StoreOperation } from '../../node/interfaces.ts';
import { createLedger, type Ledger, type LedgerInit } from '../../node/ledger/index.ts';
import { verifySignature } from '../../node/mesh/identity.ts';
import { createBlobStore, openStore } from '../../node/store/index.ts';
import { type Certificate, certificateStatement } from '../../protocols/certificate.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { EntryBody, EntryKind } from '../../protocols/ledger-entries.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Role } from '../../protocols/primitives.ts';
import { configurationData, createLedgerScript, hash, peerIdOf, voterIdentityOf, voterKeyOf } from './ledger-script.ts';
import { createMemoryConsensus, type MemoryConsensus } from './memory-consensus.ts';
import { createMemoryNetwork, type MemoryNetwork } from './memory-mesh.ts';

export interface LedgerPeer {
  readonly peer: string;
  readonly ledger: Ledger;
  readonly blobs: BlobStore;
  readonly mesh: Mesh;
  readonly store: FaultyStore;
  /** Log lines of warnings and errors. */
  readonly complaints: string[];
  start(): Promise<void>;
  stop(): Promise<void>;
}

export interface FaultyStore extends KeyValueStore {
  /** Called before each batch; what it throws rejects the batch. */
  onBatch: (operations: readonly StoreOperation[]) => void;
}

export interface LedgerFleet {
  readonly network: MemoryNetwork;
  readonly consensus: MemoryConsensus;
  readonly genesis: Uint8Array;
  /** A peer by name; n1 founded the fleet. Started when it is handed out. */
  add(
    name: string,
    source: LedgerInit['source'],
    options?: Partial<LedgerInit> & { clock?: Clock },
  ): Promise<LedgerPeer>;
  /** Proposes on n1. */
  propose<K extends EntryKind>(kind: K, body: EntryBody<K>, commandId?: string): Promise<number>;
  /** Makes a peer a member, and a voter in force with that role. */
  enrol(name: string, roles?: readonly Role[]): Promise<void>;
  /** Some entries that change something. */
  fill(count: number): Promise<void>;
  /** Has n1's state at a new entry certified, and tells the peers that have applied it. */
  checkpoint(): Promise<void>;
}

export const patient = (): AbortSignal => AbortSignal.timeout(20_000);

export async function createLedgerFleet(t: TestContext): Promise<LedgerFleet> {
  const script = createLedgerScript();
  const { genesis } = script;
  const network = createMemoryNetwork();
  const consensus = createMemoryConsensus(genesis);
  const folder = await mkdtemp(join(tmpdir(), 'parley-ledger-'));
  const peers: LedgerPeer[] = [];
  const running = new Set<LedgerPeer>();
  t.after(async () => {
    await Promise.all(peers.map((peer) => peer.stop()));
    await Promise.all(peers.map((peer) => peer.store.close()));
    await rm(folder, { recursive: true, force: true });
  });
  let filled = 0;

  const fleet: LedgerFleet = {
    network,
    consensus,
    genesis: genesis.bytes,
    async add(name, source, { clock = systemClock, ...init } = {}) {
      const peer = peerIdOf(name);
      const mesh = network.join(peer);
      const store = faulty(await openStore(join(folder, name)));
      const blobs = createBlobStore(join(folder, `${name}-blobs`));
      const complaints: string[] = [];
      const logger = createTestLogger(complaints);
      const ledger = createLedger({ self: peer, source, genesis: genesis.bytes, ...init })({
        store,
        blobs,
        mesh,
        clock,
        logger,
        verifySignature,
      });
      const node: LedgerPeer = {
        peer,
        ledger,
        blobs,
        mesh,
        store,
        complaints,
        async start() {
          await ledger.start();
          running.add(node);
          await mesh.start();
          if (source === 'consensus') ledger.useConsensus(await consensus.attach(ledger));
        },
        async stop() {
          running.delete(node);
          consensus.detach(ledger);
          await ledger.stop();
          await mesh.stop();
        },
      };
      peers.push(node);
      await node.start();
      return node;
    },
    async propose(kind, body, commandId) {
      const proposer = peers.find((peer) => peer.peer === peerIdOf('n1'));
      if (proposer === undefined) throw new Error('n1 is not there');
      const draft = { kind, body, actor: 'root@n1', commandId } as Parameters<Ledger['propose']>[0];
      return (await proposer.ledger.propose(draft, { signal: patient() })).index;
    },
    async enrol(name, roles = ['member']) {
      const secretHash = hash(`secret of ${name}`);
      const expiresAtMs = Date.now() + 1e9;
      await fleet.propose('invite-opened', { secretHash, name, site: 'home', roles: [...roles], expiresAtMs });
      const addresses = ['/ip4/127.0.0.1/tcp/1'];
      const facts = { peer: peerIdOf(name), addresses, system: 'x86_64-linux', voterKey: voterKeyOf(name) };
      await fleet.propose('member-joined', { ...facts, secretHash });
      if (!roles.includes('voter')) return;
      const state = peers[0]?.ledger.state() ?? genesis.state;
      const voters = Object.values(state.members).flatMap(({ raftId }) => (raftId > 0 ? [raftId] : []));
      const rest = { votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
      await consensus.append('configuration', configurationData(state, { voters: voters.sort(), ...rest }));
    },
    async checkpoint() {
      const [first] = peers;
      assert.ok(first);
      await fleet.propose('checkpoint-begun', {});
      while (first.ledger.checkpointDue()?.kind !== 'checkpoint-made') await nextTurn();
      const draft = first.ledger.checkpointDue();
      assert.ok(draft?.kind === 'checkpoint-made');
      const index = await fleet.propose(draft.kind, draft.body);
      const certificate = certificateAt(index, first.ledger.state());
      for (const { ledger } of running) {
        if (ledger.appliedIndex() >= index) await ledger.certification().take(certificate);
      }
    },
    async fill(count) {
      for (let number = 0; number < count; number += 1) {
        filled += 1;
        const addresses = [`/ip4/127.0.0.1/tcp/${filled}`];
        await fleet.propose('member-updated', { peer: peerIdOf('n1'), addresses, system: 'x86_64-linux' });
      }
    },
  };
  return fleet;
}

/** By all voters in force. */
function certificateAt(index: number, { fleet, generation, chainHash, voterSet, members }: LedgerState): Certificate {
  const place = { generation, index, chainHash };
  const statement = certificateStatement(fleet, place);
  const signatures = voterSet.voters.map(({ raftId, peer }) => {
    const signature = voterIdentityOf(members[peer]?.name ?? '').sign(statement);
    return { raftId, signature };
  });
  return { version: 1, ...place, signatures };
}

export function createTestLogger(complaints: string[]): Logger {
  const complain = (fields: object, message: string): void => {
    complaints.push(`${message} ${JSON.stringify(fields)}`);
  };
  const logger: Logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: complain,
    error: complain,
    child: () => logger,
  };
  return logger;
}

function faulty(store: KeyValueStore): FaultyStore {
  const wrapped: FaultyStore = {
    ...store,
    onBatch: () => undefined,
    async batch(operations, options) {
      wrapped.onBatch(operations);
      await store.batch(operations, options);
    },
  };
  return wrapped;
}

export function diskFull(): never {
  throw new ParleyError('disk-full', 'cannot write: no space is left', { retryable: true });
}
