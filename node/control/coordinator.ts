// Owns the controller's work as a process: while this peer leads it starts what the pure core says is due, each piece once,
// within bounds, and stops all of it when leadership is lost. Nothing here survives a restart, and nothing needs to.

import { ParleyError } from '../../protocols/errors.ts';
import { isOpen } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Reason } from '../../protocols/ledger-state.ts';
import { clipText } from '../../protocols/primitives.ts';
import type { Catalogue } from './catalogue.ts';
import type { ControlComponents } from './control-types.ts';
import { type Action, decide } from './coordinator-core.ts';
import { build, evaluate, updateInputs } from './jobs/build-jobs.ts';
import type { JobContext } from './jobs/job-context.ts';
import { adoptFirstPolicy, carryOutCommit, changeVoters, planDeploy } from './jobs/ledger-jobs.ts';
import type { Presence } from './presence.ts';
import type { JobProgress } from './views-core.ts';
import { lackingOf, type VoterFacts } from './voters-core.ts';

/** Pieces of work at once, by kind: evaluating takes a core and memory; two builds keep two cores busy. */
const parallelMax: Readonly<Record<Action['kind'], number>> = {
  propose: 32,
  'read-evaluation': 4,
  'read-plan': 4,
  'carry-out-commit': 1,
  'update-inputs': 1,
  'adopt-first-policy': 1,
  evaluate: 1,
  build: 2,
  'make-plan': 2,
  'change-voters': 1,
};
/** Waits after a failure that may pass: doubled each time. */
const retryMsMin = 500;
const retryMsMax = 30_000;
/** Work that ended well and is due all the same is not done again sooner. */
const repeatMs = 1_000;
/** Codes that speak of peers by their ids and addresses. */
const connectionCodes: readonly string[] = ['peer-unreachable', 'stream-closed', 'builder-silent'];
/** Learners catch up and peers fall silent without an entry: look again this often. */
const lookPeriodMs = 2_000;

export interface CoordinatorComponents extends ControlComponents {
  readonly presence: Pick<Presence, 'of' | 'onChange'>;
  readonly catalogue: Catalogue;
}

export interface Coordinator {
  /** What the work for a task waits for; undefined while it does not wait, and on peers that do not lead. */
  waits(task: string): Reason | undefined;
  progress(task: string): JobProgress | undefined;
  onChange(listener: () => void): () => void;
  start(): void;
  stop(): Promise<void>;
}

interface Running {
  readonly action: Action;
  readonly abort: AbortController;
  readonly ended: Promise<void>;
}

interface Failure {
  readonly count: number;
  readonly retryAtMs: number;
  readonly task: string | undefined;
  readonly reason: Reason;
}

/** One time of leading: what runs and what failed in it. */
interface Reign {
  readonly running: Map<string, Running>;
  readonly failures: Map<string, Failure>;
  /** When work ended well that is still due: its effect is on the way, or it had none. */
  readonly doneAtMs: Map<string, number>;
  readonly progress: Map<string, JobProgress>;
}

export function createCoordinator(components: CoordinatorComponents): Coordinator {
  const { ledger, leadership, presence, catalogue, clock, journal } = components;
  const logger = components.logger.child({ part: 'coordinator' });
  const listeners = new Set<() => void>();
  const withoutPolicy = new Set<string>();
  const openLogs = new Set<string>();
  let reign: Reign | undefined;
  let stops: (() => void)[] = [];
  let cancelRetry: (() => void) | undefined;
  let isWoken = false;
  let isStopped = true;

  function wake(): void {
    if (isWoken || isStopped) return;
    isWoken = true;
    queueMicrotask(() => {
      isWoken = false;
      if (!isStopped) reconcile();
    });
  }

  function changed(): void {
    for (const listener of listeners) listener();
  }

  function reconcile(): void {
    if (!leadership.leads()) {
      if (reign !== undefined) endReign('leadership was lost');
      return;
    }
    reign ??= { running: new Map(), failures: new Map(), doneAtMs: new Map(), progress: new Map() };
    const state = ledger.state();
    const due = decide(state, {
      evaluations: catalogue.evaluations,
      plans: catalogue.plans,
      isOnline,
      withoutPolicy,
      checkpoint: ledger.checkpointDue(),
      voters: voterFacts(state),
    });
    dropWhatIsNotDue(reign, new Set(due.map((action) => action.key)));
    for (const action of due) startWhereDue(reign, action);
    endLogs();
    wakeForRetry(reign);
  }

  function wakeForRetry(current: Reign): void {
    cancelRetry?.();
    const now = clock.monotonicMs();
    const waiting = [...current.failures.values()]
      .map((failure) => failure.retryAtMs - now)
      .filter((waitMs) => waitMs > 0);
    cancelRetry = waiting.length === 0 ? undefined : clock.after(Math.min(...waiting), wake);
  }

  function voterFacts(state: LedgerState): VoterFacts | null {
    const facts = components.voters?.facts();
    return facts === undefined ? null : { ...facts, lacking: (peer) => lackingOf(presence.of(peer), state) };
  }

  function isOnline(peer: string): boolean {
    return presence.of(peer).online;
  }

  /** Ends jobs whose task was aborted or has ended, and forgets what is settled. */
  function dropWhatIsNotDue(current: Reign, due: ReadonlySet<string>): void {
    for (const [key, running] of current.running) {
      const isJob = running.action.kind !== 'propose';
      if (isJob && !due.has(key)) running.abort.abort(new ParleyError('cancelled', 'the work is not due any more'));
    }
    for (const key of current.failures.keys()) if (!due.has(key)) current.failures.delete(key);
    for (const key of current.doneAtMs.keys()) if (!due.has(key)) current.doneAtMs.delete(key);
  }

  function startWhereDue(current: Reign, action: Action): void {
    if (current.running.has(action.key)) return;
    const failure = current.failures.get(action.key);
    if (failure !== undefined && clock.monotonicMs() < failure.retryAtMs) return;
    if (clock.monotonicMs() < (current.doneAtMs.get(action.key) ?? Number.NEGATIVE_INFINITY) + repeatMs) return;
    const same = [...current.running.values()].filter((running) => running.action.kind === action.kind);
    if (same.length >= parallelMax[action.kind]) return;
    if (action.kind === 'build' && same.some(({ action: other }) => isSameBuild(other, action))) return;
    const abort = new AbortController();
    // The work must not run before it is in the table that keeps it from being started twice.
    const reported = new Set<string>();
    const ended = Promise.resolve()
      .then(() => carryOut(action, contextOf(current, abort.signal, reported)))
      .then(
        () => {
          current.failures.delete(action.key);
          current.doneAtMs.set(action.key, clock.monotonicMs());
        },
        (error: unknown) => onFailure(current, action, abort.signal, error),
      )
      .then(() => {
        current.running.delete(action.key);
        for (const task of reported) current.progress.delete(task);
        changed();
        wake();
      });
    current.running.set(action.key, { action, abort, ended });
  }

  function contextOf(current: Reign, signal: AbortSignal, reported: Set<string>): JobContext {
    return {
      components,
      catalogue,
      isOnline,
      signal,
      report(task, progress) {
        reported.add(task);
        current.progress.set(task, progress);
        changed();
      },
      log(task, level, text) {
        openLogs.add(task);
        journal.taskLog(task).append([{ stream: 'parley', level, text }]);
      },
      noPolicy: (revision) => withoutPolicy.add(revision),
    };
  }

  async function carryOut(action: Action, context: JobContext): Promise<void> {
    switch (action.kind) {
      case 'propose':
        await ledger.propose(action.draft, { signal: context.signal });
        return;
      case 'read-evaluation':
        await catalogue.readEvaluation(action.hash, context.signal);
        return;
      case 'read-plan':
        await catalogue.readPlan(action.hash, context.signal);
        return;
      case 'carry-out-commit':
        return carryOutCommit(action.task, context);
      case 'update-inputs':
        return updateInputs(action.task, context);
      case 'adopt-first-policy':
        return adoptFirstPolicy(action.revision, context);
      case 'evaluate':
        return evaluate(action.task, context);
      case 'build':
        return build(action.task, action.build, context);
      case 'make-plan':
        return planDeploy(action.task, action.evaluation, context);
      case 'change-voters':
        return changeVoters(action.change, context);
    }
  }

  async function onFailure(current: Reign, action: Action, signal: AbortSignal, error: unknown): Promise<void> {
    if (signal.aborted || reign !== current) return;
    const failed = error instanceof ParleyError ? error : new ParleyError('internal', String(error), { cause: error });
    const task = 'task' in action ? action.task : undefined;
    logger.warn({ work: action.key, code: failed.code, error: failed.message }, 'work failed');
    if (failed.code === 'internal') logger.error({ error }, 'work broke');
    if (action.kind === 'adopt-first-policy' && !failed.retryable) withoutPolicy.add(action.revision);
    const count = (current.failures.get(action.key)?.count ?? 0) + 1;
    const delayMs = Math.min(retryMsMax, retryMsMin * 2 ** (count - 1));
    const reason = reasonOf(failed);
    current.failures.set(action.key, { count, retryAtMs: clock.monotonicMs() + delayMs, task: task?.id, reason });
    if (task === undefined || failed.retryable) return;
    const text = failed.hint === undefined ? failed.message : `${failed.message}. ${failed.hint}`;
    const body = {
      task: task.id,
      attempt: task.attempt,
      outcome: 'failed' as const,
      reason: clipText(text),
    };
    await ledger
      .propose({ kind: 'task-finished', actor: 'controller', body }, { signal })
      .catch((refused: unknown) =>
        logger.warn({ task: task.id, error: String(refused) }, 'a failed task was not ended'),
      );
  }

  function endReign(why: string): void {
    const ending = reign;
    reign = undefined;
    for (const { abort } of ending?.running.values() ?? []) {
      abort.abort(new ParleyError('not-controller', why, { retryable: true }));
    }
    changed();
  }

  /** Whoever follows the log of a task that has ended need not wait for more. */
  function endLogs(): void {
    const { tasks } = ledger.state();
    for (const id of openLogs) {
      const task = tasks[id];
      if (task !== undefined && isOpen(task)) continue;
      journal.taskLog(id).end();
      openLogs.delete(id);
    }
  }

  return {
    waits(task) {
      for (const [key, failure] of reign?.failures ?? []) {
        // Work that is being tried again does not wait.
        if (failure.task === task && !reign?.running.has(key)) return failure.reason;
      }
      return undefined;
    },
    progress: (task) => reign?.progress.get(task),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    start() {
      if (!isStopped) return;
      isStopped = false;
      stops = [
        ledger.onApplied(wake),
        presence.onChange((_peer, turned) => turned && wake()),
        leadership.onChange(wake),
        components.voters?.onCertified(wake) ?? (() => undefined),
        clock.every(lookPeriodMs, wake),
      ];
      wake();
    },
    async stop() {
      if (isStopped) return;
      isStopped = true;
      for (const stop of stops) stop();
      cancelRetry?.();
      const jobs = [...(reign?.running.values() ?? [])].map((running) => running.ended);
      endReign('the peer is stopping');
      await Promise.all(jobs);
    },
  };
}

/** Why work waits to be tried again, in words that do not need the mesh's. */
function reasonOf(failed: ParleyError): Reason {
  if (failed.code === 'no-builder') return { kind: 'builder', text: failed.message };
  if (!connectionCodes.includes(failed.code)) return { kind: 'other', text: failed.message };
  return { kind: 'builder', text: 'the connection to the peer that does the work was lost; it is tried again' };
}

/** The same derivation for another task: it waits for the first build, whose result the builder then has. */
function isSameBuild(one: Action, other: Action): boolean {
  return one.kind === 'build' && other.kind === 'build' && one.build.drvPath === other.build.drvPath;
}
