// Owns looking ahead without leaving a trace: a store whose changes stay in memory until they are to last.

import type { KeyValueStore } from '../interfaces.ts';

export interface TentativeStore extends KeyValueStore {
  /** Writes all changes so far to the disk, as one batch; `instead` to another store than the one below. */
  keep(instead?: KeyValueStore): Promise<void>;
}

/** Another store as it would be after changes that are all held in memory: for what is short and small beside it. Closing closes that one. */
export function createTentativeStore(store: KeyValueStore): TentativeStore {
  /** Undefined for what was deleted. */
  const changes = new Map<string, Uint8Array | undefined>();
  return {
    get: async (key) => (changes.has(key) ? changes.get(key) : store.get(key)),
    async batch(operations) {
      for (const operation of operations) {
        changes.set(operation.key, operation.type === 'put' ? operation.value.slice() : undefined);
      }
    },
    async range({ gte, lt, limit = Number.POSITIVE_INFINITY, reverse = false }) {
      const changed = [...changes].filter(([key]) => key >= gte && key < lt);
      const stored = await store.range({ gte, lt, limit: limit + changed.length, reverse });
      const pairs = new Map<string, Uint8Array | undefined>([...stored, ...changed]);
      const left = [...pairs].flatMap(([key, value]) =>
        value === undefined ? [] : [[key, value] as [string, Uint8Array]],
      );
      left.sort(([a], [b]) => (a < b ? -1 : 1));
      return (reverse ? left.reverse() : left).slice(0, limit);
    },
    keep(instead = store) {
      const operations = [...changes].map(([key, value]) =>
        value === undefined ? ({ type: 'del', key } as const) : ({ type: 'put', key, value } as const),
      );
      return instead.batch(operations, { sync: true });
    },
    close: () => store.close(),
  };
}
