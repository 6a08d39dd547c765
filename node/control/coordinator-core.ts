// Owns what the controller must do next, as a pure function of the ledger's state and of what this process happens to
// know. Nothing is remembered between calls: a new controller that starts with the same state comes to the same work, and
// what the ledger already holds is never asked for again.

import type { Evaluation } from '../../protocols/build-job.ts';
import type { EntryBody, EntryDraft } from '../../protocols/ledger-entries.ts';
import { childTaskId, isOpen } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Task } from '../../protocols/ledger-state.ts';
import { textCharactersMax } from '../../protocols/limits.ts';
import type { Plan } from '../../protocols/plan.ts';
import { nextVoterChange, type VoterChange, type VoterFacts } from './voters-core.ts';

/** What this process knows beside the state. Blobs never change, so that having read one is no decision. */
export interface Volatile {
  readonly evaluations: ReadonlyMap<string, Evaluation>;
  readonly plans: ReadonlyMap<string, Plan>;
  readonly isOnline: (peer: string) => boolean;
  /** Commits of which it is known that they bring no policy, or none that can be read. */
  readonly withoutPolicy: ReadonlySet<string>;
  /** What is due about checkpoints, by what the ledger has on its disk. */
  readonly checkpoint: EntryDraft | undefined;
  /** Null on a peer that does not vote. */
  readonly voters: VoterFacts | null;
}

/** One piece of work. Two actions with the same key are the same work: it is started once at a time. */
export type Action =
  | { readonly kind: 'propose'; readonly key: string; readonly draft: EntryDraft }
  | { readonly kind: 'read-evaluation'; readonly key: string; readonly hash: string }
  | { readonly kind: 'read-plan'; readonly key: string; readonly hash: string }
  | { readonly kind: 'carry-out-commit'; readonly key: string; readonly task: Task }
  | { readonly kind: 'update-inputs'; readonly key: string; readonly task: Task }
  | { readonly kind: 'adopt-first-policy'; readonly key: string; readonly revision: string }
  | { readonly kind: 'evaluate'; readonly key: string; readonly task: Task }
  | { readonly kind: 'build'; readonly key: string; readonly task: Task; readonly build: DueBuild }
  | { readonly kind: 'make-plan'; readonly key: string; readonly task: Task; readonly evaluation: Evaluation }
  | { readonly kind: 'change-voters'; readonly key: string; readonly change: VoterChange };

/** A derivation that a task needs and that is not built for it yet. */
export interface DueBuild {
  readonly drvPath: string;
  readonly system: string;
  readonly hosts: readonly string[];
}

/** Everything that is due now. The caller starts what is not under way yet. */
export function decide(state: LedgerState, known: Volatile): Action[] {
  const actions: Action[] = [];
  for (const task of Object.values(state.tasks)) {
    if (isOpen(task) && task.parent === null) actions.push(...decideTask(task, state, known));
    else if (isOpen(task) && task.abortedBy !== null) actions.push(...decideCancelling([task], state, known));
  }
  actions.push(...decidePolicy(state, known));
  if (known.checkpoint !== undefined) {
    const key = `${known.checkpoint.kind}:${state.checkpointBegun}:${state.checkpointMade}`;
    actions.push(propose(key, known.checkpoint));
  }
  const change = known.voters === null ? undefined : nextVoterChange(state, known.voters);
  // Each follows on a configuration: the same change after another one is another piece of work.
  if (change !== undefined) actions.push({ kind: 'change-voters', key: `voters:${state.voterSet.index}`, change });
  return actions;
}

function decideTask(task: Task, state: LedgerState, known: Volatile): Action[] {
  if (task.abortedBy !== null) {
    return decideCancelling(childrenOf(state, task).filter(isOpen), state, known);
  }
  switch (task.type) {
    case 'commit':
      return [{ kind: 'carry-out-commit', key: keyOf('commit', task), task }];
    case 'update-inputs':
      return [{ kind: 'update-inputs', key: keyOf('update', task), task }];
    case 'deploy':
    case 'build':
    case 'rollback':
      return decideStage(task, state, known);
    case 'deploy-device':
      return [];
  }
}

function decideStage(task: Task, state: LedgerState, known: Volatile): Action[] {
  if (task.stage === 'evaluate') return [{ kind: 'evaluate', key: keyOf('evaluate', task), task }];
  if (task.stage === 'build' || task.stage === 'plan') {
    if (task.evaluation === null) return [];
    const evaluation = known.evaluations.get(task.evaluation);
    if (evaluation === undefined) {
      return [{ kind: 'read-evaluation', key: `read:${task.evaluation}`, hash: task.evaluation }];
    }
    if (task.stage === 'build') return decideBuilds(task, evaluation, state);
    return [{ kind: 'make-plan', key: keyOf('plan', task), task, evaluation }];
  }
  if (task.stage === 'order' || task.stage === 'switch') return decideOrders(task, state, known);
  return [];
}

/** Failed hosts are told first. Where they fail the whole task, nothing is built. */
function decideBuilds(task: Task, evaluation: Evaluation, state: LedgerState): Action[] {
  const failures = evaluationFailures(task, evaluation).filter(({ host }) => !hasFailed(task, host, state));
  const told = task.keepGoing ? failures : failures.slice(0, 1);
  const actions = told.map(({ host, reason }): Action => {
    const others = task.keepGoing
      ? []
      : failures.filter((failure) => failure.host !== host).map((failure) => failure.host);
    const rest =
      others.length === 0 ? '' : ` (as do ${others.slice(0, 10).join(', ')}${others.length > 10 ? ' …' : ''})`;
    const body = { task: task.id, attempt: task.attempt, host, stage: 'evaluate' as const, reason: cut(reason, rest) };
    return propose(keyOf(`evaluation-failed:${host}`, task), { kind: 'host-failed', actor: 'controller', body });
  });
  if (failures.length > 0 && !task.keepGoing) return actions;
  const builds = dueBuilds(task, evaluation, state);
  return [
    ...actions,
    ...builds.map((build): Action => ({ kind: 'build', key: keyOf(`build:${build.drvPath}`, task), task, build })),
  ];
}

function evaluationFailures(task: Task, evaluation: Evaluation): { readonly host: string; readonly reason: string }[] {
  const byName = new Map(evaluation.hosts.map((host) => [host.name, host]));
  return task.hosts.flatMap((host) => {
    const evaluated = byName.get(host);
    if (evaluated?.toplevel) return [];
    const reason = evaluated?.error?.message ?? `the flake has no nixosConfigurations.${host}`;
    return [{ host, reason }];
  });
}

/** Each derivation once, with all the hosts that share it. */
function dueBuilds(task: Task, evaluation: Evaluation, state: LedgerState): DueBuild[] {
  const builds = new Map<string, { drvPath: string; system: string; hosts: string[] }>();
  for (const { name, toplevel } of evaluation.hosts) {
    if (toplevel === null || !task.hosts.includes(name)) continue;
    const build = builds.get(toplevel.drvPath);
    if (build === undefined) builds.set(toplevel.drvPath, { ...toplevel, hosts: [name] });
    else build.hosts.push(name);
  }
  const children = childrenOf(state, task).filter((child) => child.drvPath !== null);
  const ended = new Set(children.filter((child) => isOfAttempt(task, child)).map((child) => child.drvPath));
  return [...builds.values()]
    .filter(({ drvPath }) => !ended.has(drvPath))
    .map(({ drvPath, system, hosts }) => ({ drvPath, system, hosts }));
}

function decideOrders(task: Task, state: LedgerState, known: Volatile): Action[] {
  const hash = task.plan;
  const record = hash === null ? undefined : state.plans[hash];
  if (hash === null || !record?.approved) return [];
  const pending = childrenOf(state, task).filter(
    (child) => child.status === 'pending' && child.type === 'deploy-device' && child.host !== null,
  );
  if (pending.length === 0) return [];
  const plan = known.plans.get(hash);
  if (plan === undefined) return [{ kind: 'read-plan', key: `read:${hash}`, hash }];
  return pending.flatMap((child) => {
    const row = plan.hosts.find(({ host }) => host === child.host);
    if (row === undefined) return [];
    const { host, closure, manifest } = row;
    const body = { task: task.id, host, slot: 'system' as const, plan: hash, closure, manifest };
    return [propose(keyOf(`order:${host}`, task), { kind: 'order-given', actor: 'controller', body })];
  });
}

/** Orders that are out are cancelled; the device says what became of them, or, where it is away, the child ends here. */
function decideCancelling(children: readonly Task[], state: LedgerState, known: Volatile): Action[] {
  return children.flatMap((child): Action[] => {
    const order = child.host === null ? undefined : state.orders[child.host];
    if (order === undefined || child.order !== order.number || order.outcome !== null) return [];
    const { task, host, number } = order;
    if (!order.cancelled) {
      const body = { task, host, order: number };
      return [propose(`cancel:${number}`, { kind: 'order-cancelled', actor: 'controller', body })];
    }
    if (known.isOnline(order.peer)) return [];
    const reason = `${host} is offline; it will ignore the cancelled order`;
    const body = { task: child.id, attempt: child.attempt, outcome: 'cancelled' as const, reason };
    return [propose(`cancelled:${number}`, { kind: 'task-finished', actor: 'controller', body })];
  });
}

/** A commit's policy comes into force with its first deploy that completed; the very first one with its commit, by root. */
function decidePolicy(state: LedgerState, known: Volatile): Action[] {
  if (state.policy === null && state.head !== null && !known.withoutPolicy.has(state.head)) {
    return [{ kind: 'adopt-first-policy', key: `first-policy:${state.head}`, revision: state.head }];
  }
  const deployed = Object.values(state.tasks)
    .filter((task) => task.type === 'deploy' && task.status === 'completed' && task.plan !== null)
    .filter((task) => state.plans[task.plan ?? '']?.changesPolicy && state.plans[task.plan ?? '']?.approved)
    .sort((a, b) => (b.endedAtMs ?? 0) - (a.endedAtMs ?? 0) || Number(b.id.slice(1)) - Number(a.id.slice(1)))[0];
  if (deployed === undefined || deployed.plan === null || deployed.revision === state.policy?.revision) return [];
  const plan = known.plans.get(deployed.plan);
  if (plan === undefined) return [{ kind: 'read-plan', key: `read:${deployed.plan}`, hash: deployed.plan }];
  if (plan.policy === null) return [];
  return [
    propose(`policy:${plan.policy.revision}`, { kind: 'policy-adopted', actor: 'controller', body: plan.policy }),
  ];
}

/** A build that is under way already, perhaps since another controller started it, needs no second `build-started`. */
export function isStarted(state: LedgerState, task: Task, drvPath: string): boolean {
  return childrenOf(state, task).some(
    (child) => child.drvPath === drvPath && isOpen(child) && child.attempt === task.attempt,
  );
}

/** The results of a task's builds, by host; hosts that failed are missing. */
export function builtHosts(state: LedgerState, task: Task): Map<string, Task> {
  const built = new Map<string, Task>();
  for (const child of childrenOf(state, task)) {
    if (child.drvPath === null || child.outcome !== 'succeeded') continue;
    for (const host of child.hosts) built.set(host, child);
  }
  return built;
}

/** Hosts of a task that failed alone in this attempt, with their reasons. */
export function failedHosts(state: LedgerState, task: Task): { readonly host: string; readonly reason: string }[] {
  return task.hosts.flatMap((host) => {
    const child = state.tasks[childTaskId(task.id, host)];
    const failed = child !== undefined && child.attempt === task.attempt && child.outcome === 'failed';
    return failed ? [{ host, reason: child.reason?.text ?? 'failed' }] : [];
  });
}

export function childrenOf(state: LedgerState, task: Task): Task[] {
  return task.children.flatMap((id) => state.tasks[id] ?? []);
}

function hasFailed(task: Task, host: string, state: LedgerState): boolean {
  const child = state.tasks[childTaskId(task.id, host)];
  return child !== undefined && isOfAttempt(task, child);
}

/** An ended child that speaks for the task's present attempt: what succeeded earlier stays. */
function isOfAttempt(task: Task, child: Task): boolean {
  return !isOpen(child) && (child.outcome === 'succeeded' || child.attempt === task.attempt);
}

function propose(key: string, draft: EntryDraft): Action {
  return { kind: 'propose', key, draft };
}

function keyOf(what: string, task: Pick<Task, 'id' | 'attempt'>): string {
  return `${what}:${task.id}:${task.attempt}`;
}

function cut(reason: string, rest: string): EntryBody<'host-failed'>['reason'] {
  const room = textCharactersMax - rest.length;
  return `${reason.length > room ? `${reason.slice(0, room - 1)}…` : reason}${rest}`;
}
