// Owns the little world of etcd's interaction files: nodes with their storage, messages on their way, and the commands
// that move them. The counterpart of etcd's rafttest package.

import { LogWindow } from '../../node/consensus/core/log-window.ts';
import {
  appendThread,
  applyThread,
  isStorageThread,
  type Message,
  makeMessage,
} from '../../node/consensus/core/message.ts';
import type { RaftOptions } from '../../node/consensus/core/raft.ts';
import { RawNode } from '../../node/consensus/core/raw-node.ts';
import {
  type ConfigurationChange,
  plainConfiguration,
  type RaftEntry,
  type SnapshotMetadata,
} from '../../protocols/consensus-record.ts';
import { type Directive, UnknownDirective } from './datadriven.ts';
import {
  describeEntry,
  describeMessage,
  describeProgress,
  describeReady,
  describeState,
  messageTypeOf,
  parseSteps,
  version1Context,
} from './etcd-text.ts';
import { commandOf } from './grammar.ts';
import { interactionGrammar, type NodeCommand } from './interaction-grammar.ts';

const electionTicks = 3;
const heartbeatTicks = 1;
const noLimit = Number.POSITIVE_INFINITY;
const refusalTexts = {
  'proposal-dropped': 'raft proposal dropped',
  'local-message': 'raft: cannot step raft local message',
  'unknown-member': 'raft: cannot step as peer not found',
};

interface WorldNode {
  readonly id: number;
  readonly raw: RawNode;
  readonly log: LogWindow<RaftEntry>;
  readonly async: boolean;
  /** The snapshot after each applied entry. */
  readonly history: SnapshotMetadata[];
  readonly appendWork: Message[];
  readonly applyWork: Message[];
}

export function createInteraction(): (directive: Directive) => string {
  const world = new World();
  return (directive) => world.handle(directive);
}

class World {
  readonly #nodes: WorldNode[] = [];
  #messages: Message[] = [];
  #lines: string[] = [];
  #quiet = false;

  handle(directive: Directive): string {
    this.#lines = [];
    const error = this.#run(directive);
    if (error !== undefined && this.#quiet) return error;
    if (error !== undefined) this.#write(error);
    return this.#lines.join('\n');
  }

  #run(directive: Directive): string | undefined {
    const command = commandOf(directive, interactionGrammar);
    const [first] = ids(directive);
    switch (command) {
      case 'add-nodes':
        return this.#addNodes(directive);
      case 'log-level':
        this.#quiet = directive.arguments[0]?.key.toLowerCase() === 'none';
        return undefined;
      case 'stabilize':
        this.#stabilizeAt(directive);
        return undefined;
      case 'deliver-msgs':
        this.#deliverDirective(directive);
        return undefined;
      case 'process-ready':
        this.#forEach(directive, 'handling Ready', (node) => this.#processReady(node));
        return undefined;
      case 'process-append-thread':
        this.#forEach(directive, 'processing append thread', (node) => this.#processWork(node, node.appendWork));
        return undefined;
      case 'process-apply-thread':
        this.#forEach(directive, 'processing apply thread', (node) => this.#processWork(node, node.applyWork));
        return undefined;
      case 'raft-state':
        for (const node of this.#nodes) this.#write(describeState(node.raw.status()));
        return undefined;
      case 'transfer-leadership':
        this.#node(Number(value(directive, 'from'))).raw.transferLeadership(Number(value(directive, 'to')));
        return undefined;
      default:
        return this.#runOnNode(command, directive, this.#node(first));
    }
  }

  #runOnNode(command: NodeCommand, directive: Directive, node: WorldNode): string | undefined {
    const second = directive.arguments[1]?.key ?? '';
    switch (command) {
      case 'campaign':
        node.raw.campaign();
        return undefined;
      case 'compact':
        node.log.compact(Number(second));
        return this.#writeLog(node);
      case 'raft-log':
        return this.#writeLog(node);
      case 'set-randomized-election-timeout':
        node.raw.setElectionTicks(Number(value(directive, 'timeout')));
        return undefined;
      case 'status':
        for (const [raftId, progress] of node.raw.status().progress) this.#write(describeProgress(raftId, progress));
        return undefined;
      case 'tick-election':
        for (let count = 0; count < electionTicks; count += 1) node.raw.tick();
        return undefined;
      case 'tick-heartbeat':
        for (let count = 0; count < heartbeatTicks; count += 1) node.raw.tick();
        return undefined;
      case 'forget-leader':
        node.raw.forgetLeader();
        return undefined;
      case 'send-snapshot':
        return this.#sendSnapshot(node, Number(second));
      case 'propose':
        return refusalText(node.raw.propose(new TextEncoder().encode(second)));
      case 'propose-conf-change':
        return refusalText(node.raw.proposeConfiguration(parseChange(directive)));
      case 'report-unreachable':
        node.raw.reportUnreachable(Number(second));
        return undefined;
    }
  }

  #write(text: string): void {
    if (!this.#quiet) this.#lines.push(text.replace(/\n$/, ''));
  }

  #indented(call: () => void): void {
    const outer = this.#lines;
    this.#lines = [];
    call();
    const inner = this.#lines.flatMap((text) => text.split('\n')).map((line) => `  ${line}`);
    this.#lines = [...outer, ...inner];
  }

  #node(id: number | undefined): WorldNode {
    const node = this.#nodes[(id ?? 0) - 1];
    if (!node) throw new UnknownDirective(`there is no node ${id}`);
    return node;
  }

  #addNodes(directive: Directive): string | undefined {
    const list = (key: string): number[] => values(directive, key).map(Number);
    const index = Number(value(directive, 'index') ?? 0);
    const isBootstrapped = ['voters', 'learners', 'index'].some((key) => value(directive, key) !== undefined);
    if (isBootstrapped && index <= 1) return 'index must be specified as > 1 due to bootstrap';
    const configuration = { ...plainConfiguration(list('voters')), learners: list('learners') };
    const snapshot = { index, term: index === 0 ? 0 : 1, chainHash: '', configuration };
    for (let count = Number(directive.arguments[0]?.key); count > 0; count -= 1) {
      const id = this.#nodes.length + 1;
      const history = [snapshot];
      const log = new LogWindow<RaftEntry>(snapshot, () => history.at(-1));
      const options = { ...optionsOf(directive), raftId: id, stable: log, configuration, applied: index };
      const raw = new RawNode({ ...options, hardState: { term: 0, vote: 0, commit: index } });
      const async = options.asyncStorageWrites;
      this.#nodes.push({ id, raw, log, async, history, appendWork: [], applyWork: [] });
    }
    return undefined;
  }

  #writeLog(node: WorldNode): undefined {
    const first = node.log.firstIndex();
    const last = node.log.lastIndex();
    if (last < first) this.#write(`log is empty: first index=${first}, last index=${last}`);
    for (const entry of node.log.range(first, last + 1)) this.#write(describeEntry(entry));
  }

  #sendSnapshot(node: WorldNode, to: number): undefined {
    const message = makeMessage('snapshot', to, {
      from: node.id,
      term: node.raw.status().term,
      snapshot: node.history.at(-1),
    });
    this.#messages.push(message);
    this.#write(describeMessage(message));
  }

  #forEach(directive: Directive, action: string, call: (node: WorldNode) => void): void {
    const nodes = ids(directive).map((id) => this.#node(id));
    for (const node of nodes) {
      if (nodes.length === 1) {
        call(node);
        continue;
      }
      this.#write(`> ${node.id} ${action}`);
      this.#indented(() => call(node));
    }
  }

  #processReady(node: WorldNode): void {
    const ready = node.raw.ready();
    this.#write(describeReady(ready));
    if (!node.async) {
      persist(node, ready.entries, ready.snapshot);
      apply(node, ready.committedEntries);
    }
    for (const message of ready.messages) {
      if (message.to === appendThread) node.appendWork.push(message);
      else if (message.to === applyThread) node.applyWork.push(message);
      else this.#messages.push(message);
    }
    if (!node.async) node.raw.advance();
  }

  #processWork(node: WorldNode, work: Message[]): void {
    const message = work.shift();
    if (!message) {
      this.#write(`no ${work === node.appendWork ? 'append' : 'apply'} work to perform`);
      return;
    }
    this.#write(`Processing:\n${describeMessage({ ...message, responses: [] })}`);
    if (message.type === 'storage-append') persist(node, message.entries, message.snapshot);
    else apply(node, message.entries);
    this.#write('Responses:');
    for (const response of message.responses) this.#write(describeMessage(response));
    this.#messages.push(...message.responses);
  }

  #deliverDirective(directive: Directive): void {
    const typeName = value(directive, 'type');
    const type = typeName === undefined ? undefined : messageTypeOf(typeName);
    let delivered = 0;
    for (const { id } of ids(directive).map((each) => this.#node(each))) delivered += this.#deliver(id, false, type);
    for (const id of values(directive, 'drop').map(Number)) delivered += this.#deliver(id, true, type);
    if (delivered === 0) this.#write('no messages');
  }

  #deliver(to: number, drop: boolean, type?: Message['type']): number {
    const isMeant = (message: Message): boolean =>
      message.to === to && !(drop && isLocal(message)) && (type === undefined || message.type === type);
    const taken = this.#messages.filter(isMeant);
    this.#messages = this.#messages.filter((message) => !isMeant(message));
    for (const message of taken) {
      this.#write(`${drop ? 'dropped: ' : ''}${describeMessage(message)}`);
      const error = drop ? undefined : refusalText(this.#node(to).raw.step(message));
      if (error !== undefined) this.#write(error);
    }
    return taken.length;
  }

  #stabilizeAt(directive: Directive): void {
    const level = value(directive, 'log-level');
    const wasQuiet = this.#quiet;
    if (level !== undefined) this.#quiet = level.toLowerCase() === 'none';
    const chosen = ids(directive).map((id) => this.#node(id));
    this.#stabilize(chosen.length > 0 ? chosen : this.#nodes);
    this.#quiet = wasQuiet;
  }

  #stabilize(nodes: readonly WorldNode[]): void {
    for (let busy = true; busy; ) {
      busy = false;
      const round = (action: string, isDue: (node: WorldNode) => boolean, call: (node: WorldNode) => void): void => {
        for (const node of nodes.filter(() => true)) {
          if (!isDue(node)) continue;
          busy = true;
          this.#write(`> ${node.id} ${action}`);
          this.#indented(() => call(node));
        }
      };
      const drain = (node: WorldNode, work: Message[]): void => {
        while (work.length > 0) this.#processWork(node, work);
      };
      const hasMail = (node: WorldNode): boolean => this.#messages.some((message) => message.to === node.id);
      round(
        'handling Ready',
        (node) => node.raw.hasReady(),
        (node) => this.#processReady(node),
      );
      round('receiving messages', hasMail, (node) => this.#deliver(node.id, false));
      round(
        'processing append thread',
        (node) => node.appendWork.length > 0,
        (node) => drain(node, node.appendWork),
      );
      round(
        'processing apply thread',
        (node) => node.applyWork.length > 0,
        (node) => drain(node, node.applyWork),
      );
    }
  }
}

function persist(node: WorldNode, entries: readonly RaftEntry[], snapshot: SnapshotMetadata | undefined): void {
  if (snapshot) node.log.reset(snapshot);
  else node.log.append(entries);
}

function apply(node: WorldNode, entries: readonly RaftEntry[]): void {
  for (const entry of entries) {
    const before = node.history.at(-1);
    if (!before) throw new Error('a node starts with a snapshot');
    const { index, term } = entry;
    const configuration = entry.type === 'configuration' ? node.raw.applyChange(entry) : before.configuration;
    node.history.push({ index, term, chainHash: '', configuration });
  }
}

function isLocal(message: Message): boolean {
  return message.from === message.to || isStorageThread(message.from) || isStorageThread(message.to);
}

function refusalText(refusal: keyof typeof refusalTexts | undefined): string | undefined {
  return refusal && refusalTexts[refusal];
}

function parseChange(directive: Directive): Omit<ConfigurationChange, 'version'> {
  const transitions = { auto: 'automatic', implicit: 'joint-implicit', explicit: 'joint-explicit' } as const;
  const transition = (value(directive, 'transition') ?? 'auto') as keyof typeof transitions;
  const context = new TextEncoder().encode(value(directive, 'v1') === 'true' ? version1Context : '');
  return { transition: transitions[transition], steps: parseSteps(directive.input), context };
}

function optionsOf(
  directive: Directive,
): Omit<RaftOptions, 'raftId' | 'stable' | 'configuration' | 'applied' | 'hardState'> {
  const isSet = (key: string): boolean => value(directive, key) === 'true';
  return {
    electionTicks,
    heartbeatTicks,
    random: () => 0,
    asyncStorageWrites: isSet('async-storage-writes'),
    messageBytesMax: noLimit,
    applyBytesMax: Number(value(directive, 'max-committed-size-per-ready') ?? noLimit),
    uncommittedBytesMax: noLimit,
    inflightMessagesMax: Number(value(directive, 'inflight') ?? noLimit),
    inflightBytesMax: noLimit,
    checkQuorum: isSet('checkquorum'),
    preVote: isSet('prevote'),
    readMode: value(directive, 'read-only') === 'lease-based' ? 'lease' : 'safe',
    validateChanges: !isSet('disable-conf-change-validation'),
    stepDownOnRemoval: isSet('step-down-on-removal'),
  };
}

/** Node numbers among the arguments. */
function ids(directive: Directive): number[] {
  return directive.arguments.filter(({ values }) => values.length === 0).map(({ key }) => Number(key));
}

function values(directive: Directive, key: string): readonly string[] {
  return directive.arguments.find((argument) => argument.key === key)?.values ?? [];
}

function value(directive: Directive, key: string): string | undefined {
  return values(directive, key)[0];
}
