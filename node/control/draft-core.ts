// Owns the form in which a draft is proposed. Pure.

import type { EntryBody } from '../../protocols/ledger-entries.ts';

/** Files that an entry lists by name; the rest is counted. */
const filesListedMax = 64;
const pathCharactersMax = 512;

export function draftBody(draft: {
  readonly base: string | null;
  readonly previous: string | null;
  readonly tree: string;
  readonly pack: string;
  readonly files: readonly { readonly path: string; readonly change: 'added' | 'modified' | 'deleted' }[];
}): EntryBody<'draft-staged'> {
  const { base, previous, tree, pack, files } = draft;
  const listed = files
    .slice(0, filesListedMax)
    .map(({ path, change }) => ({ path: path.slice(0, pathCharactersMax), change }));
  return { base, previous, tree, pack, files: listed, fileCount: files.length };
}
