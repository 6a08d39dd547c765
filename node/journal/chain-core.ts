// Owns the rules of a journal's hash chain, pure: what the next report must be, and whether reports that came from another
// peer are its own, in order and in line with what it said before.

import { ParleyError } from '../../protocols/errors.ts';
import { firstPrevious, type Report, reportHash, reportSigningBytes } from '../../protocols/journal.ts';

/** The last report of a journal; sequence 0 for none yet in this incarnation. */
export interface Head {
  readonly incarnation: number;
  readonly sequence: number;
  readonly hash: string;
}

export type VerifySignature = (peer: string, bytes: Uint8Array, signature: Uint8Array) => boolean;

/** The head of an incarnation without reports. */
export function emptyHead(incarnation: number): Head {
  return { incarnation, sequence: 0, hash: firstPrevious };
}

/** True when `left` is of a later incarnation, or further in the same one. */
export function isAhead(
  left: Pick<Head, 'incarnation' | 'sequence'>,
  right: Pick<Head, 'incarnation' | 'sequence'>,
): boolean {
  if (left.incarnation !== right.incarnation) return left.incarnation > right.incarnation;
  return left.sequence > right.sequence;
}

/** The head in the database. `isWhole` is false when the last report is not the one that it names. */
export interface StoredHead {
  readonly head: Head;
  readonly isWhole: boolean;
}

/**
 * The head with which a journal starts, from what the database says and what the file beside it says.
 * @returns `renewed` when the database was lost, restored or damaged: its next numbers may have been told with other words.
 */
export function startingHead(
  stored: StoredHead | undefined,
  marker: Head | undefined,
): { readonly head: Head; readonly renewed: boolean } {
  if (stored === undefined && marker === undefined) return { head: emptyHead(1), renewed: false };
  if (stored?.isWhole && !isBehind(stored.head, marker)) return { head: stored.head, renewed: false };
  const incarnation = Math.max(marker?.incarnation ?? 0, stored?.head.incarnation ?? 0) + 1;
  return { head: emptyHead(incarnation), renewed: true };
}

function isBehind(head: Head, marker: Head | undefined): boolean {
  if (marker === undefined) return false;
  const isSame = head.incarnation === marker.incarnation && head.sequence === marker.sequence;
  return isSame ? head.hash !== marker.hash : isAhead(marker, head);
}

/**
 * Checks one page of a peer's reports.
 * @param seen the last report of this peer that was checked here before, if any.
 * @throws ParleyError `malformed` for a wrong writer, signature or order; `journal-forked` when the peer told two stories.
 */
export function checkReports(
  reports: readonly Report[],
  context: {
    readonly peer: string;
    readonly incarnation: number;
    readonly seen: Head | undefined;
    readonly verifySignature: VerifySignature;
  },
): void {
  let previous: Report | undefined;
  for (const report of reports) {
    const name = `report ${report.incarnation}/${report.sequence} of '${context.peer}'`;
    if (report.peer !== context.peer) throw malformed(name, `its writer is '${report.peer}'`);
    if (report.incarnation !== context.incarnation)
      throw malformed(name, `expected incarnation ${context.incarnation}`);
    if (previous !== undefined && report.sequence !== previous.sequence + 1) {
      throw malformed(name, `it follows report ${previous.sequence}`);
    }
    if (!context.verifySignature(report.peer, reportSigningBytes(report), report.signature)) {
      throw malformed(name, 'its signature is wrong');
    }
    checkLink(report, name, previous === undefined ? context.seen : headOf(previous), context.seen);
    previous = report;
  }
}

export function headOf(report: Report): Head {
  return { incarnation: report.incarnation, sequence: report.sequence, hash: reportHash(report) };
}

function checkLink(report: Report, name: string, before: Head | undefined, seen: Head | undefined): void {
  const isFirst = report.sequence === 1;
  if (isFirst && report.previous !== firstPrevious)
    throw malformed(name, 'it is the first and names another before it');
  if (seen?.incarnation === report.incarnation && seen.sequence === report.sequence) {
    const hash = reportHash(report);
    if (hash !== seen.hash) throw forked(name, seen.hash, hash);
  }
  const isNext = before?.incarnation === report.incarnation && before.sequence === report.sequence - 1;
  if (!isFirst && isNext && report.previous !== before.hash) throw forked(name, before.hash, report.previous);
}

function malformed(name: string, state: string): ParleyError {
  return new ParleyError('malformed', `${name} cannot be accepted: ${state}`);
}

function forked(name: string, known: string, other: string): ParleyError {
  return new ParleyError(
    'journal-forked',
    `${name} tells another story than before: '${other}' instead of '${known}'`,
    {
      hint: 'The key of this peer may be in use twice, or its disk was restored. Stop the peer and look at it; enrol it anew if in doubt.',
    },
  );
}
