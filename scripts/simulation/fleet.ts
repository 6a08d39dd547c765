// Owns the simulated fleet: its peers, which of them run, the one clock and network between them, and the places where the
// judge looks on. Faults and clients act on it from outside.

import type { Consensus, StateMachine } from '../../node/consensus/index.ts';
import type { Logger } from '../../node/interfaces.ts';
import type { Ledger } from '../../node/ledger/index.ts';
import { type Identity, identityFromSeed } from '../../node/mesh/index.ts';
import { decode, sha256Hex } from '../../protocols/codec.ts';
import { consensusFrameSchema, consensusProtocol } from '../../protocols/consensus-message.ts';
import { tailRecordSchema } from '../../protocols/consensus-record.ts';
import { type SlotRecord, slotRecordBytesMax, slotRecordSchema } from '../../protocols/device-record.ts';
import { entryPullProtocol } from '../../protocols/entry-pull.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { JoinContact } from '../../protocols/join.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import type { Role } from '../../protocols/primitives.ts';
import { type Chance, createChance } from './chance.ts';
import { type Counts, noCounts } from './counts.ts';
import { type CrashPoint, type DiskWorld, SimulatedBlobs, SimulatedDatabase } from './disk.ts';
import { forgePage } from './forgery.ts';
import { Judge } from './judge.ts';
import { newMachine, reboot } from './machine.ts';
import { SimulatedNetwork } from './network.ts';
import { type Hardware, type PeerWitness, type Running, runPeer } from './peer.ts';
import { quickly } from './signatures.ts';
import { Life, VirtualTime } from './time.ts';

const slotKey = 'device/slot/system';

/** What a new peer starts with; records are what another run left on its disks. */
export interface PeerPlan {
  readonly name: string;
  readonly roles: readonly Role[];
  readonly raftId: number;
  readonly contacts?: readonly JoinContact[];
  readonly records?: Readonly<Record<keyof Hardware['databases'], ReadonlyMap<string, Uint8Array>>>;
  readonly blobs?: ReadonlyMap<string, Uint8Array>;
}

export interface Peer {
  hardware: Hardware;
  readonly rate: number;
  readonly offsetMs: number;
  life: Life | undefined;
  /** Undefined while its process is not there or not ready. */
  running: Running | undefined;
  /** Something was done to its disks that no crash does. */
  damage: 'none' | 'some' | 'lost acknowledged writes';
  /** Its log is no good, and it waits to be made a new voter. */
  isQuarantined: boolean;
}

/** The key of a peer of this name; the same in every run. */
export function identityOf(name: string) {
  return quickly(identityFromSeed(Buffer.from(sha256Hex(name), 'hex')));
}

/** What a peer tells about itself when it joins; only voters have a key to vote with. */
export function factsOf(name: string, roles: readonly Role[]) {
  const { peer } = identityOf(name);
  const facts = { peer, addresses: ['/sim/nil'], system: 'x86_64-linux' };
  return roles.includes('voter') ? { ...facts, voterKey: identityOf(`vote of ${name}`).peer } : facts;
}

export class Fleet {
  readonly time = new VirtualTime();
  readonly judge = new Judge();
  readonly counts: Counts = noCounts();
  readonly network: SimulatedNetwork;
  readonly peers = new Map<string, Peer>();
  /** Whether and when a process dies at a synced write; set by the faults. */
  crashPoint: (life: Life) => CrashPoint | undefined = () => undefined;
  /** How long a process that has crashed stays away. */
  restartMs: () => number = () => 100;
  /** A voter that forges what it tells members. */
  liar: string | undefined;
  /** The most that a clock may run too fast or too slow. */
  driftMax = 0;
  readonly #genesis: Uint8Array;
  readonly #chance: Chance;
  readonly #lies: Chance;
  readonly #logger: Logger;

  constructor(seed: number, genesis: Uint8Array) {
    this.#genesis = genesis;
    this.#chance = createChance(seed);
    this.#lies = this.#chance.fork('lies');
    this.#logger = loggerInto(this.time);
    this.network = new SimulatedNetwork({
      time: this.time,
      chance: this.#chance.fork('network'),
      onSend: (from, protocol, bytes) => {
        this.#watch(protocol, bytes);
        return from === this.liar && protocol === entryPullProtocol ? this.#forged(bytes) : bytes;
      },
      count: (what) => this.count(what),
    });
  }

  chance(name: string): Chance {
    return this.#chance.fork(name);
  }

  count(what: keyof Counts): void {
    this.counts[what] += 1;
  }

  /** Peers whose process runs and is ready. */
  ready(): (Peer & { readonly running: Running })[] {
    return [...this.peers.values()].filter(
      (peer): peer is Peer & { readonly running: Running } => peer.running !== undefined,
    );
  }

  /** Voters that run; a leader of the newest term first. */
  voters(): (Running & { readonly consensus: Consensus })[] {
    const running = this.ready().map((peer) => peer.running);
    const voters = running.filter((each): each is Running & { consensus: Consensus } => each.consensus !== undefined);
    const rank = ({ consensus }: { consensus: Consensus }): number => {
      const { role, term } = consensus.status();
      return role === 'leader' ? term : 0;
    };
    return voters.sort((a, b) => rank(b) - rank(a));
  }

  add(plan: PeerPlan): void {
    const { name, roles, raftId, contacts = [], records, blobs } = plan;
    const chance = this.chance(`disk of ${name}`);
    const world: DiskWorld = {
      ...{ time: this.time, chance },
      crashPoint: (life) => this.crashPoint(life),
      crash: (life) => {
        this.count('crashesAtWrites');
        this.crash(life.name, false);
      },
    };
    const database = (which: keyof Hardware['databases']) => new SimulatedDatabase(world, records?.[which]);
    const hardware: Hardware = {
      ...{ name, roles, raftId, contacts, machine: newMachine() },
      ...{ identity: identityOf(name), voterKey: identityOf(`vote of ${name}`) },
      blobs: new SimulatedBlobs(world, blobs),
      databases: {
        ...{ ledger: database('ledger'), consensus: database('consensus') },
        ...{ witness: database('witness'), journal: database('journal') },
      },
    };
    const rate = 1 + chance.between(-this.driftMax, this.driftMax);
    const offsetMs = chance.between(-1, 1) * this.driftMax * 3_600_000;
    this.peers.set(name, {
      hardware,
      rate,
      offsetMs,
      life: undefined,
      running: undefined,
      damage: 'none',
      isQuarantined: false,
    });
  }

  /** The order that a device has taken last, as its disk says. */
  slotOf({ databases }: Hardware): SlotRecord | undefined {
    const bytes = databases.journal.records.get(slotKey);
    return bytes === undefined ? undefined : decode(slotRecordSchema, bytes, slotRecordBytesMax, slotKey);
  }

  /** Starts a peer's process. */
  boot(name: string): void {
    const peer = this.#peer(name);
    if (peer.life !== undefined) return;
    const life = new Life(name, peer.rate, peer.offsetMs);
    peer.life = life;
    const mesh = this.network.join(peer.hardware.identity.peer, life);
    const world = {
      ...{ time: this.time, chance: this.#chance, genesis: this.#genesis, logger: this.#logger, mesh },
      hosts: () => [...this.peers.keys()],
      witness: this.#witnessOf(peer),
    };
    this.time.schedule(0, life, 'starts', () => {
      runPeer(peer.hardware, life, world).then(
        (running) => {
          if (life.isAlive) this.#started(peer, running);
        },
        (error: unknown) => {
          if (life.isAlive) this.#couldNotStart(peer, error);
        },
      );
    });
  }

  #started(peer: Peer, running: Running): void {
    peer.running = running;
    if (peer.damage !== 'lost acknowledged writes') return;
    this.judge.accuse(`${peer.hardware.name} goes on with a log that lost what it had acknowledged`);
  }

  /** A damaged log is noticed and keeps its voter away; nothing else may. */
  #couldNotStart(peer: Peer, error: unknown): void {
    const isNoticed = error instanceof ParleyError && error.code === 'damaged-log' && peer.damage !== 'none';
    if (!isNoticed) this.judge.accuse(`${peer.hardware.name} cannot start: ${String(error)}`);
    peer.isQuarantined = isNoticed;
  }

  /** A voter whose log is no good begins anew under another raft id. */
  renew(name: string, raftId: number, voterKey: Identity): void {
    const peer = this.#peer(name);
    this.crash(name, false);
    for (const which of ['consensus', 'witness'] as const) peer.hardware.databases[which].restore(new Map());
    peer.hardware = { ...peer.hardware, raftId, voterKey };
    peer.damage = 'none';
    peer.isQuarantined = false;
    this.boot(name);
  }

  /** Kills a peer's process, or its machine, and lets it come back. */
  crash(name: string, isPowerCut: boolean): void {
    const peer = this.#peer(name);
    const { hardware, life } = peer;
    if (life === undefined) return;
    this.time.note(`${name} ${isPowerCut ? 'loses power' : 'is killed'}`);
    life.isAlive = false;
    peer.life = undefined;
    peer.running = undefined;
    this.network.leave(hardware.identity.peer, isPowerCut);
    for (const database of Object.values(hardware.databases)) database.crash();
    const tail = hardware.databases.consensus.records.get('tail');
    if (peer.damage === 'none' && !peer.isQuarantined)
      this.judge.left(hardware.raftId, tail && decode(tailRecordSchema, tail, messageBytesMax));
    if (isPowerCut) reboot(hardware.machine);
    this.time.schedule(this.restartMs(), undefined, `${name} comes back`, () => this.boot(name));
  }

  #peer(name: string): Peer {
    const peer = this.peers.get(name);
    if (peer === undefined) throw new Error(`there is no peer '${name}'`);
    return peer;
  }

  #witnessOf({ hardware }: Peer): PeerWitness {
    const { judge } = this;
    const { name, identity, databases } = hardware;
    return {
      stateMachine: (ledger): StateMachine => ({
        appliedIndex: ledger.appliedIndex,
        apply: async (entries) => {
          for (const entry of entries) {
            if (judge.applied(name, entry) && entry.type === 'configuration') this.count('voterChanges');
          }
          await ledger.apply(entries);
        },
        snapshot: ledger.snapshot,
        restore: async (snapshot) => {
          this.count('snapshotsToVoters');
          await ledger.restore(snapshot);
        },
      }),
      onLedger: (ledger: Ledger) => {
        ledger.onApplied((state) => judge.saw(name, state, ledger.stateHash));
        ledger.onCertified((certificate) => {
          this.count('certificates');
          judge.certified(name, certificate);
        });
      },
      onConsensus: (consensus) => {
        consensus.onRoleChange(({ raftId, role, term }) => {
          if (role !== 'leader') return;
          if (judge.led(raftId, term)) this.count('elections');
        });
      },
      onExecute: (toplevel) => {
        this.count('ordersExecuted');
        const slot = this.slotOf(hardware);
        const isSynced = databases.journal.isSynced(slotKey);
        judge.executes({ peer: identity.peer, host: name, toplevel, slot, isSynced });
      },
      onEnded: (order) => judge.ended(identity.peer, order),
    };
  }

  #forged(bytes: Uint8Array): Uint8Array {
    const forged = this.#lies.happens(0.3) ? forgePage(bytes, this.#lies) : undefined;
    if (forged !== undefined) this.count('forgedPages');
    return forged ?? bytes;
  }

  /** Looks at what is sent for votes and snapshots; most messages are neither and are not read. */
  #watch(protocol: string, bytes: Uint8Array): void {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (protocol === entryPullProtocol && text.includes('checkpoint-part')) this.count('snapshotsToMembers');
    if (protocol !== consensusProtocol || !text.includes('vote')) return;
    const { messages } = decode(consensusFrameSchema, bytes, messageBytesMax);
    for (const { type, from, to, term, reject } of messages) {
      if (type === 'vote-response' && !reject) this.judge.voted(from, term, to);
    }
  }
}

/** What the rooms log goes into the trace, where there is one. */
function loggerInto(time: VirtualTime): Logger {
  const at = (level: string) => (fields: object, message: string) => {
    const error = 'error' in fields ? fields.error : 'err' in fields ? fields.err : '';
    time.onEvent?.(`${level.padStart(10)} ${message} ${error}`);
  };
  const levels = { debug: at('debug'), info: at('info'), warn: at('warning'), error: at('error') };
  const logger: Logger = { ...levels, child: () => logger };
  return logger;
}
