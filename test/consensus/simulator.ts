// Runs groups of raft nodes through random schedules from one seed: loss, duplication, reordering, cuts, pauses, crashes
// that lose what was not synced, and changes of voters. It checks after every step that the group never contradicts itself.

import { ConfigurationHistory } from '../../node/consensus/core/configuration-history.ts';
import { LogWindow } from '../../node/consensus/core/log-window.ts';
import { appendThread, applyThread, type HardState, type Message } from '../../node/consensus/core/message.ts';
import { RawNode } from '../../node/consensus/core/raw-node.ts';
import type { ConfigurationStep, RaftEntry, SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { noLearners } from './fleet.ts';

/** Ways to break the caller's duties; the simulation must notice each. */
export type Mutant = 'acknowledges-before-disk' | 'forgets-vote' | 'forgets-term';

export interface SimulationOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly steps: number;
  readonly mutant?: Mutant;
}

export interface SimulationResult {
  readonly violations: string[];
  readonly acknowledged: number;
  readonly elections: number;
}

interface Disk {
  hardState: HardState;
  log: LogWindow<RaftEntry>;
  base: SnapshotMetadata;
}

interface SimulatedNode {
  readonly raftId: number;
  readonly disk: Disk;
  raw: RawNode | undefined;
  history: ConfigurationHistory;
  applied: number;
  appends: Message[];
  applies: Message[];
}

/** A small, fast generator of random numbers (mulberry32): the same seed gives the same run. */
export function createRandom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below) | 0;
  };
}

export function simulate(options: SimulationOptions): SimulationResult {
  const simulation = new Simulation(options);
  try {
    simulation.run();
  } catch (error) {
    simulation.violations.push(error instanceof Error ? error.message : String(error));
  }
  return {
    violations: simulation.violations,
    acknowledged: simulation.acknowledged.size,
    elections: simulation.leaders.size,
  };
}

class Simulation {
  readonly violations: string[] = [];
  /** Which node led a term. */
  readonly leaders = new Map<number, number>();
  /** Proposals whose entry was applied where they were made. */
  readonly acknowledged = new Map<string, number>();
  readonly #options: SimulationOptions;
  readonly #random: (below: number) => number;
  readonly #preVote: boolean;
  readonly #nodes: SimulatedNode[] = [];
  readonly #cuts = new Set<string>();
  /** What was applied at each index, by anybody. */
  readonly #chosen = new Map<number, string>();
  #flying: Message[] = [];
  #proposals = 0;

  constructor(options: SimulationOptions) {
    this.#options = options;
    this.#random = createRandom(options.seed);
    this.#preVote = options.seed % 4 !== 0;
    const voters = Array.from({ length: Math.min(options.nodes, 3) }, (_, position) => position + 1);
    const configuration = { voters, ...noLearners };
    for (let raftId = 1; raftId <= options.nodes; raftId += 1) {
      const base = { index: 1, term: 1, chainHash: '', configuration };
      const log = new LogWindow<RaftEntry>(base, () => this.#snapshotOf(raftId));
      const disk: Disk = { hardState: { term: 1, vote: 0, commit: 1 }, log, base };
      const history = new ConfigurationHistory(1, configuration);
      this.#nodes.push({ raftId, disk, raw: undefined, history, applied: 1, appends: [], applies: [] });
    }
    for (const node of this.#nodes) this.#boot(node);
  }

  run(): void {
    for (let step = 0; step < this.#options.steps; step += 1) this.#step();
    this.#cuts.clear();
    for (const node of this.#nodes) if (!node.raw) this.#boot(node);
    // Without pre-votes uneven clocks may depose a leader at any time, so there is no moment to look for one.
    if (!this.#preVote) return;
    const isLed = (): boolean => this.#nodes.some(({ raw }) => raw?.status().role === 'leader');
    for (let round = 0; round < 2_000 && (round < 300 || !isLed()); round += 1) this.#quietRound();
    for (let round = 0; round < 100; round += 1) this.#quietRound();
    this.#checkConvergence();
  }

  #step(): void {
    const node = this.#pick(this.#nodes);
    const roll = this.#random(1_000);
    if (roll < 300) this.#deliverOne();
    else if (roll < 550) this.#on(node, (raw) => raw.tick());
    else if (roll < 700) this.#writeOne(node);
    else if (roll < 850) this.#applyOne(node);
    else if (roll < 930) this.#propose(node);
    else if (roll < 940) this.#changeVoters(node);
    else if (roll < 950) this.#crashOrBoot(node);
    else if (roll < 960) this.#cutOrHeal();
    else if (roll < 965) this.#compact(node);
    else if (roll < 968) this.#on(node, (raw) => raw.transferLeadership(this.#pick(this.#nodes).raftId));
    else if (roll < 972) this.#on(node, (raw) => raw.forgetLeader());
    else
      this.#flying = this.#flying.filter(
        ({ type }, at) => type === 'snapshot-status' || at > this.#flying.length - 200,
      );
  }

  /** Everything is delivered, written and applied; time passes slowly. */
  #quietRound(): void {
    this.#on(this.#pick(this.#nodes), (raw) => raw.tick());
    for (let turn = 0; turn < 30; turn += 1) {
      for (let count = 0; count < 300 && this.#flying.length > 0; count += 1) this.#deliver(0);
      for (const node of this.#nodes) {
        while (node.appends.length > 0) this.#writeOne(node);
        while (node.applies.length > 0) this.#applyOne(node);
      }
    }
  }

  #checkConvergence(): void {
    const leader = this.#nodes.find(({ raw }) => raw?.status().role === 'leader');
    if (!leader) {
      this.violations.push('no leader after everything was healed');
      return;
    }
    for (const [word, index] of this.acknowledged) {
      if (this.#chosen.get(index)?.endsWith(` ${word}`) !== true)
        this.violations.push(`acknowledged '${word}' is lost`);
    }
    const { voters } = leader.history.current();
    for (const node of this.#nodes.filter(({ raftId }) => voters.includes(raftId))) {
      if (node.applied !== leader.applied) {
        this.violations.push(`node ${node.raftId} applied ${node.applied}, the leader ${leader.applied}`);
      }
    }
  }

  #boot(node: SimulatedNode): void {
    const { disk } = node;
    node.history = new ConfigurationHistory(disk.base.index, disk.base.configuration);
    node.applied = disk.base.index;
    node.appends = [];
    node.applies = [];
    node.raw = new RawNode({
      raftId: node.raftId,
      electionTicks: 5,
      heartbeatTicks: 1,
      stable: disk.log,
      hardState: {
        ...disk.hardState,
        commit: Math.max(disk.base.index, Math.min(disk.hardState.commit, disk.log.lastIndex())),
      },
      configuration: disk.base.configuration,
      applied: disk.base.index,
      random: this.#random,
      asyncStorageWrites: true,
      messageBytesMax: 300,
      applyBytesMax: 400,
      uncommittedBytesMax: 10_000,
      inflightMessagesMax: 4,
      inflightBytesMax: 2_000,
      checkQuorum: true,
      preVote: this.#preVote,
      readMode: 'safe',
      validateChanges: true,
      stepDownOnRemoval: true,
    });
  }

  /** What the state machine would give: always its newest state, which names everybody who was added. */
  #snapshotOf(raftId: number): SnapshotMetadata | undefined {
    const node = this.#nodes[raftId - 1];
    const term = node?.disk.log.term(node.applied);
    if (!node || term === undefined) return undefined;
    return { index: node.applied, term, chainHash: '', configuration: node.history.at(node.applied) };
  }

  #pick<T>(from: readonly T[]): T {
    const picked = from[this.#random(from.length)];
    if (picked === undefined) throw new Error('nothing to pick from');
    return picked;
  }

  #on(node: SimulatedNode, call: (raw: RawNode) => void): void {
    if (!node.raw) return;
    call(node.raw);
    this.#pump(node);
  }

  #pump(node: SimulatedNode): void {
    while (node.raw?.hasReady()) {
      const ready = node.raw.ready();
      for (const message of ready.messages) this.#dispatch(node, message);
      const { role, term } = node.raw.status();
      if (role !== 'leader') continue;
      const known = this.leaders.get(term);
      if (known !== undefined && known !== node.raftId) this.violations.push(`two leaders of term ${term}`);
      this.leaders.set(term, node.raftId);
    }
  }

  #dispatch(node: SimulatedNode, message: Message): void {
    if (message.to === appendThread) {
      if (this.#options.mutant === 'acknowledges-before-disk') {
        for (const response of message.responses) this.#dispatch(node, response);
        node.appends.push({ ...message, responses: [] });
      } else node.appends.push(message);
    } else if (message.to === applyThread) node.applies.push(message);
    else if (message.to === node.raftId) node.raw?.step(message);
    else if (message.type === 'snapshot') {
      this.#flying.push(message);
      this.#flying.push({
        ...message,
        to: node.raftId,
        from: message.to,
        type: 'snapshot-status',
        reject: this.#random(3) === 0,
      });
    } else this.#flying.push(message);
  }

  #deliverOne(): void {
    if (this.#flying.length === 0) return;
    const at = this.#random(this.#flying.length);
    const roll = this.#random(20);
    const message = this.#flying[at];
    if (roll === 0 && message) this.#flying.push(message);
    // A node's own report about a snapshot is no message on a wire.
    if (roll === 1 && message?.type !== 'snapshot-status') this.#flying.splice(at, 1);
    else this.#deliver(at);
  }

  #deliver(at: number): void {
    const [message] = this.#flying.splice(at, 1);
    const target = this.#nodes[(message?.to ?? 0) - 1];
    if (!message || !target?.raw) return;
    if (message.type === 'snapshot-status') {
      this.#on(target, (raw) => raw.reportSnapshot(message.from, !message.reject));
      return;
    }
    if (this.#cuts.has(`${message.from}>${message.to}`)) return;
    if (message.type === 'heartbeat' && message.commit > target.raw.lastIndex()) {
      this.violations.push(`node ${target.raftId} lost entries that it acknowledged`);
      return;
    }
    this.#on(target, (raw) => raw.step(message));
  }

  #writeOne(node: SimulatedNode): void {
    const message = node.appends.shift();
    if (!message || !node.raw) return;
    const { mutant } = this.#options;
    const { disk } = node;
    if (message.term !== 0) {
      disk.hardState = {
        term: mutant === 'forgets-term' ? disk.hardState.term : message.term,
        vote: mutant === 'forgets-vote' ? 0 : message.vote,
        commit: message.commit,
      };
    }
    if (message.snapshot) {
      disk.base = message.snapshot;
      disk.log.reset(message.snapshot);
      node.applied = message.snapshot.index;
      node.history = new ConfigurationHistory(message.snapshot.index, message.snapshot.configuration);
    } else disk.log.append(message.entries);
    for (const response of message.responses) this.#dispatch(node, response);
    this.#pump(node);
  }

  #applyOne(node: SimulatedNode): void {
    const message = node.applies.shift();
    if (!message || !node.raw) return;
    for (const entry of message.entries) {
      if (entry.index <= node.applied) continue;
      if (entry.index !== node.applied + 1) this.violations.push(`node ${node.raftId} skips to ${entry.index}`);
      node.applied = entry.index;
      this.#choose(node, entry);
      if (node.history.take(entry)) node.raw.applyChange(entry);
    }
    for (const response of message.responses) this.#dispatch(node, response);
    this.#pump(node);
  }

  #choose(node: SimulatedNode, entry: RaftEntry): void {
    const word = new TextDecoder().decode(entry.data);
    const text = `${entry.term} ${entry.type} ${word}`;
    const known = this.#chosen.get(entry.index);
    if (known !== undefined && known !== text) {
      this.violations.push(`node ${node.raftId} applies '${text}' at ${entry.index}, another applied '${known}'`);
    }
    this.#chosen.set(entry.index, text);
    if (word.startsWith(`n${node.raftId}.`)) this.acknowledged.set(word, entry.index);
  }

  #propose(node: SimulatedNode): void {
    this.#proposals += 1;
    const data = new TextEncoder().encode(`n${node.raftId}.${this.#proposals}`);
    this.#on(node, (raw) => {
      if (raw.status().role === 'leader') raw.propose(data);
    });
  }

  #changeVoters(node: SimulatedNode): void {
    const kinds = ['add-voter', 'add-learner', 'remove'] as const;
    const steps: ConfigurationStep[] = Array.from({ length: this.#random(3) }, () => ({
      kind: this.#pick(kinds),
      raftId: this.#pick(this.#nodes).raftId,
    }));
    const transition = this.#pick(['automatic', 'joint-implicit', 'joint-explicit'] as const);
    const change = {
      transition: steps.length === 0 ? ('automatic' as const) : transition,
      steps,
      context: new Uint8Array(),
    };
    this.#on(node, (raw) => {
      const removesItself = steps.some(({ raftId, kind }) => raftId === node.raftId && kind !== 'add-voter');
      if (raw.status().role !== 'leader' || removesItself || 'refusal' in raw.previewChange(change)) return;
      raw.proposeConfiguration(change);
    });
  }

  #crashOrBoot(node: SimulatedNode): void {
    if (node.raw) node.raw = undefined;
    else this.#boot(node);
  }

  #cutOrHeal(): void {
    if (this.#random(3) === 0) {
      this.#cuts.clear();
      return;
    }
    this.#cuts.add(`${this.#pick(this.#nodes).raftId}>${this.#pick(this.#nodes).raftId}`);
  }

  #compact(node: SimulatedNode): void {
    if (!node.raw || node.appends.some((message) => message.snapshot)) return;
    const { disk, history } = node;
    const index = Math.min(node.applied, node.raw.status().applied, disk.log.lastIndex());
    const term = disk.log.term(index);
    if (term === undefined || index <= disk.base.index) return;
    disk.base = { index, term, chainHash: '', configuration: history.at(index) };
    disk.log.compact(index);
  }
}
