// Owns what people do in a simulated fleet: write and read, commit, deploy, approve, abort, join machines; and what nobody
// should: orders without an approval. Each goes on until the fleet is left in peace.

import { createHash } from 'node:crypto';
import { makeRollbackPlan } from '../../node/control/rollout-plan.ts';
import { draftHash } from '../../node/ledger/project-core.ts';
import { inviteKeyOf } from '../../node/mesh/token.ts';
import { encode, hashOf, sha256Hex } from '../../protocols/codec.ts';
import type { EntryBody } from '../../protocols/ledger-entries.ts';
import { isOpen } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Member, Task } from '../../protocols/ledger-state.ts';
import type { Role } from '../../protocols/primitives.ts';
import type { Chance } from './chance.ts';
import { type Client, createClient, type History } from './client.ts';
import { type Fleet, factsOf } from './fleet.ts';
import { keepHabit } from './keepers.ts';

const inviteMs = 24 * 60 * 60 * 1000;
const planPatienceMs = 1_500;
/** What one of them does once, and how long it then waits. */
export interface Habit {
  readonly waitMs: readonly [least: number, most: number];
  readonly act: (client: Client, chance: Chance, id: () => string) => Promise<void>;
}

/** Sets everybody to work. @returns the function that ends it; what was asked for is still waited for. */
export function startPeople(fleet: Fleet, history: History): () => Promise<void> {
  let isOver = false;
  const members = [...fleet.peers.values()].filter(({ hardware }) => hardware.vote.record.raftId === 0);
  const registers = members.map(({ hardware }) => hardware.identity.peer);
  const habits: Readonly<Record<string, Habit>> = {
    ...{ reader: useRegisters(registers, 0.3), writer: useRegisters(registers, 0.6) },
    ...{ alice: deployHabit, bob: approveHabit(fleet), mallory: hastyHabit(fleet) },
    ...{ root: joinHabit(fleet), keeper: keepHabit(fleet) },
    ...{ dave: rollbackHabit(fleet) },
  };
  const working = Object.entries(habits).map(async ([name, { waitMs, act }]) => {
    const chance = fleet.chance(name);
    const client = createClient(name, fleet, history, chance);
    let ids = 0;
    const id = (): string => {
      ids += 1;
      return `${name}-does-${ids}`;
    };
    while (!isOver) {
      await client.pause(chance.between(...waitMs));
      if (!isOver) await act(client, chance, id);
    }
  });
  return async () => {
    isOver = true;
    await Promise.all(working);
  };
}

/** Two clients on few registers, so that their calls overlap. */
function useRegisters(peers: readonly string[], writeRate: number): Habit {
  let written = 0;
  return {
    waitMs: [10, 800],
    async act(client, chance) {
      const peer = chance.pick(peers);
      written += 1;
      if (chance.happens(writeRate)) await client.write(peer, `${writeRate}-${written}`);
      else await client.read(peer);
    },
  };
}

const deployHabit: Habit = {
  waitMs: [100, 900],
  async act(client, chance, id) {
    const state = client.glance();
    if (state === undefined) return;
    if (state.head === null || chance.happens(0.7)) await commit(client, state, id);
    const revision = await newHead(client, state.head);
    const all = Object.values(state.members).map((member) => member.name);
    const isEager = (host: string): boolean => chance.happens(host.endsWith('-auto') ? 0.9 : 0.4);
    const hosts = chance.happens(0.5) ? all.filter(isEager) : all.filter((host) => host.endsWith('-auto'));
    if (revision === null || hosts.length === 0) return;
    const body = { revision, selector: hosts.join(','), hosts, keepGoing: true };
    await client.command({ kind: 'deploy-requested', actor: 'alice', body }, id());
  },
};

/** The project's head once it has moved on, or what it is after a while. */
async function newHead(client: Client, before: string | null): Promise<string | null> {
  let head = client.glance()?.head ?? null;
  for (let tries = 0; tries < 20 && head === before; tries += 1) {
    await client.pause(50);
    head = client.glance()?.head ?? null;
  }
  return head;
}

/** Stages a draft that nobody has made before and commits it. */
export async function commit(client: Client, state: LedgerState, id: () => string): Promise<void> {
  const content = id();
  const staged = {
    ...{ base: state.head, tree: hashOf(content).slice(0, 40), pack: sha256Hex(content) },
    ...{ files: [{ path: 'flake.nix', change: 'modified' as const }], fileCount: 1 },
  };
  const body = { ...staged, previous: state.draft?.hash ?? null };
  const answer = await client.command({ kind: 'draft-staged', actor: 'alice', body }, id());
  if (answer === undefined || 'error' in answer) return;
  const intent = { draft: draftHash(staged), message: content };
  await client.command({ kind: 'commit-intended', actor: 'alice', body: intent }, id());
}

const topTasks = (state: LedgerState | undefined): Task[] =>
  Object.values(state?.tasks ?? {}).filter((task) => isOpen(task) && task.parent === null);

function approveHabit(fleet: Fleet): Habit {
  return {
    waitMs: [50, 700],
    async act(client, chance, id) {
      const tasks = topTasks(client.glance()).filter((task) => task.type === 'deploy');
      const [waiting] = tasks.filter(({ stage }) => stage === 'approval');
      if (waiting?.plan && chance.happens(0.8)) {
        const verdict = chance.happens(0.2) ? ('reject' as const) : ('approve' as const);
        const body = { task: waiting.id, plan: waiting.plan, verdict };
        const answer = await client.command({ kind: 'approval-given', actor: 'bob', body }, id());
        if (answer !== undefined && 'value' in answer) fleet.count('approvals');
      } else if (tasks.length > 0 && chance.happens(0.15)) {
        const body = { task: chance.pick(tasks).id };
        const answer = await client.command({ kind: 'task-aborted', actor: 'carol', body }, id());
        if (answer !== undefined && 'value' in answer) fleet.count('aborts');
      }
    },
  };
}

/** Orders that no controller of ours would give: for plans that wait for a yes, or that were carried out long ago. */
function hastyHabit(fleet: Fleet): Habit {
  return {
    waitMs: [300, 1_500],
    async act(client, chance, id) {
      const state = client.glance();
      const built = Object.values(state?.tasks ?? {}).filter((task) => task.type === 'build' && task.closure !== null);
      const plans = Object.entries(state?.plans ?? {}).filter(([, { approved }]) => !approved);
      if (built.length === 0 || plans.length === 0) return;
      const [plan, { task, hosts }] = chance.pick(plans);
      const part = built.find((each) => each.parent === task);
      const host = part?.hosts.find((each) => hosts.includes(each));
      if (part?.closure == null || part.manifest === null || host === undefined) return;
      const { closure, manifest } = part;
      const body: EntryBody<'order-given'> = { task, host, slot: 'system', plan, closure, manifest };
      fleet.count('hastyOrders');
      await client.command({ kind: 'order-given', actor: 'controller', body }, id());
      if (!chance.happens(0.6)) return;
      const approval = { task, plan, verdict: 'approve' as const };
      await client.command({ kind: 'approval-given', actor: 'mallory', body: approval }, id());
    },
  };
}

/** Sends a device back to what it ran before. */
function rollbackHabit(fleet: Fleet): Habit {
  return {
    waitMs: [800, 4_000],
    async act(client, chance, id) {
      const devices = Object.entries(client.glance()?.devices ?? {});
      const choices = devices.flatMap(([host, { running, ran }]) =>
        ran.filter(({ closure }) => closure !== running).map(({ closure, manifest }) => ({ host, closure, manifest })),
      );
      if (choices.length === 0) return;
      const { host, closure, manifest } = chance.pick(choices);
      const plan = await planRollback(fleet, { host, closure, manifest });
      if (plan === undefined) return;
      const body = { host, closure, manifest, plan };
      const answer = await client.command({ kind: 'rollback-requested', actor: 'carol', body }, id());
      if (answer !== undefined && 'value' in answer) fleet.count('rollbacks');
    },
  };
}

/** Puts the plan of a rollback where all voters find it. @returns its hash; undefined where nobody takes it. */
async function planRollback(
  fleet: Fleet,
  { host, closure, manifest }: { readonly host: string; readonly closure: string; readonly manifest: string },
): Promise<string | undefined> {
  const { time } = fleet;
  const [leader] = fleet.voters();
  if (leader === undefined) return undefined;
  const state = leader.ledger.state();
  const none = { drvPath: null, builder: 'unknown', pathCount: 1, narBytes: 1, changes: [], changesLeftOut: 0 };
  const back = { ...none, closure, manifest };
  const revision = state.devices[host]?.ran.find((each) => each.closure === closure)?.revision ?? '0'.repeat(40);
  const plan = makeRollbackPlan({ task: `t${state.nextTaskNumber}`, host, revision, back, state });
  return new Promise((resolve) => {
    time.schedule(planPatienceMs, undefined, 'nobody waits for a plan', () => resolve(undefined));
    time.schedule(0, leader.life, 'takes a plan', () => {
      leader.blobs
        .put(encode(plan))
        .then(async (hash) => {
          await leader.ledger.replicateBlob(hash, { signal: AbortSignal.timeout(planPatienceMs) });
          resolve(hash);
        })
        .catch(() => resolve(undefined));
    });
  });
}

/** Now and then a machine is added; some are to vote at once. */
function joinHabit(fleet: Fleet): Habit {
  let joined = 0;
  return {
    waitMs: [500, 6_000],
    async act(client, chance) {
      joined += 1;
      if (joined > 3) return;
      const roles: Role[] = chance.happens(0.3) ? ['voter', 'builder'] : ['builder', 'member'];
      if (await join(fleet, client, `late${joined}`, roles)) fleet.count('joins');
    },
  };
}

/** Opens an invite, has the peer use it, and starts the new peer. @returns whether it became a member. */
export async function join(fleet: Fleet, client: Client, name: string, roles: Role[]): Promise<boolean> {
  const facts = factsOf(name, roles);
  const { peer } = facts;
  const inviteKey = inviteKeyOf(createHash('sha256').update(`secret of ${name}`).digest());
  const expiresAtMs = (client.glance()?.timeMs ?? 0) + inviteMs;
  const invite = { keyHash: inviteKey.keyHash, name, site: 'home', roles, expiresAtMs };
  await client.command({ kind: 'invite-opened', actor: 'root@gate', body: invite }, `invite-of-${name}`);
  const proof = inviteKey.prove(client.glance()?.fleet ?? '', facts);
  const body = { ...facts, proof };
  const answer = await client.command({ kind: 'member-joined', actor: 'controller', body }, `joining-of-${name}`);
  if (answer === undefined || 'error' in answer) return false;
  const member = await seen(client, peer);
  if (member === undefined) return false;
  const contacts = Object.values(client.glance()?.members ?? {}).filter((each) => each.peer !== peer);
  fleet.add({ name, roles, raftId: member.raftId, contacts });
  fleet.boot(name);
  return true;
}

/** A member's record, once a voter that is asked has one. */
async function seen(client: Client, peer: string): Promise<Member | undefined> {
  for (let tries = 0; tries < 100; tries += 1) {
    const member = client.glance()?.members[peer];
    if (member !== undefined) return member;
    await client.pause(50);
  }
  return undefined;
}
