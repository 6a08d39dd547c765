// Owns one simulated peer: what outlives its process (key, disks, machine), and the joining of the real rooms to one run of
// that process, as node/create-node.ts joins them. Below the rooms everything is simulated.

import { type Consensus, createConsensus, type StateMachine } from '../../node/consensus/index.ts';
import { createBeats } from '../../node/control/beats.ts';
import { createCatalogue } from '../../node/control/catalogue.ts';
import { createCoordinator } from '../../node/control/coordinator.ts';
import { createPresence } from '../../node/control/presence.ts';
import { createReports } from '../../node/control/reports.ts';
import { createDevice, isBeforeArming } from '../../node/device/index.ts';
import type { Logger, RandomBytes } from '../../node/interfaces.ts';
import { createLedger, type Ledger } from '../../node/ledger/index.ts';
import type { Identity } from '../../node/mesh/index.ts';
import { keepingOf } from '../../node/wiring/keeping.ts';
import { leadershipOf, votersOf } from '../../node/wiring/leadership.ts';
import type { VoteTurn } from '../../node/wiring/vote-plan.ts';
import { createVoteWatch } from '../../node/wiring/vote-watch.ts';
import { createVoting } from '../../node/wiring/voting.ts';
import { createVotingKey } from '../../node/wiring/voting-key.ts';
import type { EntryDraft } from '../../protocols/ledger-entries.ts';
import type { Chance } from './chance.ts';
import type { SimulatedBlobs, SimulatedDatabase } from './disk.ts';
import { createSimulatedJournal } from './journal.ts';
import { createSimulatedMachine, type MachineState } from './machine.ts';
import type { SimulatedMesh } from './network.ts';
import { verifyQuickly as verifySignature } from './signatures.ts';
import { clockOf, type Life, type VirtualTime } from './time.ts';
import type { SimulatedVoteFolder } from './vote-folder.ts';
import { createSimulatedBuilder, createSimulatedProject } from './workshop.ts';

/** What a peer is and keeps from one run of its process to the next. */
export interface Hardware {
  readonly name: string;
  readonly identity: Identity;
  readonly vote: SimulatedVoteFolder;
  readonly databases: Readonly<Record<'ledger' | 'consensus' | 'witness' | 'journal', SimulatedDatabase>>;
  readonly blobs: SimulatedBlobs;
  readonly machine: MachineState;
}

/** What the simulation looks at from outside. */
export interface PeerObserver {
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
  readonly observer: PeerObserver;
  /** Has the fleet's controller propose something. */
  readonly propose: (draft: EntryDraft) => Promise<unknown>;
  /** The process must start anew as something else. */
  readonly onTurn: (turn: VoteTurn) => void;
}

/** One run of a peer's process. */
export interface Running {
  readonly life: Life;
  readonly ledger: Ledger;
  readonly consensus: Consensus | undefined;
  readonly blobs: ReturnType<SimulatedBlobs['open']>;
}

/** Between two tries to tell the ledger of a new key. */
const announceMs = 1_000;

type Basis = ReturnType<typeof basisOf>;

/** Starts the peer's rooms. @throws what a room says that cannot start. */
export async function runPeer(hardware: Hardware, life: Life, world: PeerWorld): Promise<Running> {
  const basis = basisOf(hardware, life, world);
  const { ledger } = basis;
  world.observer.onLedger(ledger);
  await ledger.start();
  world.mesh.follow(ledger.meshMembers());
  const { raftId } = hardware.vote.record;
  const consensus = raftId > 0 ? createVoter(basis) : undefined;
  const announceKey = createKeyAnnouncer(basis);
  let isBusy = (): boolean => false;
  const watch = createVoteWatch({ self: hardware.identity.peer, raftId, generation: 0 })({
    ...{ folder: hardware.vote, ledger, clock: basis.clock, logger: world.logger },
    hasLeader: () => consensus === undefined || consensus.status().leader !== undefined,
    announceKey,
    isBusy: () => isBusy(),
  });
  void watch.turned.then((turn) => life.isAlive && world.onTurn(turn));
  if (consensus !== undefined) {
    await startVoter(basis, consensus, watch.damaged);
    world.observer.onConsensus(consensus);
  }
  isBusy = await startDevice(basis, consensus);
  await watch.start();
  const key = await hardware.vote.key();
  if (key !== null) announceKey(key);
  return { life, ledger, consensus, blobs: basis.blobs };
}

/** Stands in for the control room's announcer: the ledger is told of the newest key until it has it. */
function createKeyAnnouncer({ hardware, life, ledger, clock, world }: Basis): (voterKey: string) => void {
  let wanted: string | undefined;
  let isTelling = false;

  async function tell(): Promise<void> {
    while (life.isAlive) {
      const member = ledger.state().members[hardware.identity.peer];
      if (!member?.roles.includes('voter') || member.voterKey === wanted || wanted === undefined) return;
      const { peer, addresses, system } = member;
      const body = { peer, addresses, system, voterKey: wanted };
      await world.propose({ kind: 'member-updated', actor: 'controller', body });
      await new Promise<void>((resolve) => {
        clock.after(announceMs, resolve);
      });
    }
  }

  return (voterKey) => {
    wanted = voterKey;
    if (isTelling) return;
    isTelling = true;
    void tell().finally(() => {
      isTelling = false;
    });
  };
}

function basisOf(hardware: Hardware, life: Life, world: PeerWorld) {
  const { identity, vote, databases } = hardware;
  const { raftId, contacts, votersIndex: contactsIndex } = vote.record;
  const { mesh, logger, genesis, time } = world;
  const clock = clockOf(time, life);
  const blobs = hardware.blobs.open(life);
  const source = raftId > 0 ? ('consensus' as const) : ('voters' as const);
  const ledger = createLedger({ self: identity.peer, source, genesis, contacts, contactsIndex })({
    ...{ store: databases.ledger.open(life), blobs, mesh, clock, logger, verifySignature },
  });
  const chance = world.chance.fork(`${hardware.name} ${hardware.machine.boots} ${time.nowMs}`);
  const randomBytes: RandomBytes = (count) => chance.bytes(count);
  const disk = { store: databases.consensus.open(life), witness: databases.witness.openRecord(life) };
  return { hardware, life, world, clock, blobs, disk, ledger, chance, randomBytes, mesh, logger };
}

function createVoter({ hardware, disk, world, ledger, clock, logger, randomBytes, mesh }: Basis): Consensus {
  const stateMachine = world.observer.stateMachine(ledger);
  const members = ledger.raftMembers();
  const { raftId, key } = hardware.vote.record;
  if (key === undefined) throw new Error(`${hardware.name} votes without a key`);
  const sign = createVotingKey({ peer: hardware.identity.peer, raftId })({ identity: key, ledger });
  const certifying = { ledger: ledger.certification, sign, verifySignature };
  const consensus = createConsensus({ raftId })({
    ...{ ...disk, mesh, clock, logger, randomBytes, members, stateMachine, certifying },
  });
  ledger.useConsensus(consensus);
  return consensus;
}

async function startVoter(
  { hardware, disk, ledger }: Basis,
  consensus: Consensus,
  onDamage: (error: Pick<Error, 'message'>) => void,
): Promise<void> {
  const { raftId, hasLog, contacts, votersIndex } = hardware.vote.record;
  const init = { self: hardware.identity.peer, raftId, contacts, votersIndex, generations: [], hasLog };
  await createVoting(init)({ disk, ledger, consensus, folder: hardware.vote, onDamage }).start();
}

/** @returns whether the device is at work. */
async function startDevice(basis: Basis, consensus: Consensus | undefined): Promise<() => boolean> {
  const { hardware, life, world, ledger, clock, chance, logger, randomBytes, mesh } = basis;
  const { identity, name, machine: state } = hardware;
  const self = identity.peer;
  const store = hardware.databases.journal.open(life);
  const journal = createSimulatedJournal({ self, store, mesh, nowMs: clock.nowMs });
  await journal.start();
  const { onExecute, onEnded } = world.observer;
  journal.onAppended((report) => report.kind === 'order-ended' && onEnded(report.body.order));
  const machine = createSimulatedMachine({ time: world.time, chance, life, state, onExecute });
  const times = { healthSettleMs: 200, confirmWindowMs: 5_000, fetchPatienceMs: 20_000 };
  const device = createDevice({ self, host: name, ...times, rootsFolder: '/simulated' })({
    ...{ store, ledger, machine, journal, mesh, identity, verifySignature, clock, logger, randomBytes },
    closures: { fetch: async () => undefined, realise: async () => undefined, release: async () => undefined },
    nix: { addRoot: async () => undefined, removeRoot: async () => undefined, rootsIn: async () => [] },
    recorder: { recording: (_onProgram, work) => work() },
  });
  const keeping = keepingOf(ledger, null);
  const facts = () => ({
    ...{ incarnation: journal.incarnation(), journalSequence: journal.lastSequence() },
    ...{ running: device.running(), booted: device.booted(), activity: device.activity(), traffic: {} },
    ...keeping.facts(),
  });
  const control = controlOf(basis, consensus, { journal, facts });
  journal.onAppended(control.beats.changed);
  keeping.onChange(control.beats.changed);
  await device.start();
  control.presence.start();
  await control.beats.start();
  control.coordinator?.start();
  control.reports?.start();
  return () => !isBeforeArming(device.activity()?.state ?? 'ordered');
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
