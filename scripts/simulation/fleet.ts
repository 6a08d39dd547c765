// Owns the simulated fleet: its peers, which of them run, the one clock and network between them, and the places where the
// judge looks on. Faults and clients act on it from outside.

import type { Consensus, StateMachine } from '../../node/consensus/index.ts';
import type { Logger } from '../../node/interfaces.ts';
import type { Ledger } from '../../node/ledger/index.ts';
import { type Identity, identityFromSeed } from '../../node/mesh/index.ts';
import type { VoteTurn } from '../../node/wiring/vote-plan.ts';
import { decode, sha256Hex } from '../../protocols/codec.ts';
import { consensusFrameSchema, consensusProtocol } from '../../protocols/consensus-message.ts';
import { tailRecordSchema } from '../../protocols/consensus-record.ts';
import { type SlotRecord, slotRecordBytesMax, slotRecordSchema } from '../../protocols/device-record.ts';
import { entryPullProtocol } from '../../protocols/entry-pull.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { JoinContact } from '../../protocols/join.ts';
import type { EntryDraft } from '../../protocols/ledger-entries.ts';
import { messageBytesMax } from '../../protocols/limits.ts';
import type { Role } from '../../protocols/primitives.ts';
import { type Chance, createChance } from './chance.ts';
import { type Client, createClient, History } from './client.ts';
import { type Counts, noCounts } from './counts.ts';
import { type CrashPoint, type DiskWorld, SimulatedBlobs, SimulatedDatabase } from './disk.ts';
import { forgePage } from './forgery.ts';
import { Judge } from './judge.ts';
import { newMachine, reboot } from './machine.ts';
import { SimulatedNetwork } from './network.ts';
import { type Hardware, type PeerObserver, type Running, runPeer } from './peer.ts';
import { quickly } from './signatures.ts';
import { Life, VirtualTime } from './time.ts';
import { SimulatedVoteFolder, type VoteRecord } from './vote-folder.ts';

const slotKey = 'device/slot/system';

/** What a new peer starts with; records are what another run left on its disks. */
export interface PeerPlan {
  readonly name: string;
  readonly roles: readonly Role[];
  readonly raftId: number;
  readonly contacts?: readonly JoinContact[];
  readonly vote?: VoteRecord;
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
  damage: 'none' | 'some' | 'lost acknowledged writes' | 'put back';
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
  /** No fault strikes before. */
  calmUntilMs = 0;
  /** A voter that forges what it tells members. */
  liar: string | undefined;
  /** The most that a clock may run too fast or too slow. */
  driftMax = 0;
  /** Somebody changes who votes, or a voter's log is damaged: one of these at a time leaves every majority whole. */
  votersAreChanging = false;
  readonly #genesis: Uint8Array;
  readonly #chance: Chance;
  readonly #lies: Chance;
  readonly #logger: Logger;
  readonly #announcer: Client;

  constructor(seed: number, genesis: Uint8Array) {
    this.#genesis = genesis;
    this.#chance = createChance(seed);
    this.#lies = this.#chance.fork('lies');
    this.#logger = loggerInto(this.time);
    this.#announcer = createClient('announcer', this, new History(), this.#chance.fork('announcer'));
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

  /** Peers that are to run: those that the leader knows as members, or all while nobody leads. */
  expected(): Peer[] {
    const [leader] = this.voters();
    const all = [...this.peers.values()];
    if (leader === undefined) return all;
    const { members } = leader.ledger.state();
    return all.filter(({ hardware }) => members[hardware.identity.peer] !== undefined);
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
    const { name, records, blobs } = plan;
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
    const databases = {
      ...{ ledger: database('ledger'), consensus: database('consensus') },
      ...{ witness: database('witness'), journal: database('journal') },
    };
    let keys = 0;
    const makeKey = (): Identity => {
      keys += 1;
      return identityOf(`vote ${keys} of ${name}`);
    };
    const clearLog = (): void => {
      for (const which of ['consensus', 'witness'] as const) databases[which].restore(new Map());
    };
    const hardware: Hardware = {
      ...{ name, identity: identityOf(name), machine: newMachine(), databases },
      vote: new SimulatedVoteFolder(plan.vote ?? firstVote(plan), makeKey, clearLog),
      blobs: new SimulatedBlobs(world, blobs),
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
    });
  }

  /** The order that a device has taken last, as its disk says. */
  slotOf({ databases }: Hardware): SlotRecord | undefined {
    const bytes = databases.journal.records.get(slotKey);
    return bytes === undefined ? undefined : decode(slotRecordSchema, bytes, slotRecordBytesMax, slotKey);
  }

  /** Starts a peer's process. */
  boot(name: string): void {
    const peer = this.peers.get(name);
    if (peer === undefined || peer.life !== undefined) return;
    const life = new Life(name, peer.rate, peer.offsetMs);
    peer.life = life;
    const mesh = this.network.join(peer.hardware.identity.peer, life);
    const world = {
      ...{ time: this.time, chance: this.#chance, genesis: this.#genesis, logger: this.#logger, mesh },
      hosts: () => [...this.peers.keys()],
      observer: this.#observerOf(peer),
      propose: (draft: EntryDraft) =>
        this.#announcer.command(draft, `${name}-announces-${Math.floor(this.time.nowMs)}`),
      onTurn: (turn: VoteTurn) => void this.#turn(peer, turn),
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

  /** A damaged log is noticed and keeps its voter from voting; nothing else may. */
  #couldNotStart(peer: Peer, error: unknown): void {
    // Whoever supervises the process tries again.
    const code = error instanceof ParleyError ? error.code : undefined;
    const isNoticed = code === 'damaged-log' && peer.damage !== 'none' && peer.damage !== 'put back';
    if (code === 'disk-full') this.crash(peer.hardware.name, false);
    else if (!isNoticed) this.judge.accuse(`${peer.hardware.name} cannot start: ${String(error)}`);
  }

  /** Kills a peer's process, or its machine, and lets it come back. */
  crash(name: string, isPowerCut: boolean, awayMs = this.restartMs()): void {
    const peer = this.#peer(name);
    if (peer.life === undefined) return;
    this.time.note(`${name} ${isPowerCut ? 'loses power' : 'is killed'}`);
    this.#end(peer, isPowerCut);
    this.time.schedule(awayMs, undefined, `${name} comes back`, () => this.boot(name));
  }

  /** A process ends to start anew as something else, or for good: its ledger keeps its state, as a stop in order does; all else is killed. */
  async #turn(peer: Peer, turn: VoteTurn): Promise<void> {
    const { name, vote } = peer.hardware;
    const { life, running } = peer;
    await running?.ledger.snapshot().catch(() => undefined);
    if (life?.isAlive !== true) return;
    this.time.note(`${name} ends: ${turn.kind}`);
    this.#end(peer, false);
    if (turn.kind === 'leave') {
      this.peers.delete(name);
      return this.count('departures');
    }
    if (turn.kind === 'take-up') this.count('votesTakenUp');
    if (turn.kind === 'give-up') this.count('votesGivenUp');
    if (turn.kind === 'set-aside') {
      this.count('quarantines');
      if (peer.damage === 'put back') this.count('rolledBackNoticed');
      peer.damage = 'none';
    }
    await vote.carryOut(turn);
    this.time.schedule(1, undefined, `${name} starts anew`, () => this.boot(name));
  }

  #end(peer: Peer, isPowerCut: boolean): void {
    const { hardware, life } = peer;
    if (life === undefined) return;
    life.isAlive = false;
    peer.life = undefined;
    peer.running = undefined;
    this.network.leave(hardware.identity.peer, isPowerCut);
    for (const database of Object.values(hardware.databases)) database.crash();
    const tail = hardware.databases.consensus.records.get('tail');
    if (peer.damage === 'none')
      this.judge.left(hardware.vote.record.raftId, tail && decode(tailRecordSchema, tail, messageBytesMax));
    if (isPowerCut) reboot(hardware.machine);
  }

  #peer(name: string): Peer {
    const peer = this.peers.get(name);
    if (peer === undefined) throw new Error(`there is no peer '${name}'`);
    return peer;
  }

  #observerOf({ hardware }: Peer): PeerObserver {
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

function firstVote({ name, roles, raftId, contacts = [] }: PeerPlan): VoteRecord {
  const key = raftId > 0 ? identityOf(`vote of ${name}`) : undefined;
  return { roles, raftId, contacts, votersIndex: undefined, key, hasLog: false };
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
