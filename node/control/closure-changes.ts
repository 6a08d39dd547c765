// Owns the changes that a plan lists for a closure: compared with what the host runs, as far as a manifest of that is known.

import type { ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { ManifestPath } from '../../protocols/manifest.ts';
import type { ClosureChange } from '../../protocols/plan.ts';
import type { ControlComponents } from './control-types.ts';
import { readManifest } from './jobs/job-context.ts';

/** Changes that a plan lists; the rest is counted. */
const changesListedMax = 256;
const versionsListedMax = 16;

export interface ListedChanges {
  readonly changes: ClosureChange[];
  readonly changesLeftOut: number;
}

/**
 * What a host's closure would change. There is nothing to compare with where its running closure is unknown, or where nobody
 * has that closure's list of paths any more.
 */
export async function describePath(
  host: string,
  paths: readonly ManifestPath[],
  state: LedgerState,
  context: Pick<ControlComponents, 'ledger' | 'diffClosures' | 'logger'> & { readonly signal: AbortSignal },
): Promise<ListedChanges> {
  const known = runningManifest(host, state);
  const before = known === undefined ? [] : await pathsOf(known, context);
  const { changes } = context.diffClosures(before, paths);
  const listed = changes.slice(0, changesListedMax).map((change) => ({
    name: change.name.slice(0, 256),
    before: change.before.slice(0, versionsListedMax),
    after: change.after.slice(0, versionsListedMax),
  }));
  return { changes: listed, changesLeftOut: changes.length - listed.length };
}

async function pathsOf(
  manifest: string,
  context: Parameters<typeof describePath>[3],
): Promise<readonly ManifestPath[]> {
  try {
    return (await readManifest(context, manifest, context.signal)).paths;
  } catch (error) {
    if (context.signal.aborted || (error as ParleyError).code !== 'blob-unavailable') throw error;
    context.logger.warn({ manifest }, 'what a host runs cannot be compared: nobody has the list of its paths');
    return [];
  }
}

function runningManifest(host: string, state: LedgerState): string | undefined {
  const device = state.devices[host];
  return device?.ran.find(({ closure }) => closure === device.running)?.manifest;
}
