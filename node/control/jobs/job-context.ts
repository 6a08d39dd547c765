// Owns what every job of the coordinator is given, and the few steps that several of them take: propose an entry, store a
// body on a majority's disks before an entry names it.

import { decode, encode } from '../../../protocols/codec.ts';
import type { EntryDraft } from '../../../protocols/ledger-entries.ts';
import type { LedgerState } from '../../../protocols/ledger-state.ts';
import { type Manifest, manifestBytesMax, manifestSchema } from '../../../protocols/manifest.ts';
import type { Catalogue } from '../catalogue.ts';
import type { ControlComponents } from '../control-types.ts';
import type { JobProgress } from '../views-core.ts';

export interface JobContext {
  readonly components: ControlComponents;
  readonly catalogue: Catalogue;
  readonly isOnline: (peer: string) => boolean;
  /** Ends when leadership is lost, when the peer stops, and when the work is not due any more. */
  readonly signal: AbortSignal;
  /** How far the work is; shown with the task. */
  report(task: string, progress: JobProgress): void;
  /** A line of the controller's own in a task's log. */
  log(task: string, level: 'error' | 'warning' | 'info', text: string): void;
  /** Remembers that a commit brings no policy that could be adopted. */
  noPolicy(revision: string): void;
}

export function propose(context: JobContext, draft: EntryDraft) {
  return context.components.ledger.propose(draft, { signal: context.signal });
}

export function currentState(context: JobContext): LedgerState {
  return context.components.ledger.state();
}

/** Stores a record as a blob on a majority of the voters and returns its hash. */
export async function storeRecord(context: JobContext, record: unknown): Promise<string> {
  return storeBytes(context, encode(record));
}

export async function storeBytes(context: JobContext, bytes: Uint8Array): Promise<string> {
  const { blobs, ledger } = context.components;
  const hash = await blobs.put(bytes);
  await ledger.replicateBlob(hash, { signal: context.signal });
  return hash;
}

export async function readManifest(
  components: Pick<ControlComponents, 'ledger'>,
  hash: string,
  signal: AbortSignal,
): Promise<Manifest> {
  const bytes = await components.ledger.fetchBlob(hash, { signal });
  return decode(manifestSchema, bytes, manifestBytesMax, `manifest '${hash.slice(0, 8)}'`);
}
