// Owns what the tests of this room share: a quiet logger and one seeded source of chance.

import { systemClock } from '../../node/host/index.ts';
import type { Clock, Logger } from '../../node/interfaces.ts';
import type { Beat } from '../../protocols/beat.ts';
import { sha256Hex } from '../../protocols/codec.ts';
import type { LedgerState, Member, Task } from '../../protocols/ledger-state.ts';
import type { OperatorRole } from '../../protocols/policy.ts';
import type { Role } from '../../protocols/primitives.ts';

export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLogger,
};

/** Numbers in [0, 1) that a seed repeats (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A peer id that fits the schema, the same for the same name. */
export function peerId(name: string): string {
  return `12D3KooW${sha256Hex(name).slice(0, 44).replaceAll('0', 'G')}`;
}

/** 64 hex digits, the same for the same words. */
export const hash = (words: string): string => sha256Hex(words);
/** A commit id, the same for the same words. */
export const revision = (words: string): string => sha256Hex(words).slice(0, 40);
/** A store path that fits the schema. */
export const storePath = (name: string): string =>
  `/nix/store/${sha256Hex(name).slice(0, 32).replaceAll('e', 'g')}-${name}`;
export const drvPath = (name: string): string => `${storePath(name)}.drv`;

export function memberOf(name: string, roles: Role[], site = 'home'): Member {
  const facts = { peer: peerId(name), addresses: [], system: 'x86_64-linux' };
  return { ...facts, name, site, roles, raftId: 0, joinedAtMs: 1_000 };
}

/** An open task of which the caller says what matters. */
export function buildTask(task: Partial<Task> & Pick<Task, 'id' | 'type'>): Task {
  return {
    status: 'running',
    outcome: null,
    reason: null,
    parent: null,
    children: [],
    actor: 'dan',
    commandId: null,
    attempt: 1,
    submittedAtMs: 1_000,
    startedAtMs: 1_000,
    endedAtMs: null,
    revision: null,
    selector: null,
    hosts: [],
    inputs: [],
    keepGoing: false,
    commit: null,
    stage: 'work',
    evaluation: null,
    builder: null,
    plan: null,
    host: null,
    drvPath: null,
    closure: null,
    manifest: null,
    order: null,
    failedUnits: [],
    simulated: false,
    abortedBy: null,
    ...task,
  };
}

export interface StateParts {
  readonly members?: Member[];
  readonly operators?: Record<string, OperatorRole[]>;
  readonly hosts?: Record<string, string[]>;
  readonly tasks?: Task[];
}

/** A ledger state with these members, policy and tasks. */
export function buildState(parts: StateParts): LedgerState {
  const operators = Object.entries(parts.operators ?? {}).map(([name, roles]) => [name, { roles }]);
  const hosts = Object.entries(parts.hosts ?? {}).map(([name, tags]) => [
    name,
    { tags, approval: 'manual', monitor: false },
  ]);
  const policy = {
    revision: revision('policy'),
    operators: Object.fromEntries(operators),
    hosts: Object.fromEntries(hosts),
  };
  return {
    version: 1,
    level: 1,
    fleet: hash('fleet'),
    generation: 0,
    index: 10,
    term: 3,
    chainHash: hash('chain'),
    timeMs: 1_000,
    recoveryKey: 'recovery',
    members: Object.fromEntries((parts.members ?? []).map((member) => [member.peer, member])),
    nextRaftId: 9,
    voters: [1],
    learners: [],
    joint: null,
    voterSet: { generation: 0, index: 1, voters: [], votersOutgoing: [] },
    checkpointIndex: 0,
    checkpointBegun: 0,
    checkpointMade: 0,
    allotted: [],
    removedPeers: [],
    generationIndex: 0,
    invites: {},
    draft: null,
    head: null,
    policy: parts.operators === undefined && parts.hosts === undefined ? null : policy,
    nextTaskNumber: 1,
    tasks: Object.fromEntries((parts.tasks ?? []).map((task) => [task.id, task])),
    plans: {},
    orders: {},
    devices: {},
    nextNoticeNumber: 1,
    notices: [],
    commands: {},
  };
}

/** A clock that runs faster than the machine's, so that long time-outs can be waited for. */
export function fastClock(times: number): Clock {
  const { after, every } = systemClock;
  return {
    nowMs: systemClock.nowMs,
    monotonicMs: () => systemClock.monotonicMs() * times,
    after: (delayMs, call) => after(delayMs / times, call),
    every: (periodMs, call) => every(Math.max(1, periodMs / times), call),
  };
}

export const sampleBeat: Beat = {
  version: 1,
  atMs: 1,
  release: '0.1.0',
  incarnation: 1,
  journalSequence: 4,
  ledgerIndex: 9,
  running: null,
  booted: null,
  activity: null,
  traffic: {},
};
