// Owns what happens to a caller's work folder around a command: its changes become the draft before, and what was committed
// or updated is brought into it afterwards. The folder lies on the machine of the peer whose socket was used.

import type { CommandEvent, CommandRequest, ForwardedEntry } from '../../protocols/control.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { DiffView } from '../../protocols/views.ts';
import type { ControlComponents, ControlProject } from './control-types.ts';
import { draftBody } from './draft-core.ts';

export interface WorkFolderContext {
  readonly components: Pick<ControlComponents, 'project' | 'ledger' | 'blobs' | 'logger'>;
  readonly signal: AbortSignal;
  /** Has the controller propose an entry for this command's actor; resolves once this peer's state shows it. */
  readonly propose: (entry: ForwardedEntry) => Promise<void>;
}

/** Git works on a local folder here. */
const refreshTimeoutMs = 30_000;
/** As long as other commands look for a controller; more for a draft that takes its time over a poor uplink. */
const stageTimeoutMs = 15_000;
const stageBytesPerMs = 32;

/** A folder's request, told apart from one without. */
export type FolderRequest = CommandRequest & { readonly workFolder: string };

/** Whether the command takes the folder's changes up. */
export function stagesFolder({ command }: CommandRequest): boolean {
  return (
    command.name === 'commit' ||
    command.name === 'update' ||
    (command.name === 'deploy' && command.commitMessage !== null)
  );
}

/**
 * Makes the folder's changes the fleet's draft.
 * @returns the tree of the folder as it was; null where it equals the head.
 * @throws ParleyError of the project room, and refusals of the ledger.
 */
export async function stageFolder(request: FolderRequest, context: WorkFolderContext): Promise<string | null> {
  const { blobs } = context.components;
  const project = projectHere(request, context);
  const { head, draft } = await stateAtHead(project, context);
  const read = await project.workFolders.read(request.workFolder, { head, draft });
  if (read.kind === 'reverted' && draft !== null) await context.propose({ kind: 'draft-discarded', body: {} });
  if (read.kind !== 'changed') return null;
  if (draft?.tree === read.tree) return read.tree;
  const pack = await blobs.put(read.pack);
  await replicate(pack, read.pack.byteLength, context);
  const body = draftBody({ base: head, previous: draft?.hash ?? null, tree: read.tree, pack, files: read.files });
  await context.propose({ kind: 'draft-staged', body });
  return read.tree;
}

/** @throws ParleyError `no-controller` (retryable): a voter that is cut off must not keep a person waiting for ever. */
async function replicate(pack: string, bytes: number, { components, signal }: WorkFolderContext): Promise<void> {
  const late = AbortSignal.timeout(stageTimeoutMs + Math.ceil(bytes / stageBytesPerMs));
  try {
    await components.ledger.replicateBlob(pack, { signal: AbortSignal.any([signal, late]) });
  } catch (cause) {
    if (!late.aborted || signal.aborted) throw cause;
    throw new ParleyError('no-controller', 'nothing was changed: no majority of the voters took the draft in time', {
      hint: 'Ask again, or at a voter that reaches the others: `status` shows who is there.',
      retryable: true,
      cause,
    });
  }
}

/** The folder's own changes against the head, without staging them: anybody may look. Null where it has none. */
export async function diffFolder(request: FolderRequest, context: WorkFolderContext): Promise<CommandEvent | null> {
  const { blobs } = context.components;
  const project = projectHere(request, context);
  const { head, draft } = await stateAtHead(project, context);
  const read = await project.workFolders.read(request.workFolder, { head, draft });
  if (read.kind !== 'changed' || draft?.tree === read.tree) return null;
  await project.ensurePack(await blobs.put(read.pack), { signal: context.signal });
  const files = read.files.map(({ path, change }) => ({ path, change }));
  const data: DiffView = { version: 1, base: head, files, patch: await project.patch(head, read.tree) };
  return { kind: 'view', view: 'diff', data };
}

/** What a deploy leaves out: changes of the folder that are neither committed nor to be committed. Null where there are none. */
export async function uncommittedNote(
  request: FolderRequest,
  context: WorkFolderContext,
): Promise<CommandEvent | null> {
  try {
    const project = projectHere(request, context);
    const { head, draft } = await stateAtHead(project, context);
    const read = await project.workFolders.read(request.workFolder, { head, draft });
    if (read.kind !== 'changed') return null;
    const files = read.files.length === 1 ? '1 changed file' : `${read.files.length} changed files`;
    return { kind: 'progress', text: `the newest commit is deployed: ${files} of the work folder are not part of it` };
  } catch (error) {
    context.signal.throwIfAborted();
    // The folder has no part in this command: what is wrong with it will be told when it is committed.
    context.components.logger.debug({ error: String(error) }, 'the work folder could not be read');
    return null;
  }
}

/**
 * Brings the folder to the new head as soon as there is one, whether or not the caller still watches: who goes on editing on
 * the old commit would have to merge. `finish` waits for that and brings an update's draft; `staged` is what the folder held.
 */
export function followFolder(
  request: FolderRequest,
  staged: string | null,
  context: WorkFolderContext,
): { finish(): Promise<void>; stop(): void } {
  const { ledger, logger } = context.components;
  const { head: before } = ledger.state();
  const over = new AbortController();
  const unlessImpossible = (error: unknown) =>
    logger.warn({ error: String(error) }, 'the work folder could not be brought up to date');
  const committed = ledger
    .waitFor(({ head }) => head !== before, over.signal)
    .then(() => followHead(request, context).catch(unlessImpossible))
    .catch(() => undefined);
  return {
    async finish() {
      if (ledger.state().head !== before) await committed;
      else if (request.command.name === 'update') await takeDraft(request, staged, context).catch(unlessImpossible);
    },
    stop: () => over.abort(),
  };
}

/** A folder without changes of its own follows the head by being read. */
async function followHead(request: FolderRequest, context: WorkFolderContext): Promise<void> {
  const project = projectHere(request, context);
  const { head } = await stateAtHead(project, { ...context, signal: AbortSignal.timeout(refreshTimeoutMs) });
  await project.workFolders.read(request.workFolder, { head, draft: null });
}

/** Takes the fleet's draft over, unless somebody has edited the folder since it was staged. */
async function takeDraft(request: FolderRequest, staged: string | null, context: WorkFolderContext): Promise<void> {
  const signal = AbortSignal.timeout(refreshTimeoutMs);
  const { ledger } = context.components;
  const project = projectHere(request, context);
  const { head, draft } = await stateAtHead(project, { ...context, signal });
  if (draft === null || draft.tree === staged) return;
  const read = await project.workFolders.read(request.workFolder, { head, draft: null });
  if ((read.kind === 'changed' ? read.tree : null) !== staged) {
    throw new ParleyError(
      'folder-changed',
      `'${request.workFolder}' was edited meanwhile: the draft is not written into it`,
    );
  }
  const pack = await ledger.fetchBlob(draft.pack, { signal });
  await project.workFolders.write(request.workFolder, { head: draft.base, from: read.tree, tree: draft.tree, pack });
}

async function stateAtHead(project: ControlProject, { components, signal }: WorkFolderContext) {
  const { head, draft } = components.ledger.state();
  if (head !== null) await project.ensureRevision(head, { signal });
  return { head, draft };
}

function projectHere(request: FolderRequest, { components }: WorkFolderContext): ControlProject {
  if (components.project !== null) return components.project;
  throw new ParleyError(
    'no-repository',
    `'${request.workFolder}' cannot be used: this peer holds no copy of the project`,
    {
      hint: 'Give the command at a voter or a builder.',
    },
  );
}
