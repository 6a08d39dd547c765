// Owns the switch itself: try the armed system, and before `confirmed` go back at whatever goes wrong; from `confirmed` on
// see it through. Going back is judged by what runs afterwards, never by what was meant.

import type { SavedSystem, SlotRecord, Verdict } from '../../protocols/device-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { clipText } from '../../protocols/primitives.ts';
import { pause } from '../waiting.ts';
import { seekConfirmation } from './confirmation.ts';
import { isRolledBack, joinReasons, judgeHealth, judgeSwitch } from './device-core.ts';
import type { SwitchResult } from './device-types.ts';
import { explain, type Job } from './job.ts';

/** Somebody else's switch takes seconds. */
const lockedRetriesMax = 5;
const lockedRetryMs = 2_000;
/** Tries to finish, and to go back, before that counts as failed. */
const triesMax = 3;
const retryMs = 1_000;

/** Carries an armed order to its end: finished or undone. */
export async function switchArmed(job: Job, armed: SlotRecord): Promise<SlotRecord> {
  const saved = savedOf(armed);
  let record = await job.slot.advance(armed, 'testing');
  job.show('testing', 'switching to the new system');
  const tried = await trySystem(job, record, saved);
  if ('outcome' in tried) return await undo(job, record, tried);
  record = await job.slot.advance(record, 'active');

  job.show('active', 'watching the new system');
  const verdict = await observe(job, saved, tried.reason);
  if (verdict.outcome === 'rolled-back' || verdict.outcome === 'cancelled') return await undo(job, record, verdict);
  record = await job.slot.advance(record, 'healthy', { verdict });

  job.show('healthy', 'asking other peers to confirm');
  const confirmation = await confirm(job, record, saved);
  if (job.cancelled.aborted) return await undo(job, record, cancelled(job));
  if ('failure' in confirmation) return await undo(job, record, goBack(confirmation.failure));
  const reason = joinReasons(verdict.reason, confirmation.note);
  record = await job.slot.advance(record, 'confirmed', { verdict: { ...verdict, reason } });
  return await finish(job, record);
}

/** Sees a confirmed order through: profile, boot default, report. Goes back whole when that keeps failing. */
export async function finish(job: Job, confirmed: SlotRecord): Promise<SlotRecord> {
  const saved = savedOf(confirmed);
  job.show('confirmed', 'making it the system to boot');
  if (confirmed.state === 'committed') return await job.slot.end(confirmed, verdictIn(confirmed));
  const failure = await repeatedly(job, () => makePermanent(job, confirmed, saved));
  if (isSuperseded(failure)) {
    return await job.slot.end(confirmed, { ...goBack(explain(failure)), outcome: 'superseded' });
  }
  if (failure !== undefined) {
    return await undo(job, confirmed, goBack(`it could not be made the system to boot: ${explain(failure)}`));
  }
  const record = await job.slot.advance(confirmed, 'committed');
  return await job.slot.end(record, verdictIn(record));
}

/** Goes back to what was saved, and reports with `verdict`'s outcome if that worked. */
export async function undo(job: Job, start: SlotRecord, verdict: Verdict): Promise<SlotRecord> {
  const { machine } = job.components;
  const record = start.state === 'undoing' ? start : await job.slot.advance(start, 'undoing', { verdict });
  const cause = record.verdict ?? verdict;
  const saved = savedOf(record);
  job.show('undoing', 'going back to the system of before');
  job.log(`going back: ${cause.reason ?? 'no reason given'}`, 'warning');
  const running = await machine.running();
  if (running !== null && running !== saved.running && running !== record.closure) {
    const reason = joinReasons(cause.reason, `somebody switched to '${running}' meanwhile: left as it is`);
    return await job.slot.end(record, { ...cause, outcome: 'superseded', reason });
  }
  const failure = await repeatedly(job, () => restore(job, record, saved, cause));
  if (failure !== undefined) {
    const reason = joinReasons(cause.reason, `going back failed: ${explain(failure)}`);
    return await job.slot.end(record, { ...cause, outcome: 'rollback-failed', reason });
  }
  const note = saved.running === null && !cause.isUntouched ? 'there was no system before: none runs now' : null;
  return await job.slot.end(record, { ...cause, reason: joinReasons(cause.reason, note) });
}

/** A verdict that leads back to the old system. */
export function goBack(reason: string): Verdict {
  return { outcome: 'rolled-back', reason: clipText(reason), failedUnits: [], isUntouched: false };
}

/** The first switch to the new system. The answer with an outcome is a verdict that leads back. */
async function trySystem(
  job: Job,
  record: SlotRecord,
  saved: SavedSystem,
): Promise<Verdict | { readonly reason: string | null }> {
  const { machine, clock } = job.components;
  for (let attempt = 1; ; attempt += 1) {
    try {
      const { exitCode, output } = await activate(job, record.closure, saved.kind, job.cancelled);
      const judgement = judgeSwitch(exitCode, output);
      if (judgement.kind === 'locked' && attempt < lockedRetriesMax) {
        await pause(clock, lockedRetryMs, job.cancelled);
        continue;
      }
      if (judgement.kind === 'needs-reboot') return untouched('needs-reboot', judgement.reason);
      if (judgement.kind === 'locked') return untouched('failed', judgement.reason);
      if (judgement.kind === 'undo') return goBack(judgement.reason);
      const running = await machine.running();
      if (running === record.closure) return { reason: judgement.reason };
      return goBack(`its switch ended well, but '${running ?? 'nothing'}' runs`);
    } catch (error) {
      job.stopping.throwIfAborted();
      if (job.cancelled.aborted) return cancelled(job);
      const isRefused = error instanceof ParleyError && error.code === 'containment-unavailable';
      return isRefused ? untouched('refused', explain(error)) : goBack(explain(error));
    }
  }
}

async function observe(job: Job, saved: SavedSystem, switchReason: string | null): Promise<Verdict> {
  const { machine, clock } = job.components;
  if (saved.kind === 'simulated') return judgeHealth([], [], null);
  try {
    await pause(clock, job.init.healthSettleMs, job.cancelled);
    return judgeHealth(saved.failedUnits, await machine.failedUnits({ signal: job.cancelled }), switchReason);
  } catch (error) {
    job.stopping.throwIfAborted();
    if (job.cancelled.aborted) return cancelled(job);
    return goBack(`its health is unknown: ${explain(error)}`);
  }
}

async function confirm(
  job: Job,
  record: SlotRecord,
  saved: SavedSystem,
): Promise<{ readonly failure: string } | { readonly note: string | null }> {
  const { init, components } = job;
  if (saved.confirmers.length === 0) {
    const isAlone = Object.keys(components.ledger.state().members).length <= 1;
    const who = isAlone ? 'this is the only peer of its fleet' : 'no other peer could be reached before the switch';
    return { note: `${who}: health alone was relied on` };
  }
  const result = await seekConfirmation(components, {
    ...{ self: init.self, confirmers: saved.confirmers, order: record.number, closure: record.closure },
    ...{ bootId: await components.machine.bootId(), windowMs: init.confirmWindowMs, signal: job.cancelled },
  }).catch((error: unknown) => {
    job.stopping.throwIfAborted();
    if (job.cancelled.aborted) return { failure: explain(job.cancelled.reason) };
    throw error;
  });
  if ('failure' in result) return result;
  job.log(`confirmed by ${components.ledger.state().members[result.confirmer]?.name ?? result.confirmer}`);
  return { note: null };
}

async function makePermanent(job: Job, record: SlotRecord, saved: SavedSystem): Promise<void> {
  const { machine } = job.components;
  const running = await machine.running();
  if (running !== record.closure) {
    const isRebooted = (await machine.bootId()) !== saved.bootId;
    if (!isRebooted) {
      throw new ParleyError(
        'order-superseded',
        `somebody switched to '${running ?? 'nothing'}' meanwhile: left as it is`,
      );
    }
    const { exitCode, output } = await activate(job, record.closure, saved.kind, job.stopping);
    const judgement = judgeSwitch(exitCode, output);
    if (judgement.kind !== 'active') throw new ParleyError('switch-failed', judgement.reason);
  }
  await setBootDefault(job, record.closure, saved.kind);
}

async function restore(job: Job, record: SlotRecord, saved: SavedSystem, cause: Verdict): Promise<void> {
  const { machine } = job.components;
  const isOld = (await machine.running()) === saved.running;
  const isRebooted = (await machine.bootId()) !== saved.bootId;
  // Nothing was run, or a boot has started the old system afresh: then there is nothing to bring back.
  if (!isOld || !(cause.isUntouched || isRebooted || saved.kind === 'simulated')) await switchBack(job, saved);
  const running = await machine.running();
  if (running !== saved.running) {
    throw new ParleyError('switch-failed', `'${running ?? 'nothing'}' runs instead of '${saved.running ?? 'nothing'}'`);
  }
  if ((await machine.profile()) === saved.profile) return;
  job.log(`undoing the profile's change to '${record.closure}'`, 'warning');
  if (saved.profile === null) await machine.setProfile(null);
  else await setBootDefault(job, saved.profile, (await machine.canRun(saved.profile)).kind);
}

/** The old system's own program brings it back; where nothing of it or of the new one is run, it only becomes the running one. */
async function switchBack({ components: { machine }, stopping, log }: Job, saved: SavedSystem): Promise<void> {
  const kind = saved.running === null ? 'simulated' : (await machine.canRun(saved.running)).kind;
  if (saved.running === null || kind === 'simulated' || saved.kind === 'simulated') {
    await machine.setRunningSimulated(saved.running);
    return;
  }
  const { exitCode, output } = await machine.switchToConfiguration(saved.running, 'test', {
    signal: stopping,
    skipChecks: true,
    onLine: (line, stream) => log(line, 'info', stream),
  });
  if (isRolledBack(exitCode, output)) return;
  throw new ParleyError('switch-failed', judgeSwitch(exitCode, output).reason ?? `status ${exitCode}`);
}

async function activate(
  { components: { machine }, log }: Job,
  toplevel: string,
  kind: SavedSystem['kind'],
  signal: AbortSignal,
): Promise<SwitchResult> {
  if (kind === 'simulated') {
    await machine.setRunningSimulated(toplevel);
    return { exitCode: 0, output: '' };
  }
  const onLine = (line: string, stream: 'stdout' | 'stderr') => log(line, 'info', stream);
  return await machine.switchToConfiguration(toplevel, 'test', { signal, onLine });
}

async function setBootDefault(job: Job, toplevel: string, kind: SavedSystem['kind']): Promise<void> {
  const { machine } = job.components;
  if ((await machine.profile()) !== toplevel) await machine.setProfile(toplevel);
  if (kind === 'simulated') return;
  const onLine = (line: string, stream: 'stdout' | 'stderr') => job.log(line, 'info', stream);
  const { exitCode, output } = await machine.switchToConfiguration(toplevel, 'boot', { signal: job.stopping, onLine });
  if (exitCode !== 0) {
    throw new ParleyError('switch-failed', clipText(`the boot default failed (status ${exitCode}): ${output}`));
  }
}

/** Tries an action a few times. @returns the last failure, or undefined once it worked. */
async function repeatedly(job: Job, action: () => Promise<void>): Promise<unknown> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await action();
      return undefined;
    } catch (error) {
      job.stopping.throwIfAborted();
      if (attempt === triesMax || isSuperseded(error)) return error;
      job.log(`trying again: ${explain(error)}`, 'warning');
      await pause(job.components.clock, retryMs * attempt, job.stopping);
    }
  }
}

/** A person's cancellation before the point of no return leads back like a failure. @throws the signal's reason when the peer stops. */
function cancelled(job: Job): Verdict {
  job.stopping.throwIfAborted();
  return { ...goBack(explain(job.cancelled.reason)), outcome: 'cancelled' };
}

function untouched(outcome: Verdict['outcome'], reason: string): Verdict {
  return { outcome, reason: clipText(reason), failedUnits: [], isUntouched: true };
}

function isSuperseded(error: unknown): boolean {
  return error instanceof ParleyError && error.code === 'order-superseded';
}

function verdictIn(record: SlotRecord): Verdict {
  if (record.verdict !== null) return record.verdict;
  throw new Error(`order ${record.number} is '${record.state}' without a verdict`);
}

function savedOf(record: SlotRecord): SavedSystem {
  if (record.saved !== null) return record.saved;
  throw new Error(`order ${record.number} is '${record.state}' without a saved system`);
}
