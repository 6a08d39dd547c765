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
import { ParleyError } from '../../protocols/errors.ts';
import type { EntryBody, EntryDraft, EntryKind } from '../../protocols/ledger-entries.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Role } from '../../protocols/primitives.ts';
import { inviteHash, joining } from './invites.ts';
import { configurationData, createLedgerScript, peerIdOf, voterKeyOf } from './ledger-script.ts';
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
  isRunning(): boolean;
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
  /** Puts voters in force, by raft ids, through a joint configuration, and leaves learners behind. */
  change(raftIds: readonly number[], learners?: readonly number[]): Promise<void>;
  /** Makes a checkpoint that the started peers keep; returns the index of its state. */
  checkpoint(): Promise<number>;
}

export const patient = (): AbortSignal => AbortSignal.timeout(20_000);

/** What a ledger found at the checkpoint that was begun last, once that is on its disk. */
export async function checkpointMade(ledger: Ledger): Promise<Extract<EntryDraft, { kind: 'checkpoint-made' }>> {
  const giveUp = patient();
  for (;;) {
    const draft = ledger.checkpointDue();
    if (draft?.kind === 'checkpoint-made') return draft;
    giveUp.throwIfAborted();
    await nextTurn();
  }
}

export async function createLedgerFleet(t: TestContext): Promise<LedgerFleet> {
  const script = createLedgerScript();
  const { genesis } = script;
  const network = createMemoryNetwork();
  const consensus = createMemoryConsensus(genesis);
  const folder = await mkdtemp(join(tmpdir(), 'parley-ledger-'));
  const peers: LedgerPeer[] = [];
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
      let isRunning = false;
      const node: LedgerPeer = {
        isRunning: () => isRunning,
        peer,
        ledger,
        blobs,
        mesh,
        store,
        complaints,
        async start() {
          isRunning = true;
          await ledger.start();
          await mesh.start();
          if (source === 'consensus') ledger.useConsensus(await consensus.attach(ledger));
        },
        async stop() {
          isRunning = false;
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
      const secret = `secret of ${name}`;
      const expiresAtMs = Date.now() + 1e9;
      await fleet.propose('invite-opened', {
        ...{ keyHash: inviteHash(secret), name, site: 'home', roles: [...roles], expiresAtMs },
      });
      const addresses = ['/ip4/127.0.0.1/tcp/1'];
      const facts = { peer: peerIdOf(name), addresses, system: 'x86_64-linux', voterKey: voterKeyOf(name) };
      await fleet.propose('member-joined', joining(genesis.state.fleet, secret, facts));
      if (!roles.includes('voter')) return;
      const state = peers[0]?.ledger.state() ?? genesis.state;
      const voters = Object.values(state.members).flatMap(({ raftId }) => (raftId > 0 ? [raftId] : []));
      const rest = { votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
      await consensus.append('configuration', configurationData(state, { voters: voters.sort(), ...rest }));
    },
    change,
    checkpoint,
    async fill(count) {
      for (let number = 0; number < count; number += 1) {
        filled += 1;
        const addresses = [`/ip4/127.0.0.1/tcp/${filled}`];
        await fleet.propose('member-updated', { peer: peerIdOf('n1'), addresses, system: 'x86_64-linux' });
      }
    },
  };
  return fleet;

  async function change(raftIds: readonly number[], learners: readonly number[] = []): Promise<void> {
    const rest = { learners: [...learners], learnersNext: [], autoLeave: false };
    const state = (): LedgerState => peers.find(({ peer }) => peer === peerIdOf('n1'))?.ledger.state() ?? genesis.state;
    const voters = [...raftIds];
    const joint = { voters, votersOutgoing: state().voters, ...rest };
    await consensus.append('configuration', configurationData(state(), joint));
    await consensus.append('configuration', configurationData(state(), { voters, votersOutgoing: [], ...rest }));
  }

  async function checkpoint(): Promise<number> {
    const { ledger } = peers.find((peer) => peer.isRunning()) ?? assert.fail('no peer runs');
    const index = await fleet.propose('checkpoint-begun', {});
    const { kind, body } = await checkpointMade(ledger);
    assert.equal(body.index, index);
    await fleet.propose(kind, body);
    return index;
  }
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

/** A member has what a voter or another member has, and derives the same state from it. */
export async function caughtUp(member: LedgerPeer, other: LedgerPeer): Promise<void> {
  const { index } = other.ledger.state();
  await member.ledger.waitFor((state) => state.index >= index, patient());
  assert.equal(member.ledger.stateHash(), other.ledger.stateHash());
}

/** Voters forget what they had so far; returns the index of the checkpoint that stands for it. */
export async function letGo(fleet: LedgerFleet, voter: LedgerPeer): Promise<number> {
  const index = await fleet.checkpoint();
  // Signing a thousand times for five voters takes seconds; the last certificate covers them all.
  fleet.consensus.certifies = false;
  await fleet.fill(1_004);
  fleet.consensus.certifies = true;
  await fleet.fill(1);
  await voter.ledger.snapshot();
  assert.equal(fleet.consensus.firstIndex(), index + 1);
  return index;
}
