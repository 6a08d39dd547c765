// Owns the steps before anything of the running system is touched: is the order what the plan says, is there room and a way
// back, is the closure here and rooted, what must be restored. Until armed, an order can be withdrawn without a trace.

import path from 'node:path';
import { decode } from '../../protocols/codec.ts';
import { confirmersMax, type SavedSystem, type SlotRecord } from '../../protocols/device-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { planBytesMax, planSchema } from '../../protocols/plan.ts';
import { pause } from '../waiting.ts';
import { reachableAfresh } from './confirmation.ts';
import { planMismatch } from './device-core.ts';
import { explain, type Job } from './job.ts';
import { confirmCurrent } from './order-question.ts';

/** Kept free for the store's database, logs and the journal. */
const spaceMarginBytes = 64 * 1024 * 1024;
/** A path lies in the spool and in the store for a moment. */
const copiesAtOnce = 2;
const retryFirstMs = 1_000;
const retryMaxMs = 30_000;

/**
 * Brings an order to the state `armed`.
 * @throws ParleyError `order-refused`, `order-cancelled`, `order-superseded`, or why the closure could not be brought here.
 */
export async function prepareOrder(job: Job, start: SlotRecord): Promise<SlotRecord> {
  const { slot, withdrawn } = job;
  let record = start;
  if (record.state === 'ordered') {
    withdrawn.throwIfAborted();
    await checkOrder(job, record);
    record = await slot.advance(record, 'checked');
  }
  if (record.state === 'checked') {
    await fetchClosure(job, record);
    record = await slot.advance(record, 'fetched');
  }
  if (record.state === 'fetched') {
    await rootSystems(job, record);
    record = await slot.advance(record, 'rooted');
  }
  const saved = await readSaved(job, record);
  await confirmCurrent(job, record);
  withdrawn.throwIfAborted();
  return await slot.advance(record, 'armed', { saved });
}

/** The link that keeps a system from the garbage collector. */
export function rootLink(rootsFolder: string, toplevel: string): string {
  return path.join(rootsFolder, path.basename(toplevel));
}

async function checkOrder(job: Job, record: SlotRecord): Promise<void> {
  const { init, components, withdrawn } = job;
  job.show('ordered', 'checking the order');
  const bytes = await withPatience(job, () => components.ledger.fetchBlob(record.plan, { signal: withdrawn }));
  const mismatch = planMismatch(record, decode(planSchema, bytes, planBytesMax, `plan '${record.plan}'`), init.host);
  if (mismatch !== undefined) throw refused(`order ${record.number} does not follow from its plan: ${mismatch}`);
  await checkWayBack(job);
  await checkSpace(job, 0);
}

async function checkWayBack({ components: { machine } }: Job): Promise<void> {
  const running = await machine.running();
  if (running === null) return;
  try {
    await machine.canRun(running);
  } catch (error) {
    throw refused(`there would be no way back to the running system '${running}': ${explain(error)}`, error);
  }
}

async function checkSpace({ components: { machine } }: Job, missingBytes: number): Promise<void> {
  const needed = missingBytes * copiesAtOnce + spaceMarginBytes;
  const free = await machine.freeBytes();
  if (free >= needed) return;
  throw refused(`not enough space for the closure: ${mebibytes(needed)} MiB needed, ${mebibytes(free)} MiB free`);
}

async function fetchClosure(job: Job, record: SlotRecord): Promise<void> {
  job.show('checked', 'fetching the closure');
  await withPatience(job, async (sawProgress) => {
    const noRoom = new AbortController();
    let lastDone = -1;
    await job.components.closures.fetch(record.manifest, {
      signal: AbortSignal.any([job.withdrawn, noRoom.signal]),
      onProgress({ bytesDone, bytesTotal }) {
        if (lastDone === -1) {
          checkSpace(job, bytesTotal - bytesDone).catch((error: unknown) => noRoom.abort(error));
        } else if (bytesDone > lastDone) sawProgress();
        lastDone = bytesDone;
        job.show('checked', 'fetching the closure', bytesDone, bytesTotal);
      },
    });
  });
}

async function rootSystems(job: Job, record: SlotRecord): Promise<void> {
  const { init, components, withdrawn } = job;
  job.show('fetched', 'taking the closure into the store');
  const link = rootLink(init.rootsFolder, record.closure);
  await withPatience(job, () => components.closures.realise(record.manifest, { rootLink: link, signal: withdrawn }));
  for (const toplevel of [await components.machine.running(), await components.machine.profile()]) {
    if (toplevel !== null) await components.nix.addRoot(rootLink(init.rootsFolder, toplevel), toplevel);
  }
}

async function readSaved(job: Job, record: SlotRecord): Promise<SavedSystem> {
  const { components, init } = job;
  const { machine } = components;
  job.show('rooted', 'saving what runs now');
  await checkWayBack(job);
  await checkSpace(job, 0);
  const { kind, why } = await machine.canRun(record.closure).catch((error: unknown) => {
    throw refused(explain(error), error);
  });
  if (kind === 'simulated') job.log(`nothing of this system will be run: ${why}`);
  const failedUnits = await machine.failedUnits({ signal: job.stopping }).catch((error: unknown) => {
    job.log(`the failed units of before are unknown: ${explain(error)}`, 'warning');
    return [];
  });
  const connected = components.mesh.connectedPeers().map(({ peer }) => peer);
  const candidates = chooseConfirmers(components.ledger.state(), init.self, connected);
  return {
    running: await machine.running(),
    profile: await machine.profile(),
    bootId: await machine.bootId(),
    failedUnits,
    confirmers: await reachableAfresh(components, candidates, job.withdrawn),
    kind,
  };
}

/** Members that are connected now; half of the places are for other sites, whose path to here is the longer one. */
export function chooseConfirmers(state: LedgerState, self: string, connected: readonly string[]): string[] {
  const site = state.members[self]?.site;
  const members = connected.filter((peer) => peer !== self && state.members[peer] !== undefined);
  const elsewhere = members.filter((peer) => state.members[peer]?.site !== site);
  const here = members.filter((peer) => state.members[peer]?.site === site);
  const chosen = [...elsewhere.slice(0, confirmersMax / 2), ...here, ...elsewhere.slice(confirmersMax / 2)];
  return chosen.slice(0, confirmersMax);
}

/** Repeats an attempt that failed for now, until there was no progress for fetchPatienceMs. */
async function withPatience<T>(job: Job, attempt: (sawProgress: () => void) => Promise<T>): Promise<T> {
  const { clock } = job.components;
  let lastProgressMs = clock.monotonicMs();
  let delayMs = retryFirstMs;
  for (;;) {
    try {
      return await attempt(() => {
        lastProgressMs = clock.monotonicMs();
        delayMs = retryFirstMs;
      });
    } catch (error) {
      job.withdrawn.throwIfAborted();
      const isPatient = clock.monotonicMs() - lastProgressMs < job.init.fetchPatienceMs;
      if (!(error instanceof ParleyError) || !error.retryable || !isPatient) throw error;
      job.log(`trying again: ${explain(error)}`, 'warning');
      await pause(clock, delayMs, job.withdrawn);
      delayMs = Math.min(2 * delayMs, retryMaxMs);
    }
  }
}

function refused(reason: string, cause?: unknown): ParleyError {
  return new ParleyError('order-refused', reason, { cause });
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / (1024 * 1024));
}
