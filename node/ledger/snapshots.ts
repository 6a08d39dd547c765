// Owns the ledger's snapshots on disk, each in parts with a sealed head and written as one synced batch, so that a damaged one
// is noticed and an older one serves instead. Those of certified checkpoints are what others are given; the two newest of
// them stay, beside the newest of all.

import { decode, encode, inSteps, sha256HexInSteps } from '../../protocols/codec.ts';
import { sealOf, snapshotBytesMax, snapshotPartBytesMax } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { type GenerationRecord, isOverruled } from '../../protocols/generation.ts';
import { ledgerSnapshotHeadBytesMax, ledgerSnapshotHeadSchema } from '../../protocols/ledger-record.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { KeyValueStore, Logger, StoreOperation } from '../interfaces.ts';
import { endOf, numberedKey } from '../keys.ts';
import type { LedgerSnapshot } from './ledger-types.ts';
import { decodeStateInSteps } from './state-decoding-core.ts';
import { encodeState } from './state-encoding-core.ts';

const checkpointsKept = 2;
/** Newest ones that are no checkpoints, or not certified yet. */
const othersKept = 3;
const prefix = 'snapshot/';

export interface StoredState {
  readonly state: LedgerState;
  readonly bytes: number;
}

export interface SnapshotStore {
  /** The newest undamaged state and the bytes of its snapshot; undefined when there is none. */
  load(): Promise<StoredState | undefined>;
  /** Stores a snapshot on the disk; old ones leave. A rejected call has changed nothing that load() needs. */
  save(snapshot: LedgerSnapshot): Promise<void>;
  /** Place and SHA-256 of a kept snapshot. */
  headAt(index: number): { readonly chainHash: string; readonly hash: string } | undefined;
  /** The oldest kept one. */
  oldest(): number;
  /** The encoded state of a kept snapshot, checked as it is read; undefined when it is damaged or gone. */
  read(index: number): Promise<Uint8Array | undefined>;
  /** Entries up to this checkpoint are never needed again, even if the newest snapshot turns out damaged. 0 while there is none. */
  settledIndex(): number;
}

interface Kept {
  readonly keys: readonly string[];
  /** Undefined for a damaged one. */
  readonly head: { readonly chainHash: string; readonly hash: string } | undefined;
}

export function createSnapshotStore(init: {
  readonly store: KeyValueStore;
  readonly logger: Logger;
  readonly generations: readonly GenerationRecord[];
  /** Whether voters have certified that the state at an index has this hash. */
  readonly isCheckpoint: (index: number, hash: string) => boolean;
}): SnapshotStore {
  const { store, logger, generations, isCheckpoint } = init;
  const kept = new Map<number, Kept>();

  /** Newest first: one at a time in memory. */
  async function load(): Promise<StoredState | undefined> {
    let newest: StoredState | undefined;
    for (let end = endOf(prefix); ; ) {
      const [last] = await store.range({ gte: prefix, lt: end, limit: 1, reverse: true });
      if (last === undefined) return newest;
      const index = Number.parseInt(last[0].slice(prefix.length), 10);
      end = baseOf(index);
      const pairs = await pairsOf(index);
      const found = await readOrWarn(index, pairs);
      const isRead = found !== undefined && (newest === undefined || generations.length > 0);
      const state = isRead ? await stateOf({ ...found.head, index, data: found.data }) : undefined;
      const isOut = state !== undefined && isOverruled(generations, state);
      kept.set(index, { keys: pairs.map(([key]) => key), head: isOut ? undefined : found?.head });
      if (state !== undefined && !isOut) newest ??= { state, bytes: found?.data.byteLength ?? 0 };
    }
  }

  function pairsOf(index: number): Promise<[key: string, value: Uint8Array][]> {
    return store.range({ gte: baseOf(index), lt: endOf(baseOf(index)) });
  }

  async function readOrWarn(index: number, pairs: readonly [string, Uint8Array][]) {
    try {
      return await readSnapshot(index, pairs);
    } catch (error) {
      logger.error({ index, error: String(error) }, 'a ledger snapshot is damaged and left out');
      return undefined;
    }
  }

  /** Undamaged ones, newest first. */
  function sound(): { readonly index: number; readonly isCertified: boolean }[] {
    const all = [...kept].flatMap(([index, { head }]) =>
      head === undefined ? [] : [{ index, isCertified: isCheckpoint(index, head.hash) }],
    );
    return all.sort((a, b) => b.index - a.index);
  }

  /** Those that stay once one of this index is there. */
  function staying(added: number): Set<number> {
    const others = sound().filter(({ index }) => index !== added);
    const checkpoints = others.filter(({ isCertified }) => isCertified).slice(0, checkpointsKept);
    const rest = others.filter(({ isCertified }) => !isCertified).slice(0, othersKept - 1);
    return new Set([...checkpoints, ...rest].map(({ index }) => index));
  }

  return {
    load,
    async save(snapshot) {
      const { operations, head } = await snapshotOperations(snapshot);
      const keys = operations.map((operation) => operation.key);
      const stays = staying(snapshot.index);
      const leaving = [...kept].filter(([index]) => !stays.has(index));
      const deletes = leaving.flatMap(([, old]) => old.keys.filter((key) => !keys.includes(key)));
      await store.batch([...deletes.map((key) => ({ type: 'del', key }) as const), ...operations], { sync: true });
      for (const [index] of leaving) kept.delete(index);
      kept.set(snapshot.index, { keys, head });
    },
    oldest: () => Math.min(...kept.keys()),
    headAt: (index) => kept.get(index)?.head,
    async read(index) {
      return kept.has(index) ? (await readOrWarn(index, await pairsOf(index)))?.data : undefined;
    },
    settledIndex() {
      const all = sound();
      // Should the newest one turn out damaged, the checkpoint is there, or one before it.
      return all.slice(1).find(({ isCertified }) => isCertified)?.index ?? 0;
    },
  };
}

/** The snapshot of a state, made beside the event loop's other work. @throws ParleyError `too-large`: a bug, since every table has a limit. */
export async function snapshotOf(state: LedgerState): Promise<LedgerSnapshot> {
  const data = await inSteps(encodeState(state));
  if (data.byteLength > snapshotBytesMax) {
    const text = `the ledger's state has ${data.byteLength} bytes: the limit is ${snapshotBytesMax}`;
    throw new ParleyError('too-large', text);
  }
  return { index: state.index, term: state.term, chainHash: state.chainHash, data };
}

/** The state in a snapshot, read beside the event loop's other work. @throws ParleyError `malformed` when it is not what its place in the log says. */
export async function stateOf(snapshot: LedgerSnapshot): Promise<LedgerState> {
  const state = await inSteps(decodeStateInSteps(snapshot.data));
  const { index, term, chainHash } = snapshot;
  if (state.index === index && state.term === term && state.chainHash === chainHash) return state;
  throw new ParleyError('malformed', `a snapshot of index ${index} holds the state of index ${state.index}`);
}

function baseOf(index: number): string {
  return `${numberedKey(prefix, index)}/`;
}

async function snapshotOperations({ index, term, chainHash, data }: LedgerSnapshot) {
  const base = baseOf(index);
  const operations: StoreOperation[] = [];
  for (let offset = 0; offset < data.byteLength; offset += snapshotPartBytesMax) {
    const key = `${base}part-${String(operations.length).padStart(4, '0')}`;
    operations.push({ type: 'put', key, value: data.subarray(offset, offset + snapshotPartBytesMax) });
  }
  const head = {
    version: 1,
    index,
    term,
    chainHash,
    bytes: data.byteLength,
    parts: operations.length,
    hash: await sha256HexInSteps(data),
  } as const;
  operations.push({ type: 'put', key: `${base}head`, value: encode({ ...head, seal: sealOf(head) }) });
  return { operations, head };
}

/** @throws ParleyError `damaged` or `malformed`. */
async function readSnapshot(index: number, pairs: readonly [string, Uint8Array][]) {
  const head = pairs.find(([key]) => key.endsWith('/head'));
  const parts = pairs.filter((pair) => pair !== head).map(([, value]) => value);
  const bytes = head?.[1] ?? new Uint8Array(0);
  const record = decode(ledgerSnapshotHeadSchema, bytes, ledgerSnapshotHeadBytesMax, 'head of a snapshot');
  const data = new Uint8Array(Buffer.concat(parts));
  const hash = await sha256HexInSteps(data);
  const isWhole = record.seal === sealOf(record) && record.parts === parts.length && record.hash === hash;
  if (!isWhole || record.index !== index) {
    throw new ParleyError('damaged', `snapshot ${index} does not have the content that its head says`);
  }
  return { head: record, data };
}
