// Owns this peer's own reports on disk: append with a synced batch, then the marker file, one after the other; forget what
// the ledger has; start a new incarnation when the disk turns out to be behind what was told.

import { mkdir, open, readFile } from 'node:fs/promises';
import path from 'node:path';
import * as codec from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import {
  journalHeadSchema,
  type Report,
  type ReportDraft,
  reportBytesMax,
  reportSchema,
  reportSigningBytes,
  reportsKeptMax,
  type UnsignedReport,
} from '../../protocols/journal.ts';
import type { Clock, KeyValueStore, Logger, StoreOperation } from '../interfaces.ts';
import { endOf, numberedKey } from '../keys.ts';
import { emptyHead, type Head, headOf, isAhead, type StoredHead, startingHead } from './chain-core.ts';

const headKey = 'journal/head';
const reportsPrefix = 'report/';
const headBytesMax = 1024;
/** Reports deleted in one batch. */
const pruneAtOnce = 1_024;

export interface ReportsInit {
  readonly self: string;
  readonly markerFile: string;
}

export interface ReportsComponents {
  readonly store: KeyValueStore;
  readonly identity: { sign(bytes: Uint8Array): Uint8Array };
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface Reports {
  start(): Promise<void>;
  head(): Head;
  append(draft: ReportDraft, alongside: readonly StoreOperation[]): Promise<Report>;
  read(from: number, limit: number): Promise<Report[]>;
  acknowledge(known: Pick<Head, 'incarnation' | 'sequence'>): Promise<void>;
}

export function createReports(init: ReportsInit, components: ReportsComponents): Reports {
  const { store, logger } = components;
  let current: Head | undefined;
  let knownBeforeStart: Pick<Head, 'incarnation' | 'sequence'> | undefined;
  let last: Promise<unknown> = Promise.resolve();

  const head = () => {
    if (current === undefined) throw new ParleyError('not-started', 'the journal has not been started');
    return current;
  };

  /** One change at a time: each needs the head that the one before it left. */
  function inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = last.then(change);
    last = result.catch(() => undefined);
    return result;
  }

  async function read(from: number, limit: number): Promise<Report[]> {
    const pairs = await store.range({ gte: reportKey(from), lt: endOf(reportsPrefix), limit });
    return pairs.map(([key, value]) => codec.decode(reportSchema, value, reportBytesMax, key));
  }

  async function start(): Promise<void> {
    const stored = await readStored();
    const marker = await readMarker(init.markerFile);
    const { head: starting, renewed } = startingHead(stored, marker);
    if (renewed) await renew(starting);
    await writeMarker(init.markerFile, starting);
    current = starting;
    if (knownBeforeStart !== undefined) await compare(knownBeforeStart);
  }

  /** What the database says, and whether its last report bears it out. */
  async function readStored(): Promise<StoredHead | undefined> {
    const bytes = await store.get(headKey);
    if (bytes === undefined) return undefined;
    let stored: Head = emptyHead(0);
    try {
      stored = codec.decode(journalHeadSchema, bytes, headBytesMax, headKey);
      if (stored.sequence === 0) return { head: stored, isWhole: true };
      const [report] = await read(stored.sequence, 1);
      return { head: stored, isWhole: report !== undefined && headOf(report).hash === stored.hash };
    } catch (error) {
      if (!(error instanceof ParleyError) || error.code !== 'malformed') throw error;
      return { head: stored, isWhole: false };
    }
  }

  /** Forgets what the ledger has; begins anew when it has more than there is here. */
  async function compare(known: Pick<Head, 'incarnation' | 'sequence'>): Promise<void> {
    const own = head();
    if (isAhead(known, own)) {
      const fresh = emptyHead(known.incarnation + 1);
      await renew(fresh);
      current = fresh;
      await writeMarker(init.markerFile, fresh);
    } else if (known.incarnation === own.incarnation) {
      await prune(known.sequence);
    }
  }

  /** Forgets all reports and begins an incarnation. */
  async function renew(fresh: Head): Promise<void> {
    logger.warn({ incarnation: fresh.incarnation }, 'the journal is behind what it told: it starts a new incarnation');
    await prune(Number.MAX_SAFE_INTEGER);
    await store.batch([putHead(fresh)], { sync: true });
  }

  async function prune(below: number): Promise<void> {
    for (;;) {
      const pairs = await store.range({ gte: reportsPrefix, lt: reportKey(below), limit: pruneAtOnce });
      if (pairs.length === 0) return;
      await store.batch(
        pairs.map(([key]) => ({ type: 'del', key })),
        { sync: false },
      );
    }
  }

  async function appendNext(draft: ReportDraft, alongside: readonly StoreOperation[]): Promise<Report> {
    const before = head();
    const unsigned = {
      version: 1,
      peer: init.self,
      incarnation: before.incarnation,
      sequence: before.sequence + 1,
      previous: before.hash,
      timeMs: components.clock.nowMs(),
      ...draft,
    } as UnsignedReport;
    const signature = components.identity.sign(reportSigningBytes(unsigned));
    const report = codec.check(reportSchema, { ...unsigned, signature }, `report '${draft.kind}'`);
    const next = headOf(report);
    const operations: StoreOperation[] = [
      { type: 'put', key: reportKey(report.sequence), value: codec.encode(report) },
      putHead(next),
      ...alongside,
    ];
    if (report.sequence > reportsKeptMax)
      operations.push({ type: 'del', key: reportKey(report.sequence - reportsKeptMax) });
    await store.batch(operations, { sync: true });
    current = next;
    await writeMarker(init.markerFile, next);
    return report;
  }

  return {
    start: () => inTurn(start),
    head,
    read,
    append: (draft, alongside) => inTurn(() => appendNext(draft, alongside)),
    acknowledge: (known) =>
      inTurn(async () => {
        if (current === undefined) knownBeforeStart = known;
        else await compare(known);
      }),
  };
}

function reportKey(sequence: number): string {
  return numberedKey(reportsPrefix, sequence);
}

function putHead(head: Head): StoreOperation {
  return { type: 'put', key: headKey, value: codec.encode({ ...head }) };
}

/** A marker that cannot be read is as good as none: the ledger's own knowledge is the second line. */
async function readMarker(file: string): Promise<Head | undefined> {
  try {
    return codec.decode(journalHeadSchema, await readFile(file), headBytesMax, file);
  } catch {
    return undefined;
  }
}

/** In place: a torn marker reads as none, and the database then counts. */
async function writeMarker(file: string, head: Head): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const handle = await open(file, 'w', 0o600);
  try {
    await handle.writeFile(codec.encode({ ...head }));
    await handle.sync();
  } finally {
    await handle.close();
  }
}
