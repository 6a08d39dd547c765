// Voters over the real mesh and the real database on loopback: election, snapshot, a leader that vanishes, idle cost.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { bootstrapLog, type Consensus, createConsensus } from '../../node/consensus/index.ts';
import { systemClock } from '../../node/host/clock.ts';
import type { Mesh } from '../../node/interfaces.ts';
import { createMesh, identityFromSeed } from '../../node/mesh/index.ts';
import { createWitnessFile, openStore } from '../../node/store/index.ts';
import { genesisHash, noLearners, silentLogger, until } from './fleet.ts';
import { ListMachine } from './list-machine.ts';

interface RealVoter {
  readonly raftId: number;
  readonly mesh: Mesh;
  readonly machine: ListMachine;
  readonly consensus: Consensus;
}

async function startVoters(t: TestContext, count: number): Promise<RealVoter[]> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-consensus-'));
  const keys = Array.from({ length: count }, () => randomBytes(32));
  const peers = keys.map((key) => identityFromSeed(key).peer);
  const addresses = new Map<string, string[]>();
  const listeners = new Set<() => void>();
  const members = {
    isMember: (peer: string) => peers.includes(peer),
    wasRemoved: () => false,
    joinsOpen: () => false,
    asksStrangers: () => false,
    meet: () => undefined,
    wanted: () => peers.map((peer) => ({ peer, addresses: addresses.get(peer) ?? [] })),
    onChange(listener: () => void) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    peerOf: (raftId: number) => peers[raftId - 1],
    raftIdOf: (peer: string) => (peers.includes(peer) ? peers.indexOf(peer) + 1 : undefined),
    voters: () => peers.map((_, position) => position + 1),
  };
  const configuration = { voters: peers.map((_, position) => position + 1), ...noLearners };
  const common = { clock: systemClock, logger: silentLogger };
  const voters: RealVoter[] = [];
  const closing: (() => Promise<void>)[] = [];
  for (const [position, privateKey] of keys.entries()) {
    const mesh = createMesh({ privateKey, listen: ['/ip4/127.0.0.1/tcp/0'], discovery: 'none' })({
      ...common,
      random: randomBytes,
      members,
    });
    await mesh.start();
    addresses.set(mesh.self, mesh.addresses());
    const store = await openStore(join(folder, String(position)));
    const witness = createWitnessFile(join(folder, `${position}.witness`));
    await bootstrapLog({ store, witness }, { index: 1, term: 1, chainHash: genesisHash, configuration });
    const machine = new ListMachine();
    const raftId = position + 1;
    const components = { ...common, store, witness, mesh, randomBytes, members, stateMachine: machine };
    const consensus = createConsensus({ raftId })(components);
    voters.push({ raftId, mesh, machine, consensus });
    closing.push(async () => {
      await consensus.stop();
      await mesh.stop();
      await store.close();
      await witness.close();
    });
  }
  t.after(async () => {
    await Promise.all(closing.map((close) => close()));
    await rm(folder, { recursive: true });
  });
  for (const listener of listeners) listener();
  await Promise.all(voters.map(({ consensus }) => consensus.start()));
  return voters;
}

async function leaderOf(voters: readonly RealVoter[]): Promise<RealVoter> {
  let leader: RealVoter | undefined;
  await until(() => {
    leader = voters.find(({ consensus }) => consensus.status().role === 'leader');
    return voters.every(({ consensus }) => leader && consensus.status().leader === leader.raftId);
  }, 15_000);
  assert.ok(leader);
  return leader;
}

const propose = (voter: RealVoter, bytes: Uint8Array): Promise<unknown> =>
  voter.consensus.propose(bytes, { signal: AbortSignal.timeout(10_000) });

test('voters over libp2p agree, and agree anew when the leader vanishes', async (t) => {
  const voters = await startVoters(t, 3);
  const leader = await leaderOf(voters);
  await Promise.all(Array.from({ length: 64 }, (_, n) => propose(leader, new TextEncoder().encode(`w${n}`))));
  await until(() => voters.every(({ machine }) => machine.words.length === 64));
  const others = voters.filter((voter) => voter !== leader);
  await leader.mesh.stop();
  const next = await leaderOf(others);
  await propose(next, new TextEncoder().encode('after'));
  await until(() => others.every(({ machine }) => machine.words.at(-1) === 'after'));
  for (const { machine } of others) assert.equal(machine.words.length, 65);
});

test('a new voter gets a snapshot of several parts over libp2p', async (t) => {
  const voters = await startVoters(t, 3);
  const leader = await leaderOf(voters);
  const behind = voters.find((voter) => voter !== leader);
  assert.ok(behind);
  await behind.consensus.stop();
  const word = new TextEncoder().encode('x'.repeat(60_000));
  await Promise.all(Array.from({ length: 30 }, () => propose(leader, word)));
  await leader.consensus.compact(leader.machine.applied);
  await behind.consensus.start();
  await until(() => behind.machine.words.length === 30, 15_000);
  assert.equal(behind.machine.restores, 1);
});
