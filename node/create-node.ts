// Owns the joining of the rooms: which part gets what of which other part, and the order in which they start and stop.
// Nothing is decided here.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import packageFacts from '../package.json' with { type: 'json' };
import type { LedgerState } from '../protocols/ledger-state.ts';
import type { Membership } from '../protocols/membership.ts';
import { createBuildClient, createBuilder, diffClosures, serveBuildJobs } from './build/index.ts';
import { createClosures, createSecondHolder } from './closure/index.ts';
import type { LoadedConfig } from './config.ts';
import { createConsensus } from './consensus/index.ts';
import { createControl } from './control/index.ts';
import { createDevice, isBeforeArming } from './device/index.ts';
import { builderKeyFileOf, identityFileOf, loadMembership, loadVoterKey, nixSystem } from './enrolment.ts';
import {
  createContainedMachine,
  createLogger,
  createNix,
  createProcessRunner,
  createRecordingRunner,
  systemClock,
} from './host/index.ts';
import type { Logger, Startable } from './interfaces.ts';
import { createJournal } from './journal/index.ts';
import { createLedger, readGenesis } from './ledger/index.ts';
import { createMesh, createToken, type Identity, loadIdentity, serveJoins, verifySignature } from './mesh/index.ts';
import { createProject } from './project/index.ts';
import { createBlobStore, createWitnessFile, openStore } from './store/index.ts';
import { createFrozenAlarm } from './wiring/frozen.ts';
import { createGenerationExchange } from './wiring/generation-exchange.ts';
import { keepingOf } from './wiring/keeping.ts';
import { createLazyStore } from './wiring/lazy-store.ts';
import { leadershipOf, unknownLeadership, votersOf } from './wiring/leadership.ts';
import { createLedgerStart } from './wiring/ledger-start.ts';
import { createManifests } from './wiring/manifests.ts';
import type { TurningPeer } from './wiring/peer-loop.ts';
import { createProjectFollower } from './wiring/project-follower.ts';
import { createVoteFolder, ledgerFolderOf, logFolderOf, type VoteFolder, witnessFileOf } from './wiring/vote-folder.ts';
import { createVoteWatch, type VoteWatch } from './wiring/vote-watch.ts';
import { createVoting } from './wiring/voting.ts';
import { createVotingKey } from './wiring/voting-key.ts';

/** Bytes of closures on their way into the store. */
const spoolBytesMax = 64 * 2 ** 30;
/** One run of a closure's program. */
const switchTimeoutMs = 600_000;
/** How long a device waits for a byte of a closure that nobody reachable has. */
const fetchPatienceMs = 600_000;
const release = packageFacts.version;
const clock = systemClock;

interface Basis {
  readonly config: LoadedConfig;
  readonly membership: Membership;
  readonly identity: Identity;
  readonly logger: Logger;
  /** A path in the state folder. */
  readonly at: (...names: string[]) => string;
}

/** A peer that is put together and not started. @throws ParleyError of whatever part cannot be opened, with a hint. */
export async function createNode(config: LoadedConfig): Promise<TurningPeer> {
  const { stateFolder } = config;
  const membership = await loadMembership(stateFolder);
  const identity = await loadIdentity(identityFileOf(stateFolder));
  const logger = createLogger({ level: config.logLevel }).child({ peer: membership.name });
  const basis: Basis = { config, membership, identity, logger, at: (...names) => join(stateFolder, ...names) };
  const folder = createVoteFolder(stateFolder);
  const mesh = await createMeshParts(basis, folder, () => watch);
  const device = await createDeviceParts(basis, mesh);
  const project = await createProjectParts(basis, mesh, device);
  const control = createControlParts(basis, folder, mesh, device, project);
  const { raftId, generations: known = [] } = membership;
  const watch = createVoteWatch({ self: identity.peer, raftId, generation: known.at(-1)?.number ?? 0 })({
    folder,
    ledger: mesh.ledger,
    hasLeader: () => mesh.consensus === null || mesh.consensus.status().leader !== undefined,
    announceKey: control.announceKey,
    isBusy: () => !isBeforeArming(device.device.activity()?.state ?? 'ordered'),
    clock,
    logger,
  });
  const generations = createGenerationExchange({
    fleet: membership.fleet,
    recoveryKey: readGenesis(membership.genesis).state.recoveryKey,
    known,
    isFrozen: membership.frozen !== undefined,
  })({
    mesh: mesh.mesh,
    namedHashes: folder.namedGenerations,
    members: () => mesh.ledger.state().members,
    onTurn: watch.turn,
    clock,
    logger,
  });
  const parts: readonly Startable[] = [
    ...[...mesh.parts, ...device.parts, ...project.parts],
    ...[control, watch, generations, createFrozenAlarm(membership.frozen, { clock, logger })],
  ];
  const started: Startable[] = [];
  return {
    turned: watch.turned,
    async start() {
      for (const part of parts) {
        started.unshift(part);
        await part.start();
      }
      logger.info({ addresses: mesh.mesh.addresses() }, 'peer runs');
    },
    async stop() {
      for (const part of started) await part.stop();
      for (const store of [...mesh.stores, ...device.stores]) await store.close();
    },
  };
}

type MeshParts = Awaited<ReturnType<typeof createMeshParts>>;

/** The peer among its fleet: connections, the ledger, and a voter's part in it. */
async function createMeshParts(
  { config, membership, identity, logger, at }: Basis,
  folder: VoteFolder,
  watch: () => Pick<VoteWatch, 'damaged' | 'ledgerDamaged'>,
) {
  const voterKey = await loadVoterKey(at(), membership);
  const blobs = createBlobStore(at('blobs'));
  const ledgerStore = createLazyStore(() => openStore(ledgerFolderOf(at())));
  const mesh = createMesh({ privateKey: identity.privateKey, ...config })({
    clock,
    logger,
    random: randomBytes,
    members: {
      isMember: (peer) => ledger.meshMembers().isMember(peer),
      wasRemoved: (peer) => ledger.meshMembers().wasRemoved(peer),
      joinsOpen: () => ledger.meshMembers().joinsOpen(),
      asksStrangers: () => ledger.meshMembers().asksStrangers(),
      meet: (stranger) => ledger.meshMembers().meet(stranger),
      wanted: () => ledger.meshMembers().wanted(),
      onChange: (listener) => ledger.meshMembers().onChange(listener),
    },
  });
  const source = voterKey ? ('consensus' as const) : ('voters' as const);
  const { genesis, contacts, votersIndex: contactsIndex, generations = [] } = membership;
  const ledger = createLedger({ self: identity.peer, source, genesis, contacts, contactsIndex, generations })({
    ...{ store: ledgerStore, blobs, mesh, clock, logger },
    verifySignature,
  });
  const ledgerStart = createLedgerStart({ ledger, onDamage: (error) => watch().ledgerDamaged(error) });
  const shared = { mesh, ledger, blobs };
  if (!voterKey)
    return {
      ...shared,
      consensus: null,
      leadership: unknownLeadership,
      parts: [ledgerStart, mesh],
      stores: [ledgerStore],
    };

  const votingKey = createVotingKey({ peer: identity.peer, raftId: membership.raftId })({ identity: voterKey, ledger });
  const disk = {
    store: createLazyStore(() => openStore(logFolderOf(at()))),
    witness: createWitnessFile(witnessFileOf(at())),
  };
  const members = ledger.raftMembers();
  const consensus = createConsensus({ raftId: membership.raftId })({
    ...disk,
    mesh,
    clock,
    logger,
    randomBytes,
    members,
    stateMachine: ledger,
    certifying: {
      ledger: ledger.certification,
      sign: membership.frozen === undefined ? votingKey : () => undefined,
      verifySignature,
    },
  });
  ledger.useConsensus(consensus);
  const leadership = leadershipOf({
    consensus,
    peerOf: members.peerOf,
    state: ledger.state,
    onApplied: ledger.onApplied,
  });
  const { raftId, votersIndex, logBegun: hasLog = false } = membership;
  const voting = createVoting({ self: identity.peer, raftId, contacts, votersIndex, generations, hasLog })({
    disk,
    ledger,
    consensus,
    folder,
    onDamage: (error) => watch().damaged(error),
  });
  const parts = [ledgerStart, mesh, voting];
  return { ...shared, consensus, leadership, parts, stores: [ledgerStore, disk.store, disk.witness] };
}

type DeviceParts = Awaited<ReturnType<typeof createDeviceParts>>;

/** The machine below the peer: its Nix store, the closures that come into it, the device that switches, the journal. */
async function createDeviceParts({ config, membership, identity, logger, at }: Basis, { mesh, ledger }: MeshParts) {
  const runner = createRecordingRunner(createProcessRunner({ logger }));
  const nix = createNix({
    cacheHome: at('cache'),
    ...(config.nixStore ? { store: config.nixStore } : {}),
    substituters: config.substituters,
    trustedPublicKeys: config.trustedPublicKeys,
  })({ runner });
  const store = await openStore(at('journal'));
  let acknowledged: LedgerState['devices'][string] | undefined;
  const self = identity.peer;
  const journal = createJournal({ self, name: membership.name, markerFile: at('journal.marker') })({
    store,
    identity,
    verifySignature,
    mesh,
    clock,
    logger,
  });
  const manifests = createManifests({ self, state: ledger.state, fetchBlob: ledger.fetchBlob });
  const siteOf = (peer: string): string | undefined => ledger.state().members[peer]?.site;
  const isHere = ({ peer }: { readonly peer: string }): boolean => siteOf(peer) === membership.site;
  const closures = createClosures({ spoolFolder: at('closure', 'spool'), spoolBytesMax, site: membership.site })({
    mesh,
    clock,
    logger,
    nix,
    manifest: manifests.load,
    sources: manifests.sources,
    builderKeys: () => builderKeys(ledger.state()),
    sites: {
      siteOf,
      livePeersAtSite: () =>
        mesh
          .connectedPeers()
          .filter(isHere)
          .map(({ peer }) => peer),
    },
  });
  const { keepTwice } = createSecondHolder(at('roots', 'kept'))({
    mesh,
    keepers: manifests.keepers,
    mayAsk: (peer) => ledger.state().members[peer]?.roles.includes('voter') ?? false,
    closures,
    removeRoot: nix.removeRoot,
    logger,
  });
  const { healthSettleMs, confirmWindowMs } = config;
  const device = createDevice({
    self,
    host: membership.name,
    frozen: membership.frozen,
    healthSettleMs,
    confirmWindowMs,
    fetchPatienceMs,
    rootsFolder: at('roots', 'systems'),
  })({
    store,
    ledger,
    closures,
    nix,
    recorder: runner,
    machine: createContainedMachine({ storeRoot: config.nixStore ?? '/', rootFolder: at('root'), switchTimeoutMs })({
      runner,
      nix,
    }),
    journal,
    mesh,
    identity,
    verifySignature,
    clock,
    logger,
    randomBytes,
  });
  ledger.onApplied((state) => {
    const known = state.devices[membership.name];
    if (known !== acknowledged && known) void journal.acknowledge(known);
    acknowledged = known;
  });
  return { runner, nix, journal, closures, keepTwice, device, parts: [journal, closures, device], stores: [store] };
}

/** Keys of the builders in force. */
function builderKeys(state: LedgerState): string[] {
  return Object.values(state.members).flatMap(({ builderKey }) => (builderKey === undefined ? [] : [builderKey]));
}

type ProjectParts = Awaited<ReturnType<typeof createProjectParts>>;

/** The project and the builder, on peers with the roles for them. */
async function createProjectParts(
  { membership, identity, logger, at }: Basis,
  { mesh, ledger }: MeshParts,
  device: DeviceParts,
) {
  const buildClient = createBuildClient({ mesh, clock });
  const builds = membership.roles.includes('builder');
  if (!builds && membership.raftId === 0)
    return { project: null, follower: null, builderAt: buildClient, builderKey: undefined, parts: [] };

  const { runner, nix } = device;
  const { taskLog } = device.journal;
  const repositoryFolder = at('project.git');
  const isHolder = ({ peer }: { readonly peer: string }): boolean => {
    const roles = ledger.state().members[peer]?.roles ?? [];
    return roles.includes('voter') || roles.includes('builder');
  };
  const project = createProject({ repositoryFolder })({
    runner,
    mesh,
    logger,
    fetchBlob: ledger.fetchBlob,
    holders: () =>
      mesh
        .connectedPeers()
        .filter(isHolder)
        .map(({ peer }) => peer),
  });
  const follower = createProjectFollower({ project, ledger, clock, logger });
  const opening: Startable = { start: () => project.open(), stop: async () => undefined };
  const parts = [opening, follower];
  if (!builds) return { project, follower, builderAt: buildClient, builderKey: undefined, parts };

  const keyFile = builderKeyFileOf(at());
  const builder = createBuilder({
    repositoryFolder,
    keyFile,
    keyName: membership.name,
    rootsFolder: at('roots', 'builds'),
    systems: [nixSystem()],
  })({ runner, nix, project, taskLog, clock, logger });
  serveBuildJobs({ mesh, builder, taskLog, clock });
  const builderAt = (peer: string) => (peer === identity.peer ? builder : buildClient(peer));
  return { project, follower, builderAt, builderKey: await builder.publicKey(), parts };
}

/** What people and other peers ask of this peer. */
function createControlParts(
  { config, membership, logger, at }: Basis,
  folder: VoteFolder,
  { mesh, ledger, blobs, consensus, leadership }: MeshParts,
  { journal, closures, keepTwice, device }: DeviceParts,
  { project, follower, builderAt, builderKey }: ProjectParts,
): Startable & { announceKey(voterKey: string): void } {
  const keeping = keepingOf(ledger, follower);
  const control = createControl({
    name: membership.name,
    socketPath: at('control.sock'),
    speakAs: config.speakAs,
    release,
  })({
    mesh,
    ledger,
    leadership,
    voters: consensus && votersOf({ consensus, ...ledger }),
    blobs,
    project,
    builderAt,
    keepTwice,
    diffClosures,
    journal,
    createToken,
    clock,
    randomBytes,
    logger,
    facts: () => ({
      incarnation: journal.incarnation(),
      journalSequence: journal.lastSequence(),
      running: device.running(),
      booted: device.booted(),
      activity: device.activity(),
      traffic: closures.counters().bySite,
      ...keeping.facts(),
    }),
  });
  const { generations = [] } = membership;
  const admit = async (applicant: Parameters<typeof control.admit>[0]) => ({
    ...(await control.admit(applicant)),
    generations,
  });
  serveJoins({ mesh, logger, admit });
  device.onChange(control.factsChanged);
  journal.onAppended(control.factsChanged);
  keeping.onChange(control.factsChanged);
  const announce = (voterKey: string | null): void =>
    control.announce({
      ...{ peer: mesh.self, addresses: [...config.announce, ...mesh.addresses()], system: nixSystem() },
      ...(builderKey && { builderKey }),
      ...(voterKey !== null && { voterKey }),
    });
  return {
    announceKey: announce,
    async start() {
      await control.start();
      announce(await folder.key());
    },
    stop: () => control.stop(),
  };
}
