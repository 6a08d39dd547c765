// Owns what the parts of the activation share while they carry out one order: what they may use, how they say what they do,
// how they wait.

import { ParleyError } from '../../protocols/errors.ts';
import type { OrderState } from '../../protocols/journal.ts';
import type { LogInput } from '../journal/index.ts';
import type { DeviceComponents, DeviceInit } from './device-types.ts';
import type { Slot } from './slot.ts';

export interface Job {
  readonly init: DeviceInit;
  readonly components: DeviceComponents;
  readonly slot: Slot;
  /** Aborts when the peer stops. */
  readonly stopping: AbortSignal;
  /** Aborts with a ParleyError `order-cancelled`, `order-superseded` or `order-refused`; heeded until the order is armed. */
  readonly withdrawn: AbortSignal;
  /** Aborts when a person cancels the order or the peer stops; heeded until `confirmed`, the point of no return. */
  readonly cancelled: AbortSignal;
  /** What beats tell. */
  show(state: OrderState, text: string, bytesDone?: number, bytesTotal?: number): void;
  /** Lines for the task's log. */
  log(text: string, level?: LogInput['level'], stream?: LogInput['stream']): void;
}

/** What a person needs of an error: its message, and the hint where there is one. */
export function explain(error: unknown): string {
  if (error instanceof ParleyError) return error.hint === undefined ? error.message : `${error.message}. ${error.hint}`;
  return error instanceof Error ? error.message : String(error);
}
