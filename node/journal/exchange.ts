// Owns how reports travel: answering others' pulls from disk, and pulling others' reports page by page, each checked against
// its writer's key and against the last report of that writer that was seen here.

import * as codec from '../../protocols/codec.ts';
import { fromErrorRecord, ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import {
  type JournalAnswer,
  journalAnswerSchema,
  journalHeadSchema,
  journalPageBytesMax,
  journalProtocol,
  journalRequestBytesMax,
  journalRequestSchema,
  type Report,
  reportBytesMax,
  reportsPerPageMax,
} from '../../protocols/journal.ts';
import type { KeyValueStore, Mesh, MessageStream } from '../interfaces.ts';
import { checkReports, type Head, headOf, isAhead, type VerifySignature } from './chain-core.ts';
import type { PullRequest } from './journal-types.ts';
import type { Reports } from './reports.ts';

/** A page stays below its limit also when the next report is one of the longest. */
const pageBytesAim = journalPageBytesMax - 2 * reportBytesMax;
const headBytesMax = 1024;

export interface ExchangeComponents {
  readonly store: KeyValueStore;
  readonly mesh: Pick<Mesh, 'handle' | 'open'>;
  readonly reports: Reports;
  readonly verifySignature: VerifySignature;
}

/** Answers `/parley/journal/1` from now on. */
export function serveReports({ mesh, reports }: Pick<ExchangeComponents, 'mesh' | 'reports'>): void {
  const handler = async (stream: MessageStream) => {
    for (;;) {
      const message = await stream.receive();
      if (message === undefined) break;
      await stream.send(codec.encode(await answer(message)));
    }
    await stream.close();
  };
  mesh.handle(journalProtocol, handler, { messageBytesMax: journalPageBytesMax });

  async function answer(message: Uint8Array): Promise<JournalAnswer> {
    try {
      const request = codec.decode(journalRequestSchema, message, journalRequestBytesMax, 'journal request');
      const head = reports.head();
      const from = request.incarnation === head.incarnation ? Math.max(1, request.from) : 1;
      const page: Report[] = [];
      let bytes = 0;
      for (const report of await reports.read(from, reportsPerPageMax)) {
        bytes += codec.encode(report).byteLength;
        // What is on disk beyond the head belongs to an append that has not resolved.
        if (report.sequence > head.sequence || bytes > pageBytesAim) break;
        page.push(report);
      }
      return { kind: 'page', incarnation: head.incarnation, lastSequence: head.sequence, reports: page };
    } catch (error) {
      return { kind: 'error', error: toErrorRecord(error) };
    }
  }
}

/** Pulls one page; see Journal.pull. */
export async function pullReports(
  { store, mesh, verifySignature }: Omit<ExchangeComponents, 'reports'>,
  request: PullRequest,
): Promise<Report[]> {
  const { peer, incarnation, signal } = request;
  const from = Math.max(1, request.from);
  const seen = await readSeen(store, peer);
  // One report that is known already, where there is one, shows whether the peer still tells the same story.
  const isLinked = seen?.incarnation === incarnation && seen.sequence === from - 1;
  const page = await requestPage(mesh, peer, { incarnation, from: isLinked ? from - 1 : from }, signal);
  const told = { incarnation: page.incarnation, sequence: page.lastSequence };
  if (isAhead({ incarnation, sequence: from - 1 }, told) || (seen !== undefined && isAhead(seen, told))) {
    throw new ParleyError(
      'journal-behind',
      `peer '${peer}' says that its journal ends at ${told.incarnation}/${told.sequence}: more is known of it here`,
      {
        hint: 'Its disk was restored; it starts a new incarnation as soon as it has seen the ledger.',
        retryable: true,
      },
    );
  }
  checkReports(page.reports, { peer, incarnation: page.incarnation, seen, verifySignature });
  const newest = page.reports.at(-1);
  if (newest !== undefined && (seen === undefined || isAhead(headOf(newest), seen))) {
    await store.batch([{ type: 'put', key: seenKey(peer), value: codec.encode({ ...headOf(newest) }) }], {
      sync: false,
    });
  }
  return page.reports.filter((report) => report.incarnation !== incarnation || report.sequence >= from);
}

async function requestPage(
  mesh: Pick<Mesh, 'open'>,
  peer: string,
  request: { readonly incarnation: number; readonly from: number },
  signal: AbortSignal,
): Promise<Extract<JournalAnswer, { kind: 'page' }>> {
  const stream = await mesh.open(peer, journalProtocol, { signal });
  try {
    await stream.send(codec.encode({ version: 1, ...request }));
    const message = await stream.receive({ signal });
    if (message === undefined) throw noAnswer(peer);
    const answer = codec.decode(journalAnswerSchema, message, journalPageBytesMax, `journal of '${peer}'`);
    if (answer.kind === 'error') throw fromErrorRecord(answer.error);
    await stream.close();
    return answer;
  } catch (error) {
    stream.abort(error as Error);
    throw error;
  }
}

function noAnswer(peer: string): ParleyError {
  return new ParleyError('stream-closed', `peer '${peer}' closed its journal without an answer`, { retryable: true });
}

async function readSeen(store: KeyValueStore, peer: string): Promise<Head | undefined> {
  const bytes = await store.get(seenKey(peer));
  return bytes === undefined ? undefined : codec.decode(journalHeadSchema, bytes, headBytesMax, seenKey(peer));
}

function seenKey(peer: string): string {
  return `journal-seen/${peer}`;
}
