// A ledger without a mesh: entries are encoded, chained and applied one after another, and every state that was handed out
// is frozen, so that a core that changes one fails at once.

import assert from 'node:assert/strict';
import { createGenesis, type Genesis } from '../../node/ledger/genesis-core.ts';
import type { Applied } from '../../node/ledger/ledger-core.ts';
import { encodeConfigurationContext } from '../../protocols/certificate.ts';
import { sha256Hex } from '../../protocols/codec.ts';
import {
  type CommittedEntry,
  type Configuration,
  encodeConfigurationChange,
  entryChainHash,
} from '../../protocols/consensus-record.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import { type EntryBody, type EntryKind, encodeEntry, type LedgerEntry } from '../../protocols/ledger-entries.ts';
import type { CommandResult, LedgerState } from '../../protocols/ledger-state.ts';
import type { Role } from '../../protocols/primitives.ts';
import { applyEntry } from './apply-entry.ts';
import { inviteHash, joining } from './invites.ts';
import { voterIdentityOf } from './voter-keys.ts';

const base58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

/** The public half of a peer's voting key. */
export const voterKeyOf = (name: string): string => voterIdentityOf(name).peer;

/** A well-formed peer id that nobody has a key for. */
export function peerIdOf(name: string): string {
  const digits = Buffer.from(sha256Hex(name) + sha256Hex(`${name}.`), 'hex');
  return `12D3KooW${Array.from(digits.subarray(0, 44), (byte) => base58[byte % 58]).join('')}`;
}

export const hash = (text: string): string => sha256Hex(text);
export const revision = (text: string): string => sha256Hex(text).slice(0, 40);
export const storePath = (name: string): string =>
  `/nix/store/${Array.from(Buffer.from(sha256Hex(name), 'hex'), (byte) => '0123456789abcdfghijklmnpqrsvwxyz'[byte % 32]).join('')}-${name}`;

export interface ApplyOptions {
  readonly actor?: string;
  readonly commandId?: string;
  /** Ledger time goes on by so much before the entry; default one second. */
  readonly afterMs?: number;
}

export interface LedgerScript {
  readonly genesis: Genesis;
  readonly entries: CommittedEntry[];
  /** Those that the ledger's peer has accepted. */
  readonly generations: GenerationRecord[];
  state(): LedgerState;
  /** Applies an entry, valid or not. */
  apply<K extends EntryKind>(kind: K, body: EntryBody<K>, options?: ApplyOptions): CommandResult;
  /** Applies an entry that must hold; returns the task that it names. */
  accept<K extends EntryKind>(kind: K, body: EntryBody<K>, options?: ApplyOptions): string;
  /** Applies an entry that must be refused; returns the error's message. */
  refuse<K extends EntryKind>(code: string, kind: K, body: EntryBody<K>, options?: ApplyOptions): string;
  applyData(data: Uint8Array): Applied;
  configure(configuration: Partial<Configuration>): void;
  applyConfiguration(data: Uint8Array): Applied;
  /** Invites a peer and lets it join. */
  join(name: string, roles?: readonly Role[], site?: string): void;
}

export function createLedgerScript(
  options: { readonly founder?: string; readonly startMs?: number } = {},
): LedgerScript {
  const { founder = 'n1', startMs = 1_700_000_000_000 } = options;
  const genesis = createGenesis({
    founder: {
      peer: peerIdOf(founder),
      name: founder,
      site: 'home',
      roles: ['voter', 'builder'],
      addresses: ['/ip4/127.0.0.1/tcp/4400'],
      system: 'x86_64-linux',
      voterKey: voterKeyOf(founder),
    },
    recoveryKey: 'recovery',
    nonce: new Uint8Array(16).fill(7),
    timeMs: startMs,
  });
  let state = freeze(genesis.state);
  let timeMs = startMs;
  const entries: CommittedEntry[] = [];
  const generations: GenerationRecord[] = [];

  function place(type: 'normal' | 'configuration', data: Uint8Array): Applied {
    const entry = { index: state.index + 1, term: 1, type, data };
    const committed = { ...entry, chainHash: entryChainHash(state.chainHash, entry) };
    entries.push(committed);
    const applied = applyEntry(state, committed, { levelMax: Number.POSITIVE_INFINITY, generations });
    if (applied.bug !== undefined) throw applied.bug;
    state = freeze(applied.state);
    return applied;
  }

  const script: LedgerScript = {
    genesis,
    entries,
    generations,
    state: () => state,
    apply(kind, body, { actor = `root@${founder}`, commandId, afterMs = 1_000 } = {}) {
      timeMs += afterMs;
      const entry = { version: 1, kind, timeMs, actor, commandId, body } as LedgerEntry;
      const { result } = place('normal', encodeEntry(entry));
      assert.ok(result, `'${kind}' could not be read`);
      return result;
    },
    accept(kind, body, given) {
      const result = script.apply(kind, body, given);
      assert.equal(result.error, null, `'${kind}' was refused: ${result.error?.message}`);
      return result.task ?? '';
    },
    refuse(code, kind, body, given) {
      const before = script.state();
      const result = script.apply(kind, body, given);
      assert.equal(result.error?.code, code, `'${kind}': ${result.error?.message}`);
      assert.deepEqual(substance(script.state()), substance(before), 'a refused entry changes nothing');
      return result.error?.message ?? '';
    },
    applyData: (data) => place('normal', data),
    applyConfiguration: (data) => place('configuration', data),
    configure(configuration) {
      const whole = {
        voters: [],
        votersOutgoing: [],
        learners: [],
        learnersNext: [],
        autoLeave: false,
        ...configuration,
      };
      place('configuration', configurationData(state, whole));
    },
    join(name, roles = ['member'], site = 'home') {
      const secret = `secret of ${name}`;
      const expiresAtMs = timeMs + 60_000;
      script.accept('invite-opened', { keyHash: inviteHash(secret), name, site, roles: [...roles], expiresAtMs });
      const facts = {
        peer: peerIdOf(name),
        addresses: [`/dns4/${name}/tcp/4400`],
        system: 'x86_64-linux',
        voterKey: voterKeyOf(name),
      };
      script.accept('member-joined', joining(state.fleet, secret, facts));
    },
  };
  return script;
}

/** The data of an entry that puts a configuration in force, whatever was before. */
export function configurationData({ members }: LedgerState, configuration: Configuration): Uint8Array {
  const raftIds = new Set([...configuration.voters, ...configuration.votersOutgoing]);
  const voters = Object.values(members)
    .filter(({ raftId }) => raftIds.has(raftId))
    .map(({ raftId, peer, voterKey }) => ({ raftId, peer, key: voterKey ?? peer }));
  const context = encodeConfigurationContext({ configuration, voters });
  const steps = configuration.voters.map((raftId) => ({ kind: 'add-voter' as const, raftId }));
  return encodeConfigurationChange({ transition: 'joint-explicit', steps, context });
}

/** The state without what every entry moves. */
function substance(state: LedgerState): unknown {
  const { index: _index, term: _term, chainHash: _chainHash, timeMs: _timeMs, commands: _commands, ...rest } = state;
  return rest;
}

const frozen = new WeakSet<object>();

function freeze<T>(value: T): T {
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array || frozen.has(value)) return value;
  frozen.add(value);
  for (const field of Object.values(value)) freeze(field);
  return Object.freeze(value);
}

/** Stages a draft and commits it. */
export function commit(script: LedgerScript, name: string, actor?: string): string {
  const given = actor === undefined ? {} : { actor };
  stage(script, name, given);
  const draft = script.state().draft?.hash ?? '';
  const task = script.accept('commit-intended', { draft, message: `make ${name}` }, given);
  script.accept('commit-recorded', { task, revision: revision(name) }, { actor: 'controller' });
  return task;
}

export function stage(script: LedgerScript, name: string, options: ApplyOptions = {}): void {
  script.accept(
    'draft-staged',
    {
      base: script.state().head,
      previous: script.state().draft?.hash ?? null,
      tree: revision(`tree ${name}`),
      pack: hash(`pack ${name}`),
      files: [{ path: 'flake.nix', change: 'modified' }],
      fileCount: 1,
    },
    options,
  );
}

/** Operators alice (deployer, approver), bob (approver), carol (viewer) and dave (deployer); web hosts approve themselves if `auto`. */
export function adoptPolicy(
  script: LedgerScript,
  options: { readonly auto?: readonly string[]; readonly approvers?: readonly string[] } = {},
): void {
  const { auto = [], approvers = ['alice', 'bob'] } = options;
  const roles = (name: string, others: readonly ('deployer' | 'viewer')[]) => ({
    roles: [...others, ...(approvers.includes(name) ? (['approver'] as const) : [])],
  });
  script.accept('policy-adopted', {
    revision: script.state().head ?? revision('none'),
    hosts: Object.fromEntries(auto.map((host) => [host, { tags: [], approval: 'auto' as const, monitor: false }])),
    operators: {
      alice: roles('alice', ['deployer']),
      bob: roles('bob', ['viewer']),
      carol: roles('carol', ['viewer']),
      dave: roles('dave', ['deployer']),
    },
  });
}

/** Asks for a deploy and brings it to its plan. */
export function deployToPlan(
  script: LedgerScript,
  hosts: readonly string[],
  options: { readonly actor?: string; readonly keepGoing?: boolean; readonly changesPolicy?: boolean } = {},
): { readonly task: string; readonly plan: string } {
  const head = script.state().head ?? '';
  const { actor = 'root@n1', keepGoing = false, changesPolicy = false } = options;
  const task = script.accept(
    'deploy-requested',
    { revision: head, selector: hosts.join(','), hosts: [...hosts], keepGoing },
    { actor },
  );
  const plan = buildAndPlan(script, task, hosts, changesPolicy);
  return { task, plan };
}

export function buildAndPlan(
  script: LedgerScript,
  task: string,
  hosts: readonly string[],
  changesPolicy = false,
): string {
  const { attempt, revision: deployed } = script.state().tasks[task] ?? assert.fail('no task');
  const builder = peerIdOf('n1');
  script.accept('evaluation-finished', { task, attempt, evaluation: hash(`evaluation ${task}`), builder });
  for (const host of hosts) {
    const drvPath = `${storePath(`${host}-${deployed?.slice(0, 4)}`)}.drv`;
    script.accept('build-started', { task, attempt, drvPath, hosts: [host], builder });
    const { closure, manifest } = built(script, task, host);
    script.accept('build-finished', { task, attempt, drvPath, closure, manifest });
  }
  const plan = hash(`plan ${task} ${attempt}`);
  script.accept('plan-made', {
    task,
    attempt,
    plan,
    revision: deployed ?? '',
    hosts: [...hosts],
    unchanged: [],
    changesPolicy,
  });
  return plan;
}

/** What a host's build of a task's commit comes to. */
export function built(script: LedgerScript, task: string, host: string): { closure: string; manifest: string } {
  const name = `${host}-${script.state().tasks[task]?.revision?.slice(0, 6)}`;
  return { closure: storePath(name), manifest: hash(`manifest ${name}`) };
}

/** Gives a host its order; returns the order's number. */
export function order(script: LedgerScript, task: string, host: string): number {
  const plan = script.state().tasks[task]?.plan ?? '';
  script.accept(
    'order-given',
    { task, host, slot: 'system', plan, ...built(script, task, host) },
    { actor: 'controller' },
  );
  return script.state().orders[host]?.number ?? 0;
}

/** The device's report about its newest order. */
export function report(
  script: LedgerScript,
  host: string,
  outcome: NonNullable<EntryBody<'device-reported'>['ended']>['outcome'],
  more: { readonly order?: number; readonly reason?: string; readonly failedUnits?: string[] } = {},
): CommandResult {
  const device = script.state().devices[host];
  const newest = script.state().orders[host];
  const runs = outcome === 'succeeded' || outcome === 'degraded';
  return script.apply('device-reported', {
    peer: peerIdOf(host),
    incarnation: 1,
    sequence: (device?.sequence ?? 0) + 1,
    running: runs ? (newest?.closure ?? null) : (device?.running ?? null),
    booted: null,
    ended: {
      order: more.order ?? newest?.number ?? 0,
      outcome,
      reason: more.reason ?? null,
      failedUnits: more.failedUnits ?? [],
      simulated: true,
    },
  });
}
