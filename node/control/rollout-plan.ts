// Owns the making of a plan from what was evaluated and built: which hosts would switch to which closure, what changes, who
// is left out and why, and whether the rules themselves change. Pure; the plan's hash is what people approve.

import { check, hashOf } from '../../protocols/codec.ts';
import { isOpen, memberNamed } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Task } from '../../protocols/ledger-state.ts';
import type { Plan, PlannedClosure } from '../../protocols/plan.ts';
import { type ParleyOutput, type Policy, parleyOutputSchema } from '../../protocols/policy.ts';

/** A closure that was built for a task, with what its manifest says. */
export interface BuiltClosure {
  readonly drvPath: string | null;
  readonly closure: string;
  readonly manifest: string;
  /** Name of the builder. */
  readonly builder: string;
  readonly pathCount: number;
  readonly narBytes: number;
  readonly changes: PlannedClosure['changes'];
  readonly changesLeftOut: number;
}

export interface PlanRequest {
  readonly task: Pick<Task, 'id' | 'attempt' | 'hosts'>;
  readonly revision: string;
  readonly built: ReadonlyMap<string, BuiltClosure>;
  /** Hosts that were asked for and cannot take part, each with its reason. */
  readonly leftOut: readonly { readonly host: string; readonly reason: string }[];
  /** The commit's own policy; null where its flake has no output `parley`. */
  readonly policy: Policy | null;
  readonly state: LedgerState;
}

export interface MadePlan {
  readonly plan: Plan;
  /** Hosts that run what the plan would bring: they get no order. */
  readonly unchanged: string[];
}

export function makePlan(request: PlanRequest): MadePlan {
  const { task, revision, built, policy, state } = request;
  const ready = task.hosts.filter((host) => built.has(host)).sort();
  const unchanged = ready.filter((host) => isUnchanged(host, built.get(host)?.closure, state));
  const switching = ready.filter((host) => !unchanged.includes(host));
  const hosts = switching.flatMap((host) => {
    const closure = built.get(host);
    if (closure === undefined) return [];
    return [{ host, closure: closure.closure, manifest: closure.manifest, before: runningOf(host, state) }];
  });
  const named = new Set(hosts.map((row) => row.closure));
  const closures = new Map(
    [...built.values()].filter((each) => named.has(each.closure)).map((each) => [each.closure, each]),
  );
  const leftOut = [...request.leftOut, ...unchanged.map((host) => ({ host, reason: 'runs it already' }))];
  const plan: Plan = {
    version: 1,
    task: task.id,
    attempt: task.attempt,
    revision,
    hosts,
    closures: [...closures.values()].sort((a, b) => (a.closure < b.closure ? -1 : 1)),
    leftOut: leftOut.sort((a, b) => (a.host < b.host ? -1 : 1)),
    policy,
    changesPolicy: policy !== null && !isSamePolicy(policy, state.policy),
  };
  return { plan, unchanged };
}

/** The plan of a rollback: one host, back to a closure that it ran. */
export function makeRollbackPlan(request: {
  readonly task: string;
  readonly host: string;
  readonly revision: string;
  readonly back: BuiltClosure;
  readonly state: LedgerState;
}): Plan {
  const { task, host, revision, back, state } = request;
  return {
    version: 1,
    task,
    attempt: 1,
    revision,
    hosts: [{ host, closure: back.closure, manifest: back.manifest, before: runningOf(host, state) }],
    closures: [back],
    leftOut: [],
    policy: null,
    changesPolicy: false,
  };
}

/**
 * The policy that a commit brings, from its evaluation's unchecked output.
 * @throws ParleyError `malformed` where the output does not fit.
 */
export function policyOf(revision: string, output: unknown): Policy | null {
  if (output === null || output === undefined) return null;
  const { hosts, operators }: ParleyOutput = check(parleyOutputSchema, output, "the flake's output 'parley'");
  return { revision, hosts, operators };
}

/** Whether both say the same, whatever commit they come from. */
export function isSamePolicy(policy: Policy, inForce: Policy | null): boolean {
  if (inForce === null) return false;
  const rules = ({ hosts, operators }: Policy) => hashOf({ hosts, operators });
  return rules(policy) === rules(inForce);
}

/** True when the host's newest switch was to this closure, went well, still holds, and no other order is under way. */
function isUnchanged(host: string, closure: string | undefined, state: LedgerState): boolean {
  const device = state.devices[host];
  const order = state.orders[host];
  if (device === undefined || closure === undefined || device.running !== closure) return false;
  if (device.ran[0]?.closure !== closure || device.outcome !== 'succeeded') return false;
  if (order === undefined) return true;
  const task = state.tasks[order.task];
  const underWay = order.outcome === null && !order.cancelled && (task === undefined || isOpen(task));
  return !underWay && order.closure === closure;
}

function runningOf(host: string, state: LedgerState): string | null {
  return memberNamed(state, host) === undefined ? null : (state.devices[host]?.running ?? null);
}
