// Owns what callers ask of a running voter: proposals, reads, handovers, compaction and the log's committed part.

import type { CommittedEntry, SnapshotMetadata } from '../../protocols/consensus-record.ts';
import { encodeConfigurationChange } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { entryBytesMax } from '../../protocols/limits.ts';
import type { Certifier } from './certifier.ts';
import { configurationOf, limitEntries, nobody, type RawNode, type Refusal } from './core/index.ts';
import type { Engine } from './engine.ts';
import type { LogStore } from './log-store.ts';
import { ProposalBatch } from './proposal-batch.ts';
import type { SnapshotShelf } from './snapshot-shelf.ts';
import type { Consensus, ConsensusStatus, Position, StateMachine, VotersChange, WaitOptions } from './types.ts';

/** Bytes of one page of committed entries: fits a message with room for its envelope. */
const pageBytesMax = 512 * 1024;
const proposing = 'propose an entry';

export interface Parts {
  readonly engine: Engine;
  readonly store: LogStore;
  readonly stateMachine: StateMachine;
  readonly shelf: SnapshotShelf;
  readonly certifier: Certifier | undefined;
}

export interface Running extends Parts {
  readonly batch: ProposalBatch;
}

/** What callers can ask for once the engine is there. */
export function running(parts: Parts): Running {
  const { engine } = parts;
  const batch = new ProposalBatch({
    propose(data) {
      requireLeader(engine, proposing);
      return append(engine, data.length, (raw) => raw.proposeAll(data));
    },
    wait: (position, signal) => engine.proposals.add(position, signal),
  });
  return { ...parts, batch };
}

export function statusOf({ engine, stateMachine, certifier }: Running): ConsensusStatus {
  const { raftId, term, role, leader, commit, members, progress } = engine.raw.status();
  const { voters, votersOutgoing, learners } = configurationOf(members);
  const failure = engine.failure() ?? engine.alarm() ?? certifier?.alarm;
  const others = progress.filter(([id]) => id !== raftId);
  return {
    raftId,
    term,
    role,
    ...(leader === nobody ? {} : { leader }),
    commitIndex: commit,
    appliedIndex: stateMachine.appliedIndex(),
    firstIndex: engine.raw.firstIndex(),
    lastIndex: engine.raw.lastIndex(),
    voters,
    votersOutgoing,
    learners,
    ...(role === 'leader'
      ? {
          progress: others.map(([id, { match, state, recentActive }]) => ({
            raftId: id,
            match,
            state,
            active: recentActive,
          })),
        }
      : {}),
    droppedCertificates: certifier?.dropped ?? 0,
    ...(failure ? { failure } : {}),
  };
}

export function propose(running: Running, data: Uint8Array, { signal }: WaitOptions): Promise<Position> {
  requireSize(data, 'entry');
  requireTaker(running, proposing);
  return running.batch.add(data, signal);
}

export function changeVoters(
  running: Running,
  { transition, steps, contextOf }: VotersChange,
  options: WaitOptions,
): Promise<Position> {
  const { engine } = running;
  requireTaker(running, 'change the voters');
  const { raftId } = engine.raw.status();
  if (steps.some((step) => step.raftId === raftId && step.kind !== 'add-voter')) {
    // The entry that removes the leader can outlive it on the removed alone, whose logs then outrank everybody's left.
    throw new ParleyError('voters-unchanged', `cannot remove or demote voter ${raftId}: it leads`, {
      hint: 'Hand leadership to another voter first and let that one make the change.',
    });
  }
  const preview = engine.raw.previewChange({ transition, steps, context: new Uint8Array(0) });
  if ('refusal' in preview) {
    throw new ParleyError('voters-unchanged', `cannot change the voters: ${preview.refusal}`, { retryable: true });
  }
  const change = { transition, steps, context: contextOf(preview.configuration) };
  requireSize(encodeConfigurationChange(change), 'change of voters');
  const position = append(engine, 1, (raw) => raw.proposeConfiguration(change));
  return engine.proposals.add(position, options.signal);
}

/** Appends entries to our log as its leader; gives the position of the first. */
function append(engine: Engine, count: number, call: (raw: RawNode) => Refusal | undefined): Position {
  if (engine.act(call) !== undefined) throw busy('entries that are not committed yet');
  return { index: engine.raw.lastIndex() - count + 1, term: engine.raw.status().term };
}

export function readIndex({ engine, stateMachine }: Running, options: WaitOptions): Promise<number> {
  requireSound(engine, 'read');
  if (engine.reads.full) throw busy('reads');
  const { context, done } = engine.reads.add(options.signal);
  try {
    engine.act((raw) => raw.readIndex(context));
  } catch {
    // A broken rule of the core ends all reads: this one says so itself.
  }
  engine.reads.applied(stateMachine.appliedIndex());
  return done;
}

/** Hands leadership to whoever of these voters has the most of the log, and so leads soonest. */
export function transferLeadership(
  { engine }: Running,
  isWanted: (raftId: number) => boolean,
  { signal }: WaitOptions,
  onRoleChange: Consensus['onRoleChange'],
): Promise<void> {
  requireLeader(engine, 'hand leadership over');
  const { raftId, term, members, progress } = engine.raw.status();
  const candidates = progress.filter(
    ([id, { recentActive }]) => id !== raftId && recentActive && members.voters.incoming.has(id) && isWanted(id),
  );
  const [best] = candidates.sort(([, a], [, b]) => b.match - a.match);
  if (best === undefined) {
    throw new ParleyError('transfer-failed', 'none of the voters that are to lead can be reached', { retryable: true });
  }
  const [successor] = best;
  return new Promise((resolve, reject) => {
    const unsubscribe = onRoleChange((status) => {
      if (status.role === 'leader' && status.term === term) return;
      settle();
      resolve();
    });
    const giveUp = (): void => {
      settle();
      reject(
        new ParleyError('transfer-failed', `${successor} did not take over the leadership in time`, {
          retryable: true,
        }),
      );
    };
    const settle = (): void => {
      unsubscribe();
      signal.removeEventListener('abort', giveUp);
    };
    signal.addEventListener('abort', giveUp, { once: true });
    engine.act((raw) => raw.transferLeadership(successor));
  });
}

export async function compact({ engine, store, stateMachine }: Running, index: number): Promise<void> {
  const applied = Math.min(stateMachine.appliedIndex(), engine.raw.status().applied);
  if (index > applied)
    throw new ParleyError('not-applied', `cannot compact the log up to ${index}: ${applied} is applied`);
  if (index <= store.base().index) return;
  await store.compact(metadataAt(engine, store, index));
  engine.applies.compact(index);
}

export async function committedEntries(
  { engine, store }: Running,
  fromIndex: number,
  limit: number,
): Promise<readonly CommittedEntry[]> {
  const first = store.log.firstIndex();
  if (fromIndex < first) {
    throw new ParleyError('compacted', `entries from ${fromIndex} on are gone: the log starts at ${first}`, {
      hint: `Take a snapshot, or ask another voter for the entries before ${first}.`,
    });
  }
  const end = Math.min(engine.raw.status().applied + 1, fromIndex + limit);
  return limitEntries(store.log.range(fromIndex, end), pageBytesMax).map((entry) => engine.applies.toCommitted(entry));
}

/** What identifies the state after an index that the log still reaches. */
export function metadataAt(engine: Engine, store: LogStore, index: number): SnapshotMetadata {
  const term = store.log.term(index);
  const chainHash = store.chainHash(index);
  if (term === undefined || chainHash === undefined) {
    throw new Error(`index ${index} is outside the log, which starts at ${store.log.firstIndex()}`);
  }
  return { index, term, chainHash, configuration: engine.applies.configurationAt(index) };
}

/** This voter leads and takes proposals now. */
function requireTaker({ engine, batch }: Running, what: string): void {
  requireLeader(engine, what);
  if (!engine.proposals.hasRoomBeside(batch.size)) throw busy('proposals');
  if (engine.raw.status().transferTarget === nobody) return;
  throw new ParleyError('not-controller', `cannot ${what}: leadership is being handed over`, { retryable: true });
}

function requireSound(engine: Engine, what: string): void {
  const failure = engine.failure();
  if (failure === undefined) return;
  throw new ParleyError('held-up', `cannot ${what}: ${failure.message}`, {
    hint: failure.hint ?? 'Free some disk space, or look into the log of this peer.',
    retryable: true,
  });
}

function requireLeader(engine: Engine, what: string): void {
  requireSound(engine, what);
  const { role, leader } = engine.raw.status();
  if (role === 'leader') return;
  const known = leader === nobody ? 'no leader is known' : `voter ${leader} leads`;
  throw new ParleyError('not-controller', `cannot ${what} here: ${known}`, { retryable: true });
}

function requireSize(data: Uint8Array, what: string): void {
  if (data.byteLength <= entryBytesMax) return;
  throw new ParleyError('too-large', `${what} has ${data.byteLength} bytes: the limit is ${entryBytesMax}`);
}

function busy(what: string): ParleyError {
  return new ParleyError('busy', `cannot take more: too many ${what} are waiting`, { retryable: true });
}
