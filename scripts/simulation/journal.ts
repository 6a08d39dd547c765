// Owns the simulated journal: a device's reports in its database, one synced write each together with what goes alongside,
// and their exchange. It stands in for the journal room, whose files and signatures are no part of what is simulated.

import type { KeyValueStore, Mesh, StoreOperation } from '../../node/interfaces.ts';
import type { Journal, PullRequest } from '../../node/journal/index.ts';
import { decode, encode } from '../../protocols/codec.ts';
import {
  firstPrevious,
  journalAnswerSchema,
  journalPageBytesMax,
  journalProtocol,
  journalRequestBytesMax,
  journalRequestSchema,
  type Report,
  type ReportDraft,
  reportBytesMax,
  reportSchema,
  reportsPerPageMax,
} from '../../protocols/journal.ts';

const prefix = 'report/';
const keyOf = (sequence: number): string => `${prefix}${String(sequence).padStart(8, '0')}`;
const incarnation = 1;
const unsigned = new Uint8Array(64);

export type SimulatedJournal = Pick<
  Journal,
  'append' | 'incarnation' | 'lastSequence' | 'read' | 'pull' | 'taskLog' | 'readLogs' | 'onAppended'
> & {
  /** Reads where the journal ends, and answers others from then on. */
  start(): Promise<void>;
};

export function createSimulatedJournal(components: {
  readonly self: string;
  readonly store: KeyValueStore;
  readonly mesh: Pick<Mesh, 'handle' | 'open'>;
  readonly nowMs: () => number;
}): SimulatedJournal {
  const { self, store, mesh, nowMs } = components;
  const listeners = new Set<(report: Report) => void>();
  let last = 0;
  let turn: Promise<unknown> = Promise.resolve();

  async function read(from: number, limit: number): Promise<Report[]> {
    const pairs = await store.range({ gte: keyOf(from), lt: `${prefix}~`, limit });
    return pairs.map(([key, bytes]) => decode(reportSchema, bytes, reportBytesMax, key));
  }

  async function write(draft: ReportDraft, alongside: readonly StoreOperation[]): Promise<Report> {
    const header = {
      version: 1,
      peer: self,
      incarnation,
      sequence: last + 1,
      timeMs: nowMs(),
      previous: firstPrevious,
    };
    const report = { ...header, ...draft, signature: unsigned } as Report;
    const operation = { type: 'put', key: keyOf(report.sequence), value: encode(report) } as const;
    await store.batch([...alongside, operation], { sync: true });
    last = report.sequence;
    for (const listener of listeners) listener(report);
    return report;
  }

  return {
    async start() {
      const [newest] = await store.range({ gte: prefix, lt: `${prefix}~`, limit: 1, reverse: true });
      last = newest === undefined ? 0 : Number(newest[0].slice(prefix.length));
      mesh.handle(journalProtocol, async (stream) => {
        const bytes = (await stream.receive()) ?? new Uint8Array();
        const { from } = decode(journalRequestSchema, bytes, journalRequestBytesMax, 'journal request');
        const reports = await read(Math.max(1, from), reportsPerPageMax);
        await stream.send(encode({ kind: 'page', incarnation, lastSequence: last, reports }));
        await stream.close();
      });
    },
    incarnation: () => incarnation,
    lastSequence: () => last,
    append(draft, alongside = []) {
      const done = turn.then(() => write(draft, alongside));
      turn = done.catch(() => undefined);
      return done;
    },
    onAppended(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    read,
    async pull({ peer, from, signal }: PullRequest) {
      const stream = await mesh.open(peer, journalProtocol, { signal });
      try {
        await stream.send(encode({ version: 1, incarnation, from }));
        const bytes = (await stream.receive({ signal })) ?? new Uint8Array();
        const answer = decode(journalAnswerSchema, bytes, journalPageBytesMax, 'journal page');
        return answer.kind === 'page' ? [...answer.reports] : [];
      } finally {
        stream.abort(new Error('the page is here'));
      }
    },
    taskLog: () => ({ append: () => undefined, end: () => undefined }),
    async *readLogs() {},
  };
}
