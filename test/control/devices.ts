// Owns the devices of the fleet in one process: each order is carried out at once, with the outcome that a test chose, and
// reported in the journal of its peer.

import type { Report } from '../../protocols/journal.ts';
import type { Order } from '../../protocols/ledger-state.ts';

export class FakeDevices {
  /** How a host's switch ends; succeeded unless said. */
  readonly outcomes = new Map<string, 'succeeded' | 'degraded' | 'rolled-back'>();
  readonly #journals = new Map<string, Report[]>();

  journalOf(peer: string): readonly Report[] {
    return this.#journals.get(peer) ?? [];
  }

  /** Switches as the order says and reports it. False if the order is cancelled or was carried out before. */
  carryOut(order: Order): boolean {
    const { number, peer, host, closure } = order;
    const reports = this.#journals.get(peer) ?? [];
    const isDone = reports.some((report) => report.kind === 'order-ended' && report.body.order === number);
    if (order.cancelled || isDone) return false;
    const outcome = this.outcomes.get(host) ?? 'succeeded';
    const before = reports.at(-1)?.running ?? null;
    const header = {
      version: 1,
      peer,
      incarnation: 1,
      previous: '0'.repeat(64),
      timeMs: 1,
      booted: null,
      signature: new Uint8Array(64),
    } as const;
    const armed = { order: number, state: 'armed' } as const;
    reports.push({ ...header, sequence: reports.length + 1, running: before, kind: 'order-step', body: armed });
    const reason = outcome === 'succeeded' ? null : `${host} has a failed unit`;
    const ended = { order: number, outcome, reason, failedUnits: [], simulated: false };
    const running = outcome === 'rolled-back' ? before : closure;
    reports.push({ ...header, sequence: reports.length + 1, running, kind: 'order-ended', body: ended });
    this.#journals.set(peer, reports);
    return true;
  }
}
