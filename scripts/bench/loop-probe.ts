// Owns a probe of this process's event loop: how late a timer of one millisecond comes at worst, and how much of the delay the
// loop itself computed. The rest is the machine's: other programs had the processor.

const periodMs = 1;

export interface Stall {
  /** The longest time that the event loop stood still. */
  readonly stallMs: number;
  /** The longest processor time that it spent between two looks at its timers. */
  readonly heldMs: number;
}

/** Starts probing, until the signal ends it; the returned function gives the worst since it was called last. */
export function probeLoop(signal?: AbortSignal): () => Stall {
  let stallMs = 0;
  let heldMs = 0;
  let atMs = performance.now();
  let usage = process.threadCpuUsage();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const { user, system } = process.threadCpuUsage(usage);
    stallMs = Math.max(stallMs, nowMs - atMs - periodMs);
    heldMs = Math.max(heldMs, (user + system) / 1_000);
    atMs = nowMs;
    usage = process.threadCpuUsage();
  }, periodMs);
  signal?.addEventListener('abort', () => clearInterval(timer), { once: true });
  return () => {
    const worst = { stallMs, heldMs };
    stallMs = 0;
    heldMs = 0;
    return worst;
  };
}
