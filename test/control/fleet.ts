// Owns a fleet in one process for the tests of control: the ledger's real core over one shared log, and doubles of the
// heavy neighbours (builders, devices, git) that count what they are asked and refuse what they should never be asked.

import { createHash } from 'node:crypto';
import { diffClosures } from '../../node/build/closure-diff-core.ts';
import type { ControlComponents, ControlLedger } from '../../node/control/control-types.ts';
import { systemClock } from '../../node/host/index.ts';
import type { Clock, MessageStream } from '../../node/interfaces.ts';
import { createGenesis } from '../../node/ledger/genesis-core.ts';
import type { Beat } from '../../protocols/beat.ts';
import { sha256Hex } from '../../protocols/codec.ts';
import { type ErrorRecord, ParleyError } from '../../protocols/errors.ts';
import { type EntryDraft, encodeEntry, type LedgerEntry } from '../../protocols/ledger-entries.ts';
import type { LedgerState, Order } from '../../protocols/ledger-state.ts';
import type { Role } from '../../protocols/primitives.ts';
import { programRunText } from '../../protocols/program-run.ts';
import { applyEntry } from '../helpers/apply-entry.ts';
import { inviteHash, joining } from '../helpers/invites.ts';
import { configurationData } from '../helpers/ledger-script.ts';
import { FakeBuilders } from './builders.ts';
import { FakeDevices } from './devices.ts';
import { peerId, revision, seededRandom, silentLogger } from './helpers.ts';
import { streamPair } from './streams.ts';

export interface PeerSpec {
  readonly name: string;
  readonly roles: Role[];
}

type Faults = (what: string, peer: string) => 'go' | 'die-before' | 'die-after';

/** One log that all peers see at once; the leader is whom the test says. */
export class FakeFleet {
  readonly entries: LedgerEntry[] = [];
  readonly asked: string[] = [];
  readonly builders = new FakeBuilders();
  readonly devices = new FakeDevices();
  readonly dead = new Set<string>();
  /** Voters that are held up, by name; they are told with the next word about who leads. */
  readonly failures = new Map<string, ErrorRecord>();
  readonly offline = new Set<string>();
  readonly blobs = new Map<string, Uint8Array>();
  /** Peers that do not answer when they are asked for logs. */
  readonly silentLogs = new Set<string>();
  readonly logs = new Map<string, string[]>();
  /** Called when a device has new reports. */
  onSwitched: (host: string) => void = () => undefined;
  clock: Clock = systemClock;
  leader: string | null = null;
  term = 1;
  faults: Faults = () => 'go';
  #state: LedgerState;
  #genesis: Uint8Array;
  readonly #listeners = new Set<(state: LedgerState, entry: LedgerEntry | undefined) => void>();
  readonly #leadership = new Set<() => void>();
  readonly #presence = new Set<(peer: string, connected: boolean) => void>();
  readonly #handlers = new Map<string, (stream: MessageStream) => Promise<void>>();
  /** Open streams and who opened them; each knows whom it leads to. */
  readonly #streams = new Map<MessageStream, string>();

  constructor(peers: readonly PeerSpec[]) {
    const [first, ...others] = peers;
    if (first === undefined) throw new Error('a fleet needs a peer');
    const founder = { ...factsOf(first), name: first.name, site: 'home', roles: first.roles };
    const nonce = new Uint8Array(16);
    const genesis = createGenesis({ founder, recoveryKey: 'none', nonce, timeMs: 1_000 });
    this.#state = genesis.state;
    this.#genesis = genesis.bytes;
    for (const peer of others) this.join(peer);
  }

  join(peer: PeerSpec): void {
    const { name, roles } = peer;
    const invite = { keyHash: inviteHash(name), name, site: 'home', roles, expiresAtMs: Number.MAX_SAFE_INTEGER };
    this.apply({ kind: 'invite-opened', actor: 'root@test', body: invite });
    this.apply({
      kind: 'member-joined',
      actor: 'root@test',
      body: joining(this.#state.fleet, peer.name, factsOf(peer)),
    });
  }

  state(): LedgerState {
    return this.#state;
  }

  /** Applies an entry as the ledger does once it is committed. */
  apply(draft: EntryDraft): { index: number; result: LedgerState['commands'][string] } {
    const index = this.#state.index + 1;
    const entry = { version: 1, timeMs: this.#state.timeMs + 1, ...draft } as LedgerEntry;
    const chainHash = createHash('sha256').update(`${this.#state.chainHash}${index}`).digest('hex');
    const data = encodeEntry(entry);
    const applied = applyEntry(this.#state, { index, term: this.term, chainHash, type: 'normal', data });
    this.#state = applied.state;
    this.entries.push(entry);
    const order = entry.kind === 'order-given' ? this.#state.orders[entry.body.host] : undefined;
    if (order !== undefined) this.#carryOut(order);
    for (const listener of [...this.#listeners]) listener(this.#state, entry);
    if (applied.result === undefined) throw new Error(`the core gave no result for '${draft.kind}'`);
    if (applied.result.error !== null) {
      const { code, message, retryable } = applied.result.error;
      throw new ParleyError(code, message, { retryable });
    }
    return { index, result: applied.result };
  }

  /** Consensus puts these voters in force, by name. */
  vote(...names: readonly string[]): void {
    const raftIds = names.map((name) => this.#state.members[peerId(name)]?.raftId ?? 0).sort((a, b) => a - b);
    const rest = { votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
    const data = configurationData(this.#state, { voters: raftIds, ...rest });
    const index = this.#state.index + 1;
    const chainHash = createHash('sha256').update(`${this.#state.chainHash}${index}`).digest('hex');
    this.#state = applyEntry(this.#state, { index, term: this.term, chainHash, type: 'configuration', data }).state;
    for (const listener of [...this.#listeners]) listener(this.#state, undefined);
  }

  entriesOf<K extends LedgerEntry['kind']>(kind: K): Extract<LedgerEntry, { kind: K }>[] {
    return this.entries.filter((entry): entry is Extract<LedgerEntry, { kind: K }> => entry.kind === kind);
  }

  lead(name: string | null): void {
    this.leader = name === null ? null : peerId(name);
    this.term += 1;
    for (const listener of [...this.#leadership]) listener();
  }

  /** The process of this peer is gone: nothing that it still does has an effect. */
  kill(name: string): void {
    this.dead.add(peerId(name));
    this.setOnline(name, false);
    for (const [stream, opener] of this.#streams) {
      if (opener === peerId(name) || stream.peer === peerId(name)) stream.abort(new Error(`${name} was killed`));
    }
    if (this.leader === peerId(name)) this.lead(null);
  }

  setOnline(name: string, online: boolean): void {
    if (online) this.offline.delete(peerId(name));
    else this.offline.add(peerId(name));
    for (const listener of [...this.#presence]) listener(peerId(name), online);
    if (online) for (const order of Object.values(this.#state.orders)) if (order.host === name) this.#carryOut(order);
  }

  /** Resolves with the first state that fits. */
  async until(what: string, predicate: (state: LedgerState) => boolean, timeoutMs = 5_000): Promise<LedgerState> {
    const signal = AbortSignal.timeout(timeoutMs);
    return this.#waitFor(predicate, signal).catch(() => {
      const tasks = Object.values(this.#state.tasks).map(
        (task) => `${task.id} ${task.stage} ${task.outcome} ${task.reason?.text}`,
      );
      throw new Error(
        `waited in vain until ${what}: ${tasks.join(' | ')}; last entries ${this.entries.slice(-6).map((e) => e.kind)}`,
      );
    });
  }

  #waitFor(predicate: (state: LedgerState) => boolean, signal: AbortSignal): Promise<LedgerState> {
    if (predicate(this.#state)) return Promise.resolve(this.#state);
    const { promise, resolve, reject } = Promise.withResolvers<LedgerState>();
    const listener = (state: LedgerState) => {
      if (predicate(state)) resolve(state);
    };
    this.#listeners.add(listener);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    return promise.finally(() => this.#listeners.delete(listener));
  }

  /** One effect of a peer: recorded, and the place where it may die. */
  async #effect<T>(peer: string, what: string, effect: () => T | Promise<T>): Promise<T> {
    await Promise.resolve();
    if (this.dead.has(peer)) return new Promise<never>(() => undefined);
    const fate = this.faults(what, peer);
    if (fate === 'die-before') {
      this.kill(this.#nameOf(peer));
      return new Promise<never>(() => undefined);
    }
    this.asked.push(`${this.#nameOf(peer)} ${what}`);
    const result = await effect();
    if (fate === 'die-after') this.kill(this.#nameOf(peer));
    if (this.dead.has(peer)) return new Promise<never>(() => undefined);
    return result;
  }

  #nameOf(peer: string): string {
    return this.#state.members[peer]?.name ?? peer;
  }

  #ledgerOf(self: string): ControlLedger {
    return {
      state: () => this.#state,
      onApplied: (listener) => this.#listen(self, listener),
      waitFor: (predicate, signal) => this.#waitFor(predicate, signal),
      genesis: () => this.#genesis,
      propose: (draft) =>
        this.#effect(self, `propose ${draft.kind}`, () => {
          if (this.leader !== self)
            throw new ParleyError('not-controller', 'this peer does not lead', { retryable: true });
          return this.apply(draft);
        }),
      fetchBlob: async (hash) => {
        const bytes = this.blobs.get(hash);
        if (bytes === undefined) throw new ParleyError('blob-unavailable', `no blob '${hash}'`, { retryable: true });
        return bytes;
      },
      checkpointDue: () => undefined,
      replicateBlob: (hash) =>
        this.#effect(self, 'replicate', () => {
          if (!this.blobs.has(hash))
            throw new ParleyError('blob-unavailable', `no blob '${hash}'`, { retryable: true });
        }),
    };
  }

  #listen(self: string, listener: (state: LedgerState, entry: LedgerEntry | undefined) => void): () => void {
    const guarded = (state: LedgerState, entry: LedgerEntry | undefined) => {
      if (!this.dead.has(self)) listener(state, entry);
    };
    this.#listeners.add(guarded);
    return () => this.#listeners.delete(guarded);
  }

  /** Devices that are online switch at once; others when they return. */
  #carryOut(order: Order): void {
    if (this.offline.has(order.peer) || !this.devices.carryOut(order)) return;
    queueMicrotask(() => {
      for (const listener of [...this.#presence]) listener(order.peer, true);
      this.onSwitched(order.host);
    });
  }

  /** Everything that a control, or a part of it, needs at one peer. */
  componentsOf(name: string): ControlComponents & { presence: ReturnType<FakeFleet['presenceOf']> } {
    const self = peerId(name);
    const { silentLogs } = this;
    const random = seededRandom(7);
    return {
      mesh: this.#meshOf(self),
      ledger: this.#ledgerOf(self),
      leadership: {
        controller: () => this.leader,
        leads: () => this.leader === self && !this.dead.has(self),
        failure: () => this.failures.get(name),
        onChange: (listener) => {
          this.#leadership.add(listener);
          return () => this.#leadership.delete(listener);
        },
        confirm: () =>
          this.#effect(self, 'confirm', () => {
            if (this.leader !== self) throw new ParleyError('not-controller', 'no majority', { retryable: true });
          }),
      },
      voters: null,
      blobs: {
        put: (bytes) =>
          this.#effect(self, 'put', () => {
            const hash = sha256Hex(bytes);
            this.blobs.set(hash, bytes);
            return hash;
          }),
      },
      project: this.#projectOf(self),
      builderAt: (peer) =>
        this.builders.at(
          this.#nameOf(peer),
          (what, effect) => this.#effect(self, what, effect),
          () => !this.offline.has(peer),
        ),
      keepTwice: async () => undefined,
      diffClosures,
      journal: {
        pull: ({ peer, from }) =>
          this.#effect(self, `pull ${this.#nameOf(peer)}`, () => this.devices.journalOf(peer).slice(from - 1)),
        read: async (from) => this.devices.journalOf(self).slice(from - 1),
        incarnation: () => 1,
        taskLog: (task) => ({
          append: (lines) => {
            this.logs.set(task, [...(this.logs.get(task) ?? []), ...lines.map((line) => line.text)]);
          },
          end: () => undefined,
        }),
        readLogs: async function* ({ peer, task }) {
          if (silentLogs.has(peer)) throw new ParleyError('peer-unreachable', 'it is gone', { retryable: true });
          if (task.endsWith('/web1') && peer === peerId('web1')) {
            yield { atMs: 1, peer: 'web1', task, stream: 'stdout', level: 'warning', text: 'a unit is slow' };
            const program = { command: 'switch test', exitCode: 1 };
            const text = programRunText(program);
            yield { atMs: 2, peer: 'web1', task, stream: 'parley', level: 'info', text, program };
          }
        },
      },
      createToken: ({ expiresAtMs }) => ({
        text: `parley1:${expiresAtMs}`,
        keyHash: inviteHash(`secret ${random()}`),
      }),
      facts: () => ({
        incarnation: 1,
        journalSequence: this.devices.journalOf(self).length,
        running: this.devices.journalOf(self).at(-1)?.running ?? null,
        booted: null,
        activity: null,
        traffic: {},
        keeps: { index: this.#state.index, lacking: 0 },
      }),
      clock: this.clock,
      randomBytes: (count) => Uint8Array.from({ length: count }, () => Math.floor(random() * 256)),
      logger: silentLogger,
      presence: this.presenceOf(),
    };
  }

  presenceOf() {
    return {
      of: (peer: string) => ({
        online: !this.offline.has(peer) && !this.dead.has(peer),
        lastSeenMs: 1_000,
        beat: this.#beatOf(peer),
      }),
      onChange: (listener: (peer: string, turned: boolean) => void) => {
        const turned = (peer: string): void => listener(peer, true);
        this.#presence.add(turned);
        return () => this.#presence.delete(turned);
      },
    };
  }

  #beatOf(peer: string): Beat {
    const journalSequence = this.devices.journalOf(peer).length;
    const rest = { running: null, booted: null, activity: null, traffic: {} };
    return { version: 1, atMs: 1, release: '0', incarnation: 1, journalSequence, ledgerIndex: 1, ...rest };
  }

  #projectOf(self: string): ControlComponents['project'] {
    return {
      executeCommit: (intent) => this.#effect(self, 'commit', () => revision(`commit of ${intent.tree}`)),
      ensureRevision: async () => undefined,
      ensurePack: async () => undefined,
      patch: async () => 'a patch',
      history: async () => [{ revision: revision('c1'), author: 'ann', atMs: 1, message: 'first' }],
      checkout: async () => undefined,
      treeOf: async () => ({
        tree: revision('updated tree'),
        pack: new Uint8Array(3),
        files: [{ path: 'flake.lock', change: 'modified' }],
      }),
      workFolders: {
        read: async (folder) =>
          folder === '/clean'
            ? { kind: 'unchanged', tree: revision('head tree') }
            : {
                kind: 'changed',
                tree: revision(folder),
                pack: new TextEncoder().encode(folder),
                files: [{ path: 'flake.nix', change: 'modified' }],
              },
        write: async () => undefined,
      },
    };
  }

  /** Streams between peers of this process. */
  #meshOf(self: string): ControlComponents['mesh'] {
    const gone = () => new ParleyError('peer-unreachable', 'the peer is gone', { retryable: true });
    return {
      self,
      addresses: () => [`/ip4/127.0.0.1/tcp/4001/p2p/${self}`],
      connectedPeers: () =>
        Object.keys(this.#state.members)
          .filter((peer) => peer !== self && !this.dead.has(peer) && !this.offline.has(peer))
          .map((peer) => ({ peer, addresses: [] })),
      onPeerChange: (listener) => {
        this.#presence.add(listener);
        return () => this.#presence.delete(listener);
      },
      handle: (protocol, handler) => {
        this.#handlers.set(`${self} ${protocol}`, handler);
      },
      open: async (peer, protocol) => {
        const handler = this.#handlers.get(`${peer} ${protocol}`);
        if (handler === undefined || this.dead.has(peer) || this.offline.has(peer)) throw gone();
        const [near, far] = streamPair(self, peer);
        this.#streams.set(near, self);
        handler(far)
          .catch((error: Error) => far.abort(error))
          .finally(() => this.#streams.delete(near));
        return near;
      },
    };
  }
}

function factsOf(peer: PeerSpec) {
  return {
    peer: peerId(peer.name),
    addresses: [`/ip4/127.0.0.1/tcp/1/p2p/${peerId(peer.name)}`],
    system: 'x86_64-linux',
    voterKey: peerId(`${peer.name} votes`),
  };
}
