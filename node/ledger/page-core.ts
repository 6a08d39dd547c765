// Pure: what a server of entries sends next. Entries of one term, up to a change of voters, ending where a certificate is known.

import type { Certificate } from '../../protocols/certificate.ts';
import type { ChainedEntry } from '../../protocols/consensus-record.ts';
import { type EntryPage, entryPageBytes, entryPageEntriesMax } from '../../protocols/entry-pull.ts';

/** Beside its data an entry takes a few bytes of a page. */
const entryOverheadBytes = 8;

/** Entries that can stand in one page: of one term, with a change of voters only at the end. At least one of those given. */
export function runOf(entries: readonly ChainedEntry[]): readonly ChainedEntry[] {
  const term = entries[0]?.term;
  let bytes = 0;
  let count = 0;
  for (const entry of entries) {
    bytes += entry.data.byteLength + entryOverheadBytes;
    if (entry.term !== term || count >= entryPageEntriesMax || (count > 0 && bytes > entryPageBytes)) break;
    count += 1;
    if (entry.type === 'configuration') break;
  }
  return entries.slice(0, count);
}

/** The page of a run, cut where its certificate says, whose signatures it carries. */
export function pageOf(run: readonly ChainedEntry[], certificate: Certificate | undefined): EntryPage {
  const entries = certificate === undefined ? run : run.filter(({ index }) => index <= certificate.index);
  const last = entries.at(-1);
  if (last === undefined) throw new Error('a page without entries');
  return {
    kind: 'entries',
    term: last.term,
    entries: entries.map(({ data }) => data),
    ...(last.type === 'configuration' ? { endsWithConfiguration: true } : {}),
    ...(certificate === undefined
      ? {}
      : { signatures: certificate.signatures.map(({ raftId, signature }) => [raftId, signature]) }),
  };
}
