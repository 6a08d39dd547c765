// Owns the device's loop: watches the ledger for orders to this host, carries them out one at a time, and after an
// interruption of any kind (crash, restart, a disk that failed a write) does what the record on disk says.

import path from 'node:path';
import type { SlotRecord, Verdict } from '../../protocols/device-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { childTaskId } from '../../protocols/ledger-rules.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Outcome } from '../../protocols/outcome.ts';
import { clipText } from '../../protocols/primitives.ts';
import { type ProgramRun, programRunText } from '../../protocols/program-run.ts';
import type { LogInput, TaskLog } from '../journal/index.ts';
import { pause } from '../waiting.ts';
import { serveConfirmations } from './confirmation.ts';
import { acceptedSlot, afterInterruption, isBeforeArming, isOpen, judgeOrder, whyWithdrawn } from './device-core.ts';
import type { Device, DeviceActivity, DeviceComponents, DeviceInit } from './device-types.ts';
import { explain, type Job } from './job.ts';
import { serveOrderQuestions } from './order-question.ts';
import { prepareOrder, rootLink } from './preparation.ts';
import { createSlot, type Facts } from './slot.ts';
import { finish, goBack, switchArmed, undo } from './switching.ts';

const recoverFirstMs = 1_000;
const recoverMaxMs = 60_000;
/** Outcomes of orders that ended before they were armed, by the code of the error that ended them. */
const endingOutcomes: Readonly<Record<string, Outcome>> = {
  'order-refused': 'refused',
  'order-cancelled': 'cancelled',
  'order-superseded': 'superseded',
};

/** What a device says of an order that was cancelled before it came. */
const declined: Verdict = {
  ...{ outcome: 'cancelled', reason: 'cancelled before the device took it up' },
  ...{ failedUnits: [], isUntouched: true },
};

/** Creates the device. It acts from `start` on, which also takes up what a crash interrupted. */
export function createDevice(init: DeviceInit): (components: DeviceComponents) => Device {
  return (components) => {
    const { ledger, machine, clock, journal, closures, nix, recorder } = components;
    const logger = components.logger.child({ room: 'device' });
    const listeners = new Set<() => void>();
    let facts: Facts = { running: null, booted: null };
    let activity: DeviceActivity | null = null;
    let stopping = new AbortController();
    let working: Promise<void> | undefined;
    let isWokenAgain = false;
    let unsubscribe: (() => void) | undefined;
    /** The order that is being carried out, while it can still be withdrawn. */
    let inWork:
      | { readonly record: SlotRecord; readonly withdrawn: AbortController; readonly cancelled: AbortController }
      | undefined;
    let isServing = false;
    let isMachineTold = false;

    const slot = createSlot({ ...components, readFacts });

    async function readFacts(): Promise<Facts> {
      const found = { running: await machine.running(), booted: await machine.booted() };
      const isChanged = found.running !== facts.running || found.booted !== facts.booted;
      facts = found;
      if (isChanged) tell();
      return found;
    }

    function tell(): void {
      for (const listener of listeners) listener();
    }

    function setActivity(next: DeviceActivity | null): void {
      activity = next;
      tell();
    }

    /** The log of this host's part of the task. */
    function logOf({ task }: SlotRecord): TaskLog {
      return journal.taskLog(childTaskId(task, init.host));
    }

    function jobFor(record: SlotRecord, { withdrawn, cancelled }: NonNullable<typeof inWork>): Job {
      const taskLog = logOf(record);
      let shown = '';
      return {
        ...{ init, components, slot, stopping: stopping.signal },
        withdrawn: AbortSignal.any([stopping.signal, cancelled.signal, withdrawn.signal]),
        cancelled: AbortSignal.any([stopping.signal, cancelled.signal]),
        show(state, text, bytesDone = 0, bytesTotal = 0) {
          if (text !== shown) taskLog.append([{ stream: 'parley', level: 'info', text }]);
          shown = text;
          setActivity({ order: record.number, state, text, bytesDone, bytesTotal });
        },
        log: (text, level = 'info', stream = 'parley') => taskLog.append([{ stream, level, text }]),
      };
    }

    /** Works until nothing is left to do; called again while it works, it looks once more at the end. */
    function wake(): void {
      isWokenAgain = true;
      working ??= work().finally(() => {
        working = undefined;
        if (isWokenAgain && !stopping.signal.aborted) wake();
      });
    }

    async function work(): Promise<void> {
      let isInterrupted = true;
      let delayMs = recoverFirstMs;
      while (!stopping.signal.aborted) {
        try {
          isWokenAgain = false;
          const record = await nextRecord();
          if (record === undefined) return;
          await carryOut(record, isInterrupted);
          isInterrupted = false;
          delayMs = recoverFirstMs;
        } catch (error) {
          if (stopping.signal.aborted) return;
          isInterrupted = true;
          logger.error({ error }, 'the device was interrupted and goes on from what is on disk');
          await pause(clock, delayMs, stopping.signal).catch(() => undefined);
          delayMs = Math.min(2 * delayMs, recoverMaxMs);
        }
      }
    }

    /** The order that is open, or the next one that may be accepted. */
    async function nextRecord(): Promise<SlotRecord | undefined> {
      if (!isMachineTold) await slot.tellMachine();
      isMachineTold = true;
      const record = await slot.load();
      const order = ledger.state().orders[init.host];
      const judgement = judgeOrder(record, order, init.self, ledger.certification().certifiedIndex());
      if (judgement === 'conflict')
        await alarm(`order ${record?.number} exists twice, as '${record?.hash}' and otherwise`);
      const isAlarmed = await slot.isAlarmed();
      if (record !== undefined && isOpen(record)) return isAlarmed && isBeforeArming(record.state) ? undefined : record;
      if (record !== undefined) await slot.repeatEnd(record);
      if (isAlarmed || init.frozen !== undefined || order === undefined) return undefined;
      if (judgement === 'decline') await slot.end(acceptedSlot(order), declined);
      return judgement === 'accept' ? await slot.accept(order) : undefined;
    }

    async function alarm(text: string): Promise<void> {
      if (await slot.isAlarmed()) return;
      logger.error({ text }, 'two orders under one number: nothing is accepted any more');
      await slot.alarm(text);
    }

    async function carryOut(record: SlotRecord, isInterrupted: boolean): Promise<void> {
      inWork = { record, withdrawn: new AbortController(), cancelled: new AbortController() };
      const job = jobFor(record, inWork);
      try {
        withdrawIfUnwanted(ledger.state());
        const ended = await recorder.recording(
          (program) => logOf(record).append([programLine(program)]),
          () => (isInterrupted ? resume(job, record) : advance(job, record)),
        );
        const { outcome, reason } = ended.end ?? { outcome: 'unknown', reason: null };
        job.log(reason === null ? outcome : `${outcome}: ${reason}`, outcome === 'succeeded' ? 'info' : 'warning');
        await cleanUp(ended);
      } finally {
        inWork = undefined;
        logOf(record).end();
        setActivity(null);
      }
    }

    async function resume(job: Job, record: SlotRecord): Promise<SlotRecord> {
      const rule = afterInterruption(record.state);
      if (rule === 'finish') return await finish(job, record);
      if (rule === 'go-on') return await advance(job, record);
      // Nothing was run yet: everything that was saved is read again.
      if (rule === 'check-again') return await advance(job, await slot.advance(record, 'rooted', { saved: null }));
      const isRebooted = (await machine.bootId()) !== record.saved?.bootId;
      const what = isRebooted ? 'the machine was rebooted' : 'the peer was interrupted';
      return await undo(job, record, goBack(`${what} while the order was '${record.state}'`));
    }

    async function advance(job: Job, record: SlotRecord): Promise<SlotRecord> {
      let armed: SlotRecord;
      try {
        armed = await prepareOrder(job, record);
      } catch (error) {
        stopping.signal.throwIfAborted();
        // The record on disk tells whether arming was written before the error came.
        const current = await slot.load();
        if (current === undefined || !isBeforeArming(current.state)) throw error;
        await closures.release(record.manifest);
        return await slot.end(current, verdictOf(error));
      }
      return await switchArmed(job, armed);
    }

    /** Tells the order in work that it is not to be armed any more; that it is cancelled counts for longer. */
    function withdrawIfUnwanted(state: LedgerState): void {
      if (inWork === undefined) return;
      const { record, withdrawn, cancelled } = inWork;
      const why = whyWithdrawn(record, state, init);
      if (why === undefined) return;
      (why.code === 'order-cancelled' ? cancelled : withdrawn).abort(new ParleyError(why.code, why.text));
    }

    /** Lets go of systems that are neither running, nor to be booted, nor the way back. */
    async function cleanUp(record: SlotRecord): Promise<void> {
      const kept = [await machine.running(), await machine.profile(), record.saved?.running, record.saved?.profile];
      const keptLinks = new Set(
        kept.filter((toplevel) => typeof toplevel === 'string').map((one) => path.basename(one)),
      );
      const links = await nix.rootsIn(init.rootsFolder);
      for (const link of links) if (!keptLinks.has(link)) await nix.removeRoot(rootLink(init.rootsFolder, link));
    }

    return {
      async start() {
        if (unsubscribe !== undefined) return;
        stopping = new AbortController();
        isMachineTold = false;
        await machine.prepare();
        await readFacts();
        if (!isServing) {
          serveConfirmations(init.self, components);
          serveOrderQuestions(components);
        }
        isServing = true;
        const unsubscribeApplied = ledger.onApplied((state) => {
          withdrawIfUnwanted(state);
          wake();
        });
        const unsubscribeCertified = ledger.onCertified(wake);
        unsubscribe = () => {
          unsubscribeApplied();
          unsubscribeCertified();
        };
        wake();
      },
      async stop() {
        unsubscribe?.();
        unsubscribe = undefined;
        stopping.abort(new ParleyError('cancelled', 'the peer stops', { retryable: true }));
        await working;
      },
      activity: () => activity,
      running: () => facts.running,
      booted: () => facts.booted,
      onChange(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    };
  };
}

function programLine(program: ProgramRun): LogInput {
  return { stream: 'parley', level: program.exitCode === 0 ? 'debug' : 'info', text: programRunText(program), program };
}

function verdictOf(error: unknown): Verdict {
  const outcome = (error instanceof ParleyError ? endingOutcomes[error.code] : undefined) ?? 'failed';
  return { outcome, reason: clipText(explain(error)), failedUnits: [], isUntouched: true };
}
