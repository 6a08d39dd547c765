// Owns plans and people's say about them: whether a plan needs a yes, who gave it, and the policy that follows from it.

import {
  approversOf,
  childTaskId,
  hasRole,
  isOpen,
  isSamePerson,
  mayApprove,
  memberNamed,
} from '../../protocols/ledger-rules.ts';
import {
  type LedgerState,
  type PlanRecord,
  plansBytesKeptMax,
  plansKeptMax,
  type Task,
} from '../../protocols/ledger-state.ts';
import { addNotice, describeTask } from './notices-core.ts';
import { supersedeByCommit } from './project-core.ts';
import {
  childrenOf,
  deviceMember,
  type EntryMeta,
  type Handler,
  listNames,
  membersByName,
  newChild,
  openTaskOf,
  putChildren,
  putTasks,
  refusal,
  taskOf,
} from './state-core.ts';
import { dropRecords, putRecord } from './tables-core.ts';
import { ended, endTask, numberOf, reason, settle, startTask } from './tasks-core.ts';

export const planMade: Handler<'plan-made'> = (state, body) => {
  const task = openTaskOf(state, body.task, body.attempt);
  if (task.type !== 'deploy' || !['evaluate', 'build', 'plan'].includes(task.stage)) {
    throw refusal('late-result', `task '${task.id}' takes no plan now: ${task.type} at stage '${task.stage}'`);
  }
  if (body.revision !== task.revision) {
    throw refusal('late-result', `a plan for ${body.revision}: task '${task.id}' deploys ${task.revision}`);
  }
  checkPlanIsNew(state, body.plan);
  const members = membersByName(state);
  for (const host of body.hosts) {
    deviceMember(members, host);
    if (!task.hosts.includes(host))
      throw refusal('host-unknown', `task '${task.id}' has nothing to do with host '${host}'`);
  }
  const { revision, hosts, changesPolicy } = body;
  const needsApproval = changesPolicy || hosts.some((host) => hostNeedsApproval(state, host));
  const plan: PlanRecord = {
    task: task.id,
    attempt: task.attempt,
    revision,
    author: task.actor,
    hosts,
    changesPolicy,
    needsApproval,
    approved: !needsApproval,
    rejected: false,
    approvals: [],
  };
  const planned = putPlan(putDevices(state, task, body.plan, hosts, body.unchanged), body.plan, plan);
  const current = taskOf(planned, task.id);
  if (!needsApproval)
    return { state: settle(putTasks(planned, { ...current, stage: 'order' }), task.id), task: task.id };
  if (revision !== state.head && state.head !== null) {
    return { state: supersedeByCommit(planned, current, state.head), task: task.id };
  }
  const who = listNames(approversOf(state, plan)) || 'an approver, and there is none';
  const waiting: Task = { ...current, stage: 'approval', reason: reason('approval', `waits for approval by ${who}`) };
  const text = `${describeTask({ ...task, hosts })} by ${task.actor} waits for approval by ${who}`;
  return { state: addNotice(putTasks(planned, waiting), 'approval', task.id, text), task: task.id };
};

/** Without a policy everything waits for root; a host that says nothing waits for a person. */
function hostNeedsApproval(state: LedgerState, host: string): boolean {
  const hosts = state.policy?.hosts ?? {};
  return !Object.hasOwn(hosts, host) || hosts[host]?.approval !== 'auto';
}

function checkPlanIsNew(state: LedgerState, plan: string): void {
  const known = state.plans[plan];
  if (known !== undefined)
    throw refusal('plan-known', `plan '${plan.slice(0, 8)}' belongs to task '${known.task}' already`);
}

/** A pending child for each host of the plan; children left from an earlier attempt that it does not name end. */
function putDevices(
  state: LedgerState,
  task: Task,
  plan: string,
  hosts: readonly string[],
  unchanged: readonly string[],
): LedgerState {
  const devices = hosts.map((host): Task => {
    const id = childTaskId(task.id, host);
    const fresh = newChild(state, task, { id, type: 'deploy-device', host });
    return { ...fresh, submittedAtMs: state.tasks[id]?.submittedAtMs ?? fresh.submittedAtMs };
  });
  const planned = new Set(hosts);
  const left = childrenOf(state, task).filter(
    (child) => isOpen(child) && (child.host === null || !planned.has(child.host)),
  );
  const closed = left.map((child) => {
    const same = child.host !== null && unchanged.includes(child.host);
    return ended(
      state,
      child,
      same ? 'succeeded' : 'cancelled',
      reason('other', same ? 'nothing to do' : 'not in the plan'),
    );
  });
  return putChildren(state, { ...task, plan, reason: null }, [...closed, ...devices]);
}

/** Stores a plan; the oldest ones whose task has ended leave. */
function putPlan(state: LedgerState, hash: string, plan: PlanRecord): LedgerState {
  const next = putRecord(state, 'plans', hash, plan);
  const entries = Object.entries(next.plans);
  let bytes = entries.reduce((sum, [, each]) => sum + planBytes(each), 0);
  let count = entries.length;
  if (count <= plansKeptMax && bytes <= plansBytesKeptMax) return next;
  const isInUse = (each: PlanRecord) => each === plan || isOpen(state.tasks[each.task] ?? { status: 'failed' });
  const leaving = entries.filter(([, each]) => !isInUse(each));
  leaving.sort(
    ([a, left], [b, right]) => numberOf({ id: left.task }) - numberOf({ id: right.task }) || (a < b ? -1 : 1),
  );
  const gone: string[] = [];
  for (const [old, each] of leaving) {
    if (count <= plansKeptMax && bytes <= plansBytesKeptMax) break;
    gone.push(old);
    count -= 1;
    bytes -= planBytes(each);
  }
  return dropRecords(next, 'plans', gone);
}

function planBytes(plan: PlanRecord): number {
  return 300 + 16 * plan.hosts.length;
}

export const approvalGiven: Handler<'approval-given'> = (state, body, meta) => {
  const task = taskOf(state, body.task);
  const plan = task.plan === null ? undefined : state.plans[task.plan];
  if (plan === undefined) {
    throw refusal(
      'no-plan',
      `there is nothing to ${body.verdict} in task '${task.id}': it has no plan${isOpen(task) ? ' yet' : ''}`,
    );
  }
  if (task.plan !== body.plan) throw stale(task);
  if (task.outcome === 'superseded' || (plan.needsApproval && !plan.approved && plan.revision !== state.head))
    throw stale(task);
  if (plan.approved || plan.rejected || !isOpen(task)) throw alreadyDecided(task, plan);
  checkMayDecide(state, plan, body.verdict, meta.actor);
  const decision = { actor: meta.actor, verdict: body.verdict, reason: body.reason ?? null, atMs: state.timeMs };
  const isApproved = body.verdict === 'approve';
  const decided = { ...plan, approved: isApproved, rejected: !isApproved, approvals: [...plan.approvals, decision] };
  const next = putRecord(state, 'plans', body.plan, decided);
  const because = body.reason === undefined || body.reason === '' ? '' : `: ${body.reason}`;
  if (!isApproved) {
    const why = reason('person', `rejected by ${meta.actor}${because}`);
    return { state: endTask(next, task, 'refused', why), task: task.id };
  }
  const alone = isSamePerson(meta.actor, plan.author) ? ' as its author, nobody else being an approver' : '';
  const noticed = addNotice(next, 'info', task.id, `${meta.actor} approved ${describeTask(task)}${alone}${because}`);
  const ordering: Task = { ...task, stage: 'order', reason: null };
  return { state: settle(putTasks(noticed, ordering), task.id), task: task.id };
};

function stale(task: Task): Error {
  return refusal(
    'plan-stale',
    `the plan of '${task.id}' changed, look again`,
    `See it with \`task ${task.id}\`; after a new commit, deploy again.`,
  );
}

function alreadyDecided(task: Task, plan: PlanRecord): Error {
  const last = plan.approvals.at(-1);
  const by =
    last === undefined ? 'it needs no approval' : `${last.actor} said ${last.verdict === 'approve' ? 'yes' : 'no'}`;
  const actual = plan.approved || plan.rejected ? by : `the task ended as ${task.outcome}`;
  return refusal('already-decided', `the plan of '${task.id}' is decided already: ${actual}`);
}

function checkMayDecide(state: LedgerState, plan: PlanRecord, verdict: 'approve' | 'reject', actor: string): void {
  const approvers = listNames(approversOf(state, plan));
  const hint = approvers === '' ? 'The policy in force has no approver.' : `Ask ${approvers}.`;
  if (!hasRole(state, actor, 'approver')) {
    throw refusal('role-missing', `'${actor}' may not ${verdict} plans: the role 'approver' is missing`, hint);
  }
  if (verdict === 'approve' && !mayApprove(state, plan, actor)) {
    throw refusal('author-may-not-approve', `'${actor}' may not approve an own plan: another approver exists`, hint);
  }
}

/** Goes back to a closure that the host ran with success: it was approved then, so a role is enough now. */
export const rollbackRequested: Handler<'rollback-requested'> = (state, body, meta) => {
  const { host, closure } = body;
  deviceMember(membersByName(state), host);
  checkMayRollBack(state, host, meta);
  const device = state.devices[host];
  const ran = device?.ran.find((each) => each.closure === closure && each.manifest === body.manifest);
  if (ran === undefined) throw refusal('closure-unknown', `'${host}' never ran '${closure}' with success`);
  if (device?.running === closure) throw refusal('nothing-to-do', `'${host}' runs '${closure}' already`);
  const running = Object.values(state.tasks).find(
    (task) => task.type === 'rollback' && isOpen(task) && task.hosts.includes(host),
  );
  if (running !== undefined)
    throw refusal('rollback-running', `'${host}' is being rolled back already: task '${running.id}'`);
  checkPlanIsNew(state, body.plan);
  const { revision } = ran;
  const started = startTask(state, meta, {
    type: 'rollback',
    revision,
    hosts: [host],
    plan: body.plan,
    stage: 'order',
  });
  const task = taskOf(started.state, started.task);
  const plan: PlanRecord = {
    task: task.id,
    attempt: 1,
    revision,
    author: meta.actor,
    hosts: [host],
    changesPolicy: false,
    needsApproval: false,
    approved: true,
    rejected: false,
    approvals: [],
  };
  const child = newChild(started.state, task, { id: childTaskId(task.id, host), type: 'deploy-device', host });
  const next = putPlan(
    putChildren(started.state, task, [{ ...child, closure, manifest: body.manifest }]),
    body.plan,
    plan,
  );
  return { state: next, task: task.id };
};

/** Deployers, approvers, and root at the device itself. */
function checkMayRollBack(state: LedgerState, host: string, { actor }: EntryMeta): void {
  if (hasRole(state, actor, 'deployer') || hasRole(state, actor, 'approver')) return;
  if (actor === `root@${host}` && memberNamed(state, host) !== undefined) return;
  throw refusal('role-missing', `'${actor}' may not roll '${host}' back: the role 'deployer' or 'approver' is missing`);
}

/** The first policy is root's own; later ones come with a deploy of their commit that was approved and completed. */
export const policyAdopted: Handler<'policy-adopted'> = (state, body) => {
  if (state.policy?.revision === body.revision) return { state };
  if (state.policy !== null && !wasDeployed(state, body.revision)) {
    throw refusal(
      'policy-not-deployed',
      `the policy of ${body.revision} is not in force: no approved deploy of it completed`,
    );
  }
  const operators = listNames(Object.keys(body.operators).sort()) || 'nobody';
  const text = `the policy of ${body.revision.slice(0, 7)} is in force; operators: ${operators}`;
  return { state: addNotice({ ...state, policy: body }, 'info', null, text) };
};

function wasDeployed(state: LedgerState, revision: string): boolean {
  return Object.values(state.plans).some(
    (plan) => plan.approved && plan.revision === revision && state.tasks[plan.task]?.status === 'completed',
  );
}
