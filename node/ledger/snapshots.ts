// Owns the ledger's snapshots on disk: the two newest and the newest certified checkpoint, each in parts with a sealed head and written as one synced batch, so
// that a damaged one is noticed and the older one serves instead.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { decode, encode, sha256Hex, sha256HexInSteps } from '../../protocols/codec.ts';
import { sealOf, snapshotPartBytesMax } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { ledgerSnapshotHeadBytesMax, ledgerSnapshotHeadSchema } from '../../protocols/ledger-record.ts';
import { type LedgerState, snapshotBytesMax } from '../../protocols/ledger-state.ts';
import type { KeyValueStore, Logger, StoreOperation } from '../interfaces.ts';
import { decodeState } from './genesis-core.ts';
import type { LedgerSnapshot } from './ledger-types.ts';
import { encodeState } from './state-encoding-core.ts';

const snapshotsKept = 2;
const prefix = 'snapshot/';

export interface SnapshotStore {
  /** The newest undamaged state; undefined when there is none. */
  load(): Promise<LedgerState | undefined>;
  /** Stores a snapshot on the disk; older ones leave. A rejected call has changed nothing that load() needs. */
  save(snapshot: LedgerSnapshot): Promise<void>;
  /** SHA-256 of the state in the kept snapshot of that very index. */
  hashAt(index: number): string | undefined;
  /** Entries up to this index are never needed again, even if the newest snapshot turns out damaged. 0 while there are fewer than two. */
  settledIndex(): number;
}

interface Kept {
  readonly keys: readonly string[];
  readonly hash: string | undefined;
}

/** `certifiedIndex` is that of the newest certified checkpoint: its snapshot stays while it is the newest. */
export function createSnapshotStore(init: {
  readonly store: KeyValueStore;
  readonly logger: Logger;
  readonly certifiedIndex: () => number;
}): SnapshotStore {
  const { store, logger, certifiedIndex } = init;
  /** By index, oldest first. */
  const kept = new Map<number, Kept>();

  async function load(): Promise<LedgerState | undefined> {
    const found = new Map<number, [key: string, value: Uint8Array][]>();
    for (const pair of await store.range({ gte: prefix, lt: endOf(prefix) })) {
      const index = Number.parseInt(pair[0].slice(prefix.length), 10);
      found.set(index, [...(found.get(index) ?? []), pair]);
    }
    let newest: LedgerState | undefined;
    for (const [index, pairs] of [...found].sort(([a], [b]) => a - b)) {
      const read = readOrWarn(index, pairs);
      kept.set(index, { keys: pairs.map(([key]) => key), hash: read?.hash });
      if (read !== undefined) newest = read.state;
      else damaged.add(index);
    }
    return newest;
  }

  const damaged = new Set<number>();

  function readOrWarn(index: number, pairs: readonly [string, Uint8Array][]): ReadSnapshot | undefined {
    try {
      return readSnapshot(index, pairs);
    } catch (error) {
      logger.error({ index, error: String(error) }, 'a ledger snapshot is damaged and left out');
      return undefined;
    }
  }

  return {
    load,
    async save(snapshot) {
      const { operations, hash } = await snapshotOperations(snapshot);
      const keys = operations.map((operation) => operation.key);
      const sound = [...kept.keys()].filter((index) => !damaged.has(index) && index !== snapshot.index);
      const staying = new Set(sound.sort((a, b) => b - a).slice(0, snapshotsKept - 1)).add(certifiedIndex());
      const leaving = [...kept].filter(([index]) => !staying.has(index));
      const deletes = leaving.flatMap(([, old]) => old.keys.filter((key) => !keys.includes(key)));
      await store.batch([...deletes.map((key) => ({ type: 'del', key }) as const), ...operations], { sync: true });
      for (const [index] of leaving) {
        kept.delete(index);
        damaged.delete(index);
      }
      kept.set(snapshot.index, { keys, hash });
    },
    hashAt: (index) => kept.get(index)?.hash,
    settledIndex() {
      const sound = [...kept.keys()].filter((index) => !damaged.has(index)).sort((a, b) => b - a);
      return sound[snapshotsKept - 1] ?? 0;
    },
  };
}

/** The snapshot of a state, made beside the event loop's other work. @throws ParleyError `too-large`: a bug, since every table has a limit. */
export async function snapshotOf(state: LedgerState): Promise<LedgerSnapshot> {
  const steps = encodeState(state);
  let step = steps.next();
  while (!step.done) {
    await nextTurn();
    step = steps.next();
  }
  const data = step.value;
  if (data.byteLength > snapshotBytesMax) {
    const text = `the ledger's state has ${data.byteLength} bytes: the limit is ${snapshotBytesMax}`;
    throw new ParleyError('too-large', text);
  }
  return { index: state.index, term: state.term, chainHash: state.chainHash, data };
}

/** The state in a snapshot. @throws ParleyError `malformed` when it is not what its place in the log says. */
export function stateOf(snapshot: LedgerSnapshot): LedgerState {
  const state = decodeState(snapshot.data);
  const { index, term, chainHash } = snapshot;
  if (state.index === index && state.term === term && state.chainHash === chainHash) return state;
  throw new ParleyError('malformed', `a snapshot of index ${index} holds the state of index ${state.index}`);
}

async function snapshotOperations({ index, term, chainHash, data }: LedgerSnapshot): Promise<{
  readonly operations: StoreOperation[];
  readonly hash: string;
}> {
  const base = `${prefix}${String(index).padStart(16, '0')}/`;
  const operations: StoreOperation[] = [];
  for (let offset = 0; offset < data.byteLength; offset += snapshotPartBytesMax) {
    const key = `${base}part-${String(operations.length).padStart(4, '0')}`;
    operations.push({ type: 'put', key, value: data.subarray(offset, offset + snapshotPartBytesMax) });
  }
  const hash = await sha256HexInSteps(data);
  const head = {
    version: 1,
    index,
    term,
    chainHash,
    bytes: data.byteLength,
    parts: operations.length,
    hash,
  } as const;
  operations.push({ type: 'put', key: `${base}head`, value: encode({ ...head, seal: sealOf(head) }) });
  return { operations, hash };
}

interface ReadSnapshot {
  readonly state: LedgerState;
  readonly hash: string;
}

function readSnapshot(index: number, pairs: readonly [string, Uint8Array][]): ReadSnapshot {
  const head = pairs.find(([key]) => key.endsWith('/head'));
  const parts = pairs.filter((pair) => pair !== head).map(([, value]) => value);
  const bytes = head?.[1] ?? new Uint8Array(0);
  const record = decode(ledgerSnapshotHeadSchema, bytes, ledgerSnapshotHeadBytesMax, 'head of a snapshot');
  const data = new Uint8Array(Buffer.concat(parts));
  const isWhole = record.seal === sealOf(record) && record.parts === parts.length && record.hash === sha256Hex(data);
  if (!isWhole || record.index !== index) {
    throw new ParleyError('damaged', `snapshot ${index} does not have the content that its head says`);
  }
  const { term, chainHash, hash } = record;
  return { state: stateOf({ index, term, chainHash, data }), hash };
}

function endOf(keyPrefix: string): string {
  return `${keyPrefix.slice(0, -1)}0`;
}
