// Owns one simulated peer: what outlives its process (key, disks, machine), and the joining of the real rooms to one run of
// that process, as node/create-node.ts joins them. Below the rooms everything is simulated.

import { bootstrapLog, type Consensus, createConsensus, type StateMachine } from '../../node/consensus/index.ts';
import { createBeats } from '../../node/control/beats.ts';
import { createCatalogue } from '../../node/control/catalogue.ts';
import { createCoordinator } from '../../node/control/coordinator.ts';
import { createPresence } from '../../node/control/presence.ts';
import { createReports } from '../../node/control/reports.ts';
import { createDevice } from '../../node/device/index.ts';
import type { Logger, RandomBytes } from '../../node/interfaces.ts';
import { createLedger, type Ledger } from '../../node/ledger/index.ts';
import type { Identity } from '../../node/mesh/index.ts';
import { leadershipOf, votersOf } from '../../node/wiring/leadership.ts';
import type { SnapshotMetadata } from '../../protocols/consensus-record.ts';
import type { JoinContact } from '../../protocols/join.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Role } from '../../protocols/primitives.ts';
import type { Chance } from './chance.ts';
import type { SimulatedBlobs, SimulatedDatabase } from './disk.ts';
import { createSimulatedJournal } from './journal.ts';
import { createSimulatedMachine, type MachineState } from './machine.ts';
import type { SimulatedMesh } from './network.ts';
import { verifyQuickly as verifySignature } from './signatures.ts';
import { clockOf, type Life, type VirtualTime } from './time.ts';
import { createSimulatedBuilder, createSimulatedProject } from './workshop.ts';

/** What a peer is and keeps from one run of its process to the next. */
export interface Hardware {
  readonly name: string;
  readonly identity: Identity;
  /** What it certifies with while it votes. */
  readonly voterKey: Identity;
  readonly roles: readonly Role[];
  /** 0 for members that do not vote. */
  readonly raftId: number;
  readonly contacts: readonly JoinContact[];
  readonly databases: Readonly<Record<'ledger' | 'consensus' | 'witness' | 'journal', SimulatedDatabase>>;
  readonly blobs: SimulatedBlobs;
  readonly machine: MachineState;
}

/** What the simulation looks at from outside. */
export interface PeerWitness {
  /** Stands between consensus and the ledger. */
  stateMachine(ledger: Ledger): StateMachine;
  onLedger(ledger: Ledger): void;
  onConsensus(consensus: Consensus): void;
  onExecute(toplevel: string): void;
  /** The device has reported an order's end. */
  onEnded(order: number): void;
}

export interface PeerWorld {
  readonly time: VirtualTime;
  readonly chance: Chance;
  readonly genesis: Uint8Array;
  readonly logger: Logger;
  /** Hosts that the project has. */
  readonly hosts: () => readonly string[];
  readonly mesh: SimulatedMesh;
  readonly witness: PeerWitness;
}

/** One run of a peer's process. */
export interface Running {
  readonly life: Life;
  readonly ledger: Ledger;
  readonly consensus: Consensus | undefined;
  readonly blobs: ReturnType<SimulatedBlobs['open']>;
}

const noOutgoing = { votersOutgoing: [], learnersNext: [] };

type Basis = ReturnType<typeof basisOf>;

/** Starts the peer's rooms. @throws what a room says that cannot start. */
export async function runPeer(hardware: Hardware, life: Life, world: PeerWorld): Promise<Running> {
  const basis = basisOf(hardware, life, world);
  const { ledger } = basis;
  world.witness.onLedger(ledger);
  await ledger.start();
  const consensus = hardware.raftId > 0 ? await createVoter(basis) : undefined;
  await consensus?.start();
  if (consensus !== undefined) world.witness.onConsensus(consensus);
  await startDevice(basis, consensus);
  return { life, ledger, consensus, blobs: basis.blobs };
}

function basisOf(hardware: Hardware, life: Life, world: PeerWorld) {
  const { identity, raftId, contacts, databases } = hardware;
  const { mesh, logger, genesis, time } = world;
  const clock = clockOf(time, life);
  const blobs = hardware.blobs.open(life);
  const source = raftId > 0 ? ('consensus' as const) : ('voters' as const);
  const ledger = createLedger({ self: identity.peer, source, genesis, contacts })({
    ...{ store: databases.ledger.open(life), blobs, mesh, clock, logger, verifySignature },
  });
  const chance = world.chance.fork(`${hardware.name} ${hardware.machine.boots} ${time.nowMs}`);
  const randomBytes: RandomBytes = (count) => chance.bytes(count);
  return { hardware, life, world, clock, blobs, ledger, chance, randomBytes, mesh, logger };
}

async function createVoter(basis: Basis): Promise<Consensus> {
  const { hardware, life, world, ledger, clock, logger, randomBytes, mesh } = basis;
  const store = hardware.databases.consensus.open(life);
  const witness = hardware.databases.witness.openRecord(life);
  const isEmpty = (await store.get('snapshot')) === undefined;
  if (isEmpty) await bootstrapLog({ store, witness }, baseOf(ledger.state()));
  const stateMachine = world.witness.stateMachine(ledger);
  const members = ledger.raftMembers();
  const certifying = { ledger: ledger.certification, sign: hardware.voterKey.sign, verifySignature };
  const consensus = createConsensus({ raftId: hardware.raftId })({
    ...{ store, witness, mesh, clock, logger, randomBytes, members, stateMachine, certifying },
  });
  ledger.useConsensus(consensus);
  return consensus;
}

/** A new voter's log begins with what its ledger holds: with entry 1, or later where a damaged log was given up. */
function baseOf({ index, term, chainHash, voters, learners, joint }: LedgerState): SnapshotMetadata {
  const { votersOutgoing, learnersNext, autoLeave } = joint ?? { ...noOutgoing, autoLeave: false };
  const configuration = { voters, votersOutgoing, learners, learnersNext, autoLeave };
  return { index, term, chainHash, configuration };
}

async function startDevice(basis: Basis, consensus: Consensus | undefined): Promise<void> {
  const { hardware, life, world, ledger, clock, chance, logger, randomBytes, mesh } = basis;
  const { identity, name, machine: state } = hardware;
  const self = identity.peer;
  const store = hardware.databases.journal.open(life);
  const journal = createSimulatedJournal({ self, store, mesh, nowMs: clock.nowMs });
  await journal.start();
  const { onExecute, onEnded } = world.witness;
  journal.onAppended((report) => report.kind === 'order-ended' && onEnded(report.body.order));
  const machine = createSimulatedMachine({ time: world.time, chance, life, state, onExecute });
  const times = { healthSettleMs: 200, confirmWindowMs: 5_000, fetchPatienceMs: 20_000 };
  const device = createDevice({ self, host: name, ...times, rootsFolder: '/simulated' })({
    ...{ store, ledger, machine, journal, mesh, identity, verifySignature, clock, logger, randomBytes },
    closures: { fetch: async () => undefined, realise: async () => undefined, release: async () => undefined },
    nix: { addRoot: async () => undefined, removeRoot: async () => undefined, rootsIn: async () => [] },
    recorder: { recording: (_onProgram, work) => work() },
  });
  const facts = () => ({
    ...{ incarnation: journal.incarnation(), journalSequence: journal.lastSequence() },
    ...{ running: device.running(), booted: device.booted(), activity: device.activity(), traffic: {} },
  });
  const control = controlOf(basis, consensus, { journal, facts });
  journal.onAppended(control.beats.changed);
  await device.start();
  control.presence.start();
  await control.beats.start();
  control.coordinator?.start();
  control.reports?.start();
}

/** The parts of the control room that need no person: presence, and on voters the coordinator. */
function controlOf(
  { life, world, ledger, clock, blobs, logger, mesh, randomBytes }: Basis,
  consensus: Consensus | undefined,
  {
    journal,
    facts,
  }: {
    readonly journal: ReturnType<typeof createSimulatedJournal>;
    readonly facts: Parameters<ReturnType<typeof createBeats>>[0]['facts'];
  },
) {
  const presence = createPresence({ mesh, ledger, clock, logger });
  const beats = createBeats({ release: 'simulated' })({
    ...{ mesh, ledger, clock, logger, facts, recordOwn: presence.recordOwn },
  });
  if (consensus === undefined) return { presence, beats, reports: undefined, coordinator: undefined };
  const builder = createSimulatedBuilder(world.hosts);
  const builderAt = () => builder;
  const { peerOf } = ledger.raftMembers();
  const { state, onApplied } = ledger;
  const leadership = leadershipOf({ consensus, peerOf, state, onApplied });
  const shared = {
    ...{
      mesh,
      ledger,
      leadership,
      voters: votersOf({ consensus, ...ledger }),
      blobs,
      builderAt,
      journal,
      facts,
      clock,
      logger,
    },
    ...{ randomBytes, presence, project: createSimulatedProject(), keepTwice: async () => undefined },
    diffClosures: () => ({ changes: [] }),
    createToken: () => {
      throw new Error(`${life.name} invites nobody`);
    },
  };
  const isOnline = (peer: string): boolean => presence.of(peer).online;
  const catalogue = createCatalogue({ ledger, builderAt, mesh, isOnline });
  return {
    ...{ presence, beats, reports: createReports(shared) },
    coordinator: createCoordinator({ ...shared, catalogue }),
  };
}
