// Owns orders and what devices say came of them. A host's target is its newest order; a report ends the order's child once,
// and a later word of the device about a child that was written off puts the truth in its place.

import type { EntryBody } from '../../protocols/ledger-entries.ts';
import { childTaskId, isOpen } from '../../protocols/ledger-rules.ts';
import { type Device, type LedgerState, type Order, ranClosuresMax, type Task } from '../../protocols/ledger-state.ts';
import type { Outcome } from '../../protocols/outcome.ts';
import { addHostNotice, addNotice } from './notices-core.ts';
import {
  childrenOf,
  deviceMember,
  type Handler,
  memberOf,
  membersByName,
  putTasks,
  refusal,
  taskOf,
} from './state-core.ts';
import { putRecord } from './tables-core.ts';
import { ended, reason, settle } from './tasks-core.ts';

type Ended = NonNullable<EntryBody<'device-reported'>['ended']>;

export const orderGiven: Handler<'order-given'> = (state, body, meta) => {
  const { host, closure, manifest } = body;
  const task = taskOf(state, body.task);
  if (!isOpen(task))
    throw refusal('task-ended', `no order for '${host}': task '${task.id}' has ended as ${task.outcome}`);
  if (task.abortedBy !== null) throw refusal('task-aborted', `no order for '${host}': '${task.id}' was aborted`);
  const plan = task.plan === body.plan ? state.plans[body.plan] : undefined;
  if (!plan?.approved) throw refusal('not-approved', `no order for '${host}': its plan is not approved`);
  const member = deviceMember(membersByName(state), host);
  const child = state.tasks[childTaskId(task.id, host)];
  if (child === undefined || !plan.hosts.includes(host)) {
    throw refusal('host-unknown', `no order for '${host}': the plan of '${task.id}' does not name it`);
  }
  if (child.status !== 'pending') {
    throw refusal('already-ordered', `no order for '${host}': '${child.id}' is ${child.outcome ?? child.status}`);
  }
  const order: Order = {
    generation: state.generation,
    number: meta.index,
    peer: member.peer,
    host,
    task: task.id,
    plan: body.plan,
    closure,
    manifest,
    revision: plan.revision,
    givenAtMs: state.timeMs,
    cancelled: false,
    outcome: null,
    reason: null,
  };
  const superseded = supersede(state, state.orders[host]);
  const running: Task = {
    ...child,
    status: 'running',
    startedAtMs: state.timeMs,
    order: meta.index,
    closure,
    manifest,
  };
  const ordered = putTasks(putRecord(superseded, 'orders', host, order), running);
  const parent = taskOf(ordered, task.id);
  const isLast = childrenOf(ordered, parent).every((each) => each.status !== 'pending');
  return { state: isLast ? putTasks(ordered, { ...parent, stage: 'switch' }) : ordered, task: running.id };
};

/** The child of an order that a newer one takes the place of ends. */
function supersede(state: LedgerState, old: Order | undefined): LedgerState {
  const child = old === undefined ? undefined : state.tasks[childTaskId(old.task, old.host)];
  if (old === undefined || child === undefined || child.order !== old.number || !isOpen(child)) return state;
  const last = ended(state, child, 'superseded', reason('newer-order', `${old.host} got a newer order`));
  return settle(putTasks(state, last), child.parent);
}

export const orderCancelled: Handler<'order-cancelled'> = (state, body) => {
  const order = state.orders[body.host];
  if (order === undefined || order.number !== body.order || order.task !== body.task) {
    throw refusal('order-unknown', `order ${body.order} is not the newest of '${body.host}'`);
  }
  if (order.outcome !== null)
    throw refusal('order-ended', `order ${body.order} of '${body.host}' has ended: ${order.outcome}`);
  if (order.cancelled) return { state };
  return { state: putRecord(state, 'orders', body.host, { ...order, cancelled: true }) };
};

export const deviceReported: Handler<'device-reported'> = (state, body) => {
  const { name } = memberOf(state, body.peer);
  const before = state.devices[name];
  checkOrder(before, body, name);
  const lasting = before?.incarnation === body.incarnation ? before.alarm : undefined;
  const alarm = body.alarm ?? lasting;
  const device: Device = {
    incarnation: body.incarnation,
    sequence: body.sequence,
    running: body.running,
    booted: body.booted,
    outcome: before?.outcome ?? null,
    reportedAtMs: state.timeMs,
    ...(alarm === undefined ? {} : { alarm }),
    ran: before?.ran ?? [],
  };
  const isNews = body.alarm !== undefined && body.alarm !== before?.alarm;
  const told = isNews ? addNotice(state, 'failure', null, `${name} accepts no orders any more: ${body.alarm}`) : state;
  const reported = putRecord(told, 'devices', name, device);
  return { state: body.ended === undefined ? reported : endOrder(reported, name, body.ended) };
};

/** Sequence numbers rise within an incarnation, and incarnations rise. */
function checkOrder(before: Device | undefined, body: EntryBody<'device-reported'>, name: string): void {
  if (before === undefined || body.incarnation > before.incarnation) return;
  if (body.incarnation === before.incarnation && body.sequence > before.sequence) return;
  const known = `${before.incarnation}/${before.sequence}`;
  throw refusal('report-stale', `report ${body.incarnation}/${body.sequence} of '${name}' is not newer than ${known}`);
}

function endOrder(state: LedgerState, host: string, report: Ended): LedgerState {
  const child = childOfOrder(state, host, report.order);
  const order = state.orders[host];
  const isNewest = order?.number === report.order;
  let next = state;
  if (order !== undefined && isNewest && isTruth(order.outcome, report.outcome)) {
    const closed = { ...order, outcome: report.outcome, reason: report.reason };
    next = putRecord(next, 'orders', host, closed);
  }
  if (child !== undefined && isTruth(child.outcome, report.outcome)) next = endChild(next, child, host, report);
  else if (!isNewest || next === state) return next;
  return recordOutcome(next, host, report, child, isNewest);
}

/** A device's word counts while nothing else is known, or where its order was only written off. */
function isTruth(known: Outcome | null, reported: Outcome): boolean {
  if (known === null) return true;
  return (known === 'cancelled' || known === 'superseded') && reported !== 'cancelled' && reported !== 'superseded';
}

function childOfOrder(state: LedgerState, host: string, number: number): Task | undefined {
  const order = state.orders[host];
  if (order?.number === number) {
    const child = state.tasks[childTaskId(order.task, host)];
    if (child?.order === number) return child;
  }
  return Object.values(state.tasks).find((task) => task.order === number && task.host === host);
}

function endChild(state: LedgerState, child: Task, host: string, report: Ended): LedgerState {
  const text = report.reason ?? failedUnitsText(report.failedUnits);
  const last: Task = {
    ...ended(state, child, report.outcome, text === null ? null : reason('device', text)),
    failedUnits: report.failedUnits,
    simulated: report.simulated,
  };
  const next = putTasks(state, last);
  const parent = child.parent === null ? undefined : next.tasks[child.parent];
  const calm: readonly Outcome[] = ['succeeded', 'cancelled', 'superseded'];
  const told =
    parent === undefined || calm.includes(report.outcome)
      ? next
      : addHostNotice(next, parent, host, report.outcome, text);
  return settle(told, child.parent);
}

function failedUnitsText(units: readonly string[]): string | null {
  if (units.length === 0) return null;
  return `failed units: ${units.slice(0, 10).join(', ')}${units.length > 10 ? ' and more' : ''}`;
}

/** Remembers how the host's newest order ended, and what it can be rolled back to. */
function recordOutcome(
  state: LedgerState,
  host: string,
  report: Ended,
  child: Task | undefined,
  isNewest: boolean,
): LedgerState {
  const device = state.devices[host];
  const order = isNewest ? state.orders[host] : undefined;
  if (device === undefined) return state;
  const closure = order?.closure ?? child?.closure ?? null;
  const manifest = order?.manifest ?? child?.manifest ?? null;
  const parent = child?.parent == null ? undefined : state.tasks[child.parent];
  const plan = order?.plan ?? parent?.plan ?? null;
  const outcome = isNewest ? report.outcome : device.outcome;
  if (report.outcome !== 'succeeded' || closure === null || manifest === null || plan === null) {
    return putRecord(state, 'devices', host, { ...device, outcome });
  }
  const revision = order?.revision ?? child?.revision ?? null;
  const entry = { closure, manifest, plan, revision, order: report.order, atMs: state.timeMs };
  const older = device.ran.filter((each) => each.closure !== closure);
  const ran = [entry, ...older].slice(0, ranClosuresMax);
  return putRecord(state, 'devices', host, { ...device, outcome, ran });
}
