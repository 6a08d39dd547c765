// Owns a probe of this process's event loop: how late a timer of one millisecond comes at worst, and how much of the delay was
// the loop's own: it computed, or it waited in a call for the disk or another program. The rest is the machine's: other
// programs had the processor.

import { closeSync, openSync, readSync } from 'node:fs';

const periodMs = 1;
/** Where its thread waits for the processor, helpers do too that it waits for asleep, as the garbage collector's: measured up to 1.6 times as long. */
const waitsPerWait = 3;

export interface Stall {
  /** The longest time that the event loop stood still. */
  readonly stallMs: number;
  /** The longest time between two looks at its timers that the loop itself took. */
  readonly heldMs: number;
}

/** What passed between two looks of an event loop at its timers. */
export interface Gap {
  readonly wallMs: number;
  /** It waited for something to do, or was not woken yet. */
  readonly idleMs: number;
  /** Its thread computed. */
  readonly processorMs: number;
  /** Its thread was ready and others had the processor; undefined where the system does not tell. */
  readonly waitedMs: number | undefined;
}

/** What of a gap the loop itself took. Where nobody tells how long its thread waited for its turn, only what it computed counts. */
export function heldMsOf({ wallMs, idleMs, processorMs, waitedMs }: Gap): number {
  if (waitedMs === undefined) return processorMs;
  // The probe's own timer ends each rest after a period: what was longer was waiting, too.
  const waitedAtRestMs = Math.max(0, idleMs - periodMs);
  const waitedAtWorkMs = Math.max(0, waitedMs - waitedAtRestMs);
  return Math.max(processorMs, wallMs - idleMs - waitsPerWait * waitedAtWorkMs);
}

/** Starts probing, until the signal ends it; the returned function gives the worst since it was called last. */
export function probeLoop(signal?: AbortSignal): () => Stall {
  let worst: Stall = { stallMs: 0, heldMs: 0 };
  const schedule = openSchedule();
  const totals = (): Gap => {
    const { user, system } = process.threadCpuUsage();
    const processorMs = (user + system) / 1_000;
    const { idleTime: idleMs } = performance.nodeTiming;
    return { wallMs: performance.now(), idleMs, processorMs, waitedMs: schedule?.waitedMs() };
  };
  let before = totals();
  const timer = setInterval(() => {
    const now = totals();
    const gap: Gap = {
      wallMs: now.wallMs - before.wallMs,
      idleMs: now.idleMs - before.idleMs,
      processorMs: now.processorMs - before.processorMs,
      waitedMs: now.waitedMs === undefined ? undefined : now.waitedMs - (before.waitedMs ?? 0),
    };
    worst = {
      stallMs: Math.max(worst.stallMs, gap.wallMs - periodMs),
      heldMs: Math.max(worst.heldMs, heldMsOf(gap)),
    };
    before = now;
  }, periodMs);
  const end = (): void => {
    clearInterval(timer);
    schedule?.close();
  };
  signal?.addEventListener('abort', end, { once: true });
  return () => {
    const told = worst;
    worst = { stallMs: 0, heldMs: 0 };
    return told;
  };
}

/** What Linux's scheduler tells of this thread; undefined elsewhere. */
function openSchedule(): { waitedMs(): number; close(): void } | undefined {
  let file: number;
  try {
    file = openSync('/proc/thread-self/schedstat', 'r');
  } catch {
    return undefined;
  }
  const bytes = Buffer.alloc(128);
  return {
    waitedMs() {
      const length = readSync(file, bytes, 0, bytes.byteLength, 0);
      // Nanoseconds on the processor, nanoseconds of waiting for it, turns.
      return Number(bytes.toString('latin1', 0, length).split(' ')[1]) / 1e6;
    },
    close: () => closeSync(file),
  };
}
