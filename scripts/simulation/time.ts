// Owns simulated time: events happen one after the other in the order of their times, each with everything that follows
// from it at once, and no real time passes. A life is one run of a peer's process; its events die and stand still with it.

import type { Clock } from '../../node/interfaces.ts';
import { mix } from './chance.ts';

/** Wall clock at the start of a run: any fixed moment. */
const epochMs = 1_700_000_000_000;

interface Happening {
  readonly atMs: number;
  /** Breaks ties: what was planned first happens first. */
  readonly order: number;
  /** Undefined for what happens outside all peers. */
  readonly owner: Life | undefined;
  readonly label: string;
  readonly run: () => void;
  cancelled: boolean;
}

export class VirtualTime {
  nowMs = 0;
  /** A hash of all that has happened: equal for equal runs. */
  fingerprint = 0;
  happened = 0;
  /** Called with each event as it happens, for people. */
  onEvent: ((line: string) => void) | undefined;
  /** Whose event is being run. */
  current: Life | undefined;
  readonly #heap: Happening[] = [];
  #orders = 0;

  /** Plans an event; the returned function cancels it. */
  schedule(delayMs: number, owner: Life | undefined, label: string, run: () => void): () => void {
    this.#orders += 1;
    const event = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#orders, owner, label, run, cancelled: false };
    push(this.#heap, event);
    return () => {
      event.cancelled = true;
    };
  }

  /** Tells of something that is no event of its own. */
  note(text: string): void {
    this.fingerprint = mix(this.fingerprint, text);
    this.onEvent?.(`${this.nowMs.toFixed(3).padStart(10)} ${text}`);
  }

  /** Lets events happen until a time, or until `isDone` says so after one. */
  run(untilMs: number, isDone: () => boolean = () => false): Promise<void> {
    return withSimulatedSignals(
      this,
      () =>
        new Promise((resolve, reject) => {
          const turn = (): void => {
            try {
              if (isDone() || !this.#happen(untilMs)) resolve();
              // All that follows from an event, promises included, is done before the next turn of Node's loop.
              else setImmediate(turn);
            } catch (error) {
              reject(error);
            }
          };
          setImmediate(turn);
        }),
    );
  }

  /** Lets the next event happen. @returns false when none is due by then. */
  #happen(untilMs: number): boolean {
    for (;;) {
      const event = this.#heap[0];
      if (event === undefined || event.atMs > untilMs) {
        this.nowMs = Math.max(this.nowMs, untilMs);
        return false;
      }
      pop(this.#heap);
      const { owner } = event;
      if (event.cancelled || owner?.isAlive === false) continue;
      this.nowMs = event.atMs;
      if (owner?.isPaused) {
        owner.held.push(() => this.schedule(0, owner, event.label, () => !event.cancelled && event.run()));
        continue;
      }
      this.happened += 1;
      this.note(owner === undefined ? event.label : `${owner.name} ${event.label}`);
      this.current = owner;
      event.run();
      return true;
    }
  }
}

/** One run of a peer's process: from its start to its end or death. */
export class Life {
  readonly name: string;
  /** Seconds of this peer's clock in one true second. */
  readonly rate: number;
  /** By how much its wall clock is wrong. */
  readonly offsetMs: number;
  isAlive = true;
  isPaused = false;
  /** What came due while it was paused. */
  readonly held: (() => void)[] = [];

  constructor(name: string, rate: number, offsetMs: number) {
    this.name = name;
    this.rate = rate;
    this.offsetMs = offsetMs;
  }

  /** Everything that came due meanwhile happens now, in its order. */
  resume(): void {
    this.isPaused = false;
    for (const replan of this.held.splice(0)) replan();
  }
}

/** A peer's clock: it drifts, and its timers are events of its life. */
export function clockOf(time: VirtualTime, life: Life): Clock {
  const localMs = (): number => time.nowMs * life.rate;
  const after = (delayMs: number, call: () => void): (() => void) =>
    time.schedule(delayMs / life.rate, life, 'timer', call);
  return {
    nowMs: () => Math.floor(epochMs + life.offsetMs + localMs()),
    monotonicMs: localMs,
    after,
    every(periodMs, call) {
      let cancel = after(periodMs, fire);
      function fire(): void {
        cancel = after(periodMs, fire);
        call();
      }
      return () => cancel();
    },
  };
}

/**
 * The time limits that rooms set by `AbortSignal.timeout` run on simulated time while the work lasts, and `AbortSignal.any` is
 * one that forgets. Errors come without their stacks then: thousands are thrown on purpose, and stacks take long.
 */
async function withSimulatedSignals(time: VirtualTime, work: () => Promise<void>): Promise<void> {
  const { timeout, any } = AbortSignal;
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  AbortSignal.timeout = (delayMs) => {
    const controller = new AbortController();
    const expire = (): void => controller.abort(new DOMException('the time is over', 'TimeoutError'));
    time.schedule(delayMs, time.current, 'time limit', expire);
    return controller.signal;
  };
  AbortSignal.any = anySignal;
  try {
    await work();
  } finally {
    Object.assign(AbortSignal, { timeout, any });
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** What follows each signal; gone with it. */
const followers = new WeakMap<AbortSignal, Set<AbortController>>();

/** Node keeps a signal of its own `any` that somebody listens to until it is aborted: those of killed peers never are. */
function anySignal(signals: Iterable<AbortSignal>): AbortSignal {
  const controller = new AbortController();
  const sources = [...signals];
  const aborted = sources.find((source) => source.aborted);
  if (aborted !== undefined) controller.abort(aborted.reason);
  else for (const source of sources) followersOf(source).add(controller);
  return controller.signal;
}

function followersOf(source: AbortSignal): Set<AbortController> {
  const known = followers.get(source);
  if (known !== undefined) return known;
  const fresh = new Set<AbortController>();
  followers.set(source, fresh);
  source.addEventListener('abort', () => fresh.forEach((controller) => void controller.abort(source.reason)), {
    once: true,
  });
  return fresh;
}

function isBefore(left: Happening, right: Happening): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order);
}

function push(heap: Happening[], event: Happening): void {
  let at = heap.length;
  heap.push(event);
  while (at > 0) {
    const parentAt = (at - 1) >> 1;
    const parent = heap[parentAt];
    if (parent === undefined || !isBefore(event, parent)) break;
    heap[at] = parent;
    at = parentAt;
  }
  heap[at] = event;
}

function pop(heap: Happening[]): void {
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return;
  let at = 0;
  for (;;) {
    let childAt = 2 * at + 1;
    let child = heap[childAt];
    const right = heap[childAt + 1];
    if (child !== undefined && right !== undefined && isBefore(right, child)) {
      child = right;
      childAt += 1;
    }
    if (child === undefined || !isBefore(child, last)) break;
    heap[at] = child;
    at = childAt;
  }
  heap[at] = last;
}
