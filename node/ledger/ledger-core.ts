// The pure core of the ledger: one committed entry applied to a state gives the next state, the same on every peer. It
// reads no clock and no chance. An entry that does not hold in the state changes nothing but its command's result.

import type { ChainedEntry } from '../../protocols/consensus-record.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import { type EntryKind, type LedgerEntry, readEntry } from '../../protocols/ledger-entries.ts';
import { aboutOf, earlierResult, ownerOfId } from '../../protocols/ledger-rules.ts';
import { type CommandResult, commandsKeptMax, type LedgerState } from '../../protocols/ledger-state.ts';
import { commandIdKeptMs } from '../../protocols/limits.ts';
import {
  buildFailed,
  buildFinished,
  buildRequested,
  buildStarted,
  deployRequested,
  evaluationFinished,
  hostFailed,
} from './builds-core.ts';
import { checkpointBegun, checkpointMade } from './checkpoints-core.ts';
import { fleetFounded, inviteOpened, memberJoined, memberUpdated } from './members-core.ts';
import { noticeDelivered } from './notices-core.ts';
import { deviceReported, orderCancelled, orderGiven } from './orders-core.ts';
import { approvalGiven, planMade, policyAdopted, rollbackRequested } from './plans-core.ts';
import { commitIntended, commitRecorded, draftDiscarded, draftStaged, updateRequested } from './project-core.ts';
import type { Change, EntryMeta, Handler } from './state-core.ts';
import { beginEntry, dropRecords, putRecord, undoEntry } from './tables-core.ts';
import { taskAborted, taskFinished, taskRetried } from './task-commands-core.ts';
import { configured, generationBegun, memberRemoved, voterAdded, voterRemoved } from './voters-core.ts';

/** Old command ids are looked for at entries whose index is a multiple of this. */
const commandsPrunePeriod = 64;

export { beginBatch } from './tables-core.ts';

/** What a peer applies entries by, beside its state. */
export interface Rules {
  /** It goes past no entry that raises the level beyond this. */
  readonly levelMax: number;
  /** Only generations that it has accepted begin here. */
  readonly generations: readonly GenerationRecord[];
}

export interface Applied {
  readonly state: LedgerState;
  /** What the entry came to; undefined for configurations, empty entries, unknown kinds and entries nobody can read. */
  readonly result?: CommandResult;
  readonly entry?: LedgerEntry;
  /** A mistake of ours while applying: the entry is refused with the code `internal`, on all peers alike. */
  readonly bug?: unknown;
}

const levelRaised: Handler<'level-raised'> = (state, body) => ({
  state: { ...state, level: Math.max(state.level, body.level) },
});

const handlers: { readonly [K in EntryKind]: Handler<K> } = {
  'fleet-founded': fleetFounded,
  'invite-opened': inviteOpened,
  'member-joined': memberJoined,
  'member-updated': memberUpdated,
  'voter-added': voterAdded,
  'voter-removed': voterRemoved,
  'member-removed': memberRemoved,
  'checkpoint-begun': checkpointBegun,
  'checkpoint-made': checkpointMade,
  'generation-begun': generationBegun,
  'draft-staged': draftStaged,
  'draft-discarded': draftDiscarded,
  'commit-intended': commitIntended,
  'commit-recorded': commitRecorded,
  'update-requested': updateRequested,
  'build-requested': buildRequested,
  'deploy-requested': deployRequested,
  'rollback-requested': rollbackRequested,
  'evaluation-finished': evaluationFinished,
  'host-failed': hostFailed,
  'build-started': buildStarted,
  'build-finished': buildFinished,
  'build-failed': buildFailed,
  'plan-made': planMade,
  'approval-given': approvalGiven,
  'order-given': orderGiven,
  'order-cancelled': orderCancelled,
  'device-reported': deviceReported,
  'policy-adopted': policyAdopted,
  'task-finished': taskFinished,
  'task-aborted': taskAborted,
  'task-retried': taskRetried,
  'level-raised': levelRaised,
  'notice-delivered': noticeDelivered,
};

/**
 * Applies the entry that follows the state's index, within a batch that beginBatch() began. States of the batch are valid until
 * the next entry: only the last one may be handed out.
 * @throws ParleyError `level-unsupported` for an entry that raises the level beyond `rules.levelMax`; nothing has changed then.
 * An Error when the entry does not follow: a bug of the caller.
 */
export function applyNext(state: LedgerState, at: ChainedEntry, rules: Rules): Applied {
  if (at.index !== state.index + 1) throw new Error(`entry ${at.index} does not follow ${state.index}`);
  const moved = { ...state, index: at.index, term: at.term, chainHash: at.chainHash };
  if (at.type === 'configuration') return { state: configured(moved, at) };
  const entry = readEntry(at.data);
  if (entry === undefined) return { state: moved };
  if (entry.kind === 'level-raised' && entry.body.level > rules.levelMax) {
    const text = `the ledger rises to level ${entry.body.level} at entry ${at.index}: this release knows ${rules.levelMax}`;
    throw new ParleyError('level-unsupported', text, { hint: 'Update Parley on this peer.' });
  }
  const timed = { ...moved, timeMs: Math.max(moved.timeMs, entry.timeMs) };
  const known = knownResult(timed, entry);
  if (known !== undefined) return { state: timed, result: known, entry };
  // Before the entry is applied: within a batch its tables change in place.
  const given = entry.commandId === undefined ? {} : givenAs(timed, entry);
  const { state: next, task, error, bug } = handle(timed, entry, at.index, rules);
  const result = { index: at.index, atMs: timed.timeMs, task: task ?? null, error: error ?? null, ...given };
  return {
    state: entry.commandId === undefined ? next : withCommand(next, entry.commandId, result),
    result,
    entry,
    bug,
  };
}

function handle(
  state: LedgerState,
  entry: LedgerEntry,
  index: number,
  { generations }: Rules,
): Change & { readonly error?: CommandResult['error']; readonly bug?: unknown } {
  const meta: EntryMeta = { index, actor: entry.actor, commandId: entry.commandId ?? null, generations };
  const handler = handlers[entry.kind] as (state: LedgerState, body: unknown, meta: EntryMeta) => Change;
  beginEntry();
  try {
    return handler(state, entry.body, meta);
  } catch (error) {
    undoEntry();
    if (error instanceof ParleyError) return { state, error: toErrorRecord(error) };
    // The text must not depend on the release of Node, since it becomes part of the state.
    const record = { code: 'internal', message: `applying '${entry.kind}' failed: a bug of Parley`, retryable: false };
    return { state, error: record, bug: error };
  }
}

/** What a command's id stands for from here on. */
function givenAs(state: LedgerState, entry: LedgerEntry): Pick<CommandResult, 'actor' | 'kind' | 'about'> {
  const about = aboutOf(entry);
  const isAbout = about === undefined ? {} : { about };
  return { actor: ownerOfId(state, entry.actor), kind: entry.kind, ...isAbout };
}

/** The answer to a command whose id is known: nothing is done under it again, by whomever. */
function knownResult(state: LedgerState, entry: LedgerEntry): CommandResult | undefined {
  try {
    return earlierResult(state, entry);
  } catch (error) {
    return { index: state.index, atMs: state.timeMs, task: null, error: toErrorRecord(error) };
  }
}

/**
 * Remembers what a command came to, for as long as it may be asked again. Old ones leave many at a time, and where there are
 * too many each actor keeps its newest: nobody makes the ledger forget the commands of others.
 */
function withCommand(state: LedgerState, id: string, result: CommandResult): LedgerState {
  const next = putRecord(state, 'commands', id, result);
  if (result.index % commandsPrunePeriod !== 0) return next;
  const keptFromMs = state.timeMs - commandIdKeptMs;
  const placed = placesByActor(next.commands).sort((a, b) => a.place - b.place || b.index - a.index);
  const leaving = placed.filter(({ atMs }, at) => at >= commandsKeptMax || atMs < keptFromMs);
  return dropRecords(
    next,
    'commands',
    leaving.map(({ key }) => key),
  );
}

/** The commands with each one's place among those of its actor, the newest being the first. */
function placesByActor(commands: LedgerState['commands']) {
  const counts = new Map<string, number>();
  const newestFirst = Object.entries(commands).sort(([, a], [, b]) => b.index - a.index);
  return newestFirst.map(([key, { index, atMs, actor = '' }]) => {
    const place = counts.get(actor) ?? 0;
    counts.set(actor, place + 1);
    return { key, index, atMs, place };
  });
}
