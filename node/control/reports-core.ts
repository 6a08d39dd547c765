// Owns which of a device's reports become ledger entries: ends of orders, alarms, and changes of what runs. Steps in between are
// for people who watch, and stay in the journal. Pure.

import type { Report } from '../../protocols/journal.ts';
import type { EntryBody } from '../../protocols/ledger-entries.ts';
import type { Device } from '../../protocols/ledger-state.ts';

/** Where a journal stands. */
export interface JournalPosition {
  readonly incarnation: number;
  readonly sequence: number;
}

export const beginning: JournalPosition = { incarnation: 0, sequence: 0 };

export function isNewer(position: JournalPosition, than: JournalPosition): boolean {
  if (position.incarnation !== than.incarnation) return position.incarnation > than.incarnation;
  return position.sequence > than.sequence;
}

/** The entries that a page of reports amounts to, in order. */
export function reportEntries(
  reports: readonly Report[],
  known: Pick<Device, 'running' | 'booted'> | undefined,
): EntryBody<'device-reported'>[] {
  const entries: EntryBody<'device-reported'>[] = [];
  let told = known;
  for (const [at, report] of reports.entries()) {
    const { peer, incarnation, sequence, running, booted } = report;
    const facts = { peer, incarnation, sequence, running, booted };
    const isLast = at === reports.length - 1;
    const isNews = told === undefined || running !== told.running || booted !== told.booted;
    if (report.kind === 'order-ended') entries.push({ ...facts, ended: report.body });
    else if (report.kind === 'device-alarmed') entries.push({ ...facts, alarm: report.body.text });
    else if (isLast && isNews) entries.push(facts);
    else continue;
    told = { running, booted };
  }
  return entries;
}
