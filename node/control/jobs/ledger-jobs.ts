// Owns the jobs that need no builder: make the git commit of an intent, make a plan from what was built, bring the first
// policy into force, follow the ledger with the voters of consensus.

import type { Evaluation } from '../../../protocols/build-job.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import type { LedgerState, Task } from '../../../protocols/ledger-state.ts';
import { narBytesOf } from '../../../protocols/manifest.ts';
import { describePath } from '../closure-changes.ts';
import { builtHosts, failedHosts } from '../coordinator-core.ts';
import { hostsOf, withoutPeer } from '../hosts-core.ts';
import { type BuiltClosure, makePlan, policyOf } from '../rollout-plan.ts';
import type { VoterChange } from '../voters-core.ts';
import { currentState, type JobContext, propose, readManifest, storeRecord } from './job-context.ts';

export async function carryOutCommit(task: Task, context: JobContext): Promise<void> {
  const { project } = context.components;
  if (project === null) throw new ParleyError('no-repository', 'this peer holds no copy of the project');
  if (task.commit === null) throw new Error(`task '${task.id}' has no commit intent`);
  const revision = await project.executeCommit(task.commit, { signal: context.signal });
  const body = { task: task.id, revision };
  await propose(context, { kind: 'commit-recorded', actor: 'controller', body });
}

export async function planDeploy(task: Task, evaluation: Evaluation, context: JobContext): Promise<void> {
  const state = currentState(context);
  const { revision } = evaluation;
  const policy = policyOf(revision, evaluation.parley);
  const built = new Map<string, BuiltClosure>();
  for (const [host, child] of builtHosts(state, task)) {
    built.set(
      host,
      [...built.values()].find((each) => each.closure === child.closure) ?? (await describeBuilt(child, host, context)),
    );
  }
  const hosts = hostsOf(state, evaluation);
  const leftOut = [...failedHosts(state, task), ...withoutPeer(task.selector ?? '', hosts)];
  const { plan, unchanged } = makePlan({ task, revision, built, leftOut, policy, state });
  const hash = await storeRecord(context, plan);
  await context.catalogue.readPlan(hash, context.signal);
  context.log(
    task.id,
    'info',
    `plan ${hash.slice(0, 8)}: ${plan.hosts.length} to switch, ${unchanged.length} unchanged`,
  );
  const { changesPolicy } = plan;
  const planned = plan.hosts.map((row) => row.host);
  const body = { task: task.id, attempt: task.attempt, plan: hash, revision, hosts: planned, unchanged, changesPolicy };
  await propose(context, { kind: 'plan-made', actor: 'controller', body });
}

async function describeBuilt(child: Task, host: string, context: JobContext): Promise<BuiltClosure> {
  const state = currentState(context);
  const { closure, manifest, drvPath } = child;
  if (closure === null || manifest === null) throw new Error(`build '${child.id}' succeeded without a closure`);
  const { paths } = await readManifest(context.components, manifest, context.signal);
  const builder = builderName(state, child.builder);
  const changes = await describePath(host, paths, state, { ...context.components, signal: context.signal });
  const narBytes = narBytesOf({ version: 1, root: closure, key: builder, paths });
  return { drvPath, closure, manifest, builder, pathCount: paths.length, narBytes, ...changes };
}

function builderName(state: LedgerState, peer: string | null): string {
  return (peer === null ? undefined : state.members[peer]?.name) ?? 'unknown';
}

export async function adoptFirstPolicy(revision: string, context: JobContext): Promise<void> {
  const described = await context.catalogue.describe(revision, { signal: context.signal });
  const policy = policyOf(revision, described.parley);
  if (policy === null) return context.noPolicy(revision);
  await propose(context, { kind: 'policy-adopted', actor: 'controller', body: policy });
}

export async function changeVoters(change: VoterChange, context: JobContext): Promise<void> {
  await context.components.voters?.changeVoters(change, { signal: context.signal });
}
