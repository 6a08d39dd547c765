// Owns the rules of activation, pure: which order may be carried out, what a restart does in each state, what the exit
// status of a switch means, which failed units count.

import { hashOf } from '../../protocols/codec.ts';
import type { SlotRecord, Verdict } from '../../protocols/device-record.ts';
import type { OrderState } from '../../protocols/journal.ts';
import type { LedgerState, Order } from '../../protocols/ledger-state.ts';
import type { Plan } from '../../protocols/plan.ts';
import { clipText } from '../../protocols/primitives.ts';

/** Lines of a program's output that a reason quotes. */
const reasonLines = 6;
const activateScriptFailed = 'Failed to run activate script';
/** Exit statuses of switch-to-configuration (nixpkgs), as far as they have a meaning of their own. */
const exit = { fine: 0, activationFailed: 2, unitsFailed: 4, locked: 11, needsReboot: 100, panicked: 101 } as const;

/** What distinguishes one order from another under the same number. */
export function orderHash(order: Pick<Order, 'peer' | 'host' | 'task' | 'plan' | 'closure' | 'manifest'>): string {
  const { peer, host, task, plan, closure, manifest } = order;
  return hashOf({ peer, host, task, plan, closure, manifest });
}

export type OrderJudgement = 'accept' | 'decline' | 'same' | 'conflict' | 'ignore';

type FloorPlace = Pick<Order, 'generation' | 'number'>;

/** Orders by age: below zero when the first is older. A fleet that went on in a new generation may have used a number before. */
export function compareFloor(order: FloorPlace, other: FloorPlace): number {
  return order.generation - other.generation || order.number - other.number;
}

/**
 * Judges the ledger's newest order for this host against the floor. Orders for another peer of that name, ended ones, older ones
 * and those that no certificate covers yet are ignored. One that was cancelled before this device took it up is declined: only
 * the device can say that it never will.
 */
export function judgeOrder(
  slot: SlotRecord | undefined,
  order: Order | undefined,
  self: string,
  certifiedIndex: number,
): OrderJudgement {
  if (order === undefined || order.peer !== self || order.number > certifiedIndex) return 'ignore';
  const age = slot === undefined ? 1 : compareFloor(order, slot);
  if (age < 0) return 'ignore';
  if (age === 0) return orderHash(order) === slot?.hash ? 'same' : 'conflict';
  if (order.outcome !== null) return 'ignore';
  return order.cancelled ? 'decline' : 'accept';
}

export interface Withdrawal {
  readonly code: 'order-refused' | 'order-cancelled' | 'order-superseded';
  readonly text: string;
}

/** Why an order that was accepted is not to be armed any more; undefined while it is. A ledger that does not reach to the order says nothing. */
export function whyWithdrawn(
  record: SlotRecord,
  { orders, index, generation }: Pick<LedgerState, 'orders' | 'index' | 'generation'>,
  { self, host, frozen }: { readonly self: string; readonly host: string; readonly frozen?: string | undefined },
): Withdrawal | undefined {
  if (frozen !== undefined) return { code: 'order-refused', text: `this peer is frozen and obeys no order: ${frozen}` };
  const order = orders[host];
  const age = order?.peer === self ? compareFloor(order, record) : -1;
  if (order !== undefined && age > 0) {
    return { code: 'order-superseded', text: `order ${order.number} came before this one was armed` };
  }
  if (age === 0) {
    return order?.cancelled ? { code: 'order-cancelled', text: 'cancelled before its point of no return' } : undefined;
  }
  if (generation === record.generation && index < record.number) return undefined;
  const since =
    generation > record.generation ? `generation ${generation} of the fleet` : `the ledger's entry ${index}`;
  return { code: 'order-superseded', text: `${since} knows this order no more` };
}

/** The record of an order that was just accepted. */
export function acceptedSlot(order: Order): SlotRecord {
  const { generation, number, task, plan, closure, manifest } = order;
  return {
    ...{ version: 1, generation, number, hash: orderHash(order), task, plan, closure, manifest },
    ...{ state: 'ordered', saved: null, verdict: null, end: null, reportedIn: 0 },
  };
}

/** Why the plan does not carry the order, or undefined when it does. */
export function planMismatch(slot: SlotRecord, plan: Plan, host: string): string | undefined {
  const row = plan.hosts.find((planned) => planned.host === host);
  if (row === undefined) return `the plan does not name host '${host}'`;
  if (row.closure !== slot.closure) return `the plan has closure '${row.closure}' for '${host}'`;
  if (row.manifest !== slot.manifest) return `the plan has manifest '${row.manifest}' for '${host}'`;
  return undefined;
}

/** True until the order's end was reported. */
export function isOpen(slot: SlotRecord): boolean {
  return slot.state !== 'cleaned';
}

/** True until the order is armed: it may still be cancelled or superseded without a trace. */
export function isBeforeArming(state: OrderState): boolean {
  return ['ordered', 'checked', 'fetched', 'rooted'].includes(state);
}

/** What to do with an order that was interrupted in this state: go on, check again and go on, go back, or finish. */
export function afterInterruption(state: OrderState): 'go-on' | 'check-again' | 'undo' | 'finish' {
  if (isBeforeArming(state)) return 'go-on';
  if (state === 'armed') return 'check-again';
  return state === 'confirmed' || state === 'committed' || state === 'cleaned' ? 'finish' : 'undo';
}

export type SwitchJudgement =
  | { readonly kind: 'active'; readonly reason: string | null }
  | { readonly kind: 'needs-reboot' | 'locked' | 'undo'; readonly reason: string };

/** What the exit status of `switch-to-configuration test` means. A failed unit hides a failed activation: the output tells. */
export function judgeSwitch(exitCode: number, output: string): SwitchJudgement {
  const isActivationFailed = exitCode === exit.activationFailed || output.includes(activateScriptFailed);
  if (isActivationFailed) return { kind: 'undo', reason: reasonOf('its activation failed', exitCode, output) };
  if (exitCode === exit.fine) return { kind: 'active', reason: null };
  if (exitCode === exit.unitsFailed) {
    return { kind: 'active', reason: reasonOf('units failed during the switch', exitCode, output) };
  }
  if (exitCode === exit.locked)
    return { kind: 'locked', reason: reasonOf('another switch is running', exitCode, output) };
  if (exitCode === exit.needsReboot) {
    return { kind: 'needs-reboot', reason: reasonOf('it cannot be switched to without a reboot', exitCode, output) };
  }
  const what = exitCode === exit.panicked ? 'its switch program panicked' : 'its switch failed';
  return { kind: 'undo', reason: reasonOf(what, exitCode, output) };
}

/** True when the rollback's own switch brought the old system back; units that fail again are no reason against it. */
export function isRolledBack(exitCode: number, output: string): boolean {
  return judgeSwitch(exitCode, output).kind === 'active';
}

/** The verdict about a system that is active and has settled. */
export function judgeHealth(before: readonly string[], now: readonly string[], switchReason: string | null): Verdict {
  const failedUnits = now.filter((unit) => !before.includes(unit));
  const isDegraded = failedUnits.length > 0 || switchReason !== null;
  const units = failedUnits.length > 0 ? `failed units: ${failedUnits.join(', ')}` : switchReason;
  return {
    outcome: isDegraded ? 'degraded' : 'succeeded',
    reason: units === null ? null : clipText(units),
    failedUnits: [...failedUnits],
    isUntouched: false,
  };
}

/** Joins parts of a reason, leaving out the empty ones. */
export function joinReasons(...reasons: readonly (string | null)[]): string | null {
  const parts = reasons.filter((reason) => reason !== null && reason !== '');
  return parts.length === 0 ? null : clipText(parts.join('; '));
}

function reasonOf(what: string, exitCode: number, output: string): string {
  const all = output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && line !== activateScriptFailed);
  // "setting up /etc..." says what was begun, not what went wrong.
  const telling = all.filter((line) => !line.endsWith('...'));
  const lines = (telling.length > 0 ? telling : all).slice(-reasonLines);
  return clipText(`${what} (status ${exitCode})${lines.length === 0 ? '' : `: ${lines.join(' | ')}`}`);
}
