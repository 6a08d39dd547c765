// Owns a database that is opened at its first use, so that one that cannot be opened is noticed where it matters.

import type { KeyValueStore } from '../interfaces.ts';

export function createLazyStore(open: () => Promise<KeyValueStore>): KeyValueStore {
  let opening: Promise<KeyValueStore> | undefined;
  const opened = (): Promise<KeyValueStore> => {
    opening ??= open();
    return opening;
  };
  return {
    get: async (key) => (await opened()).get(key),
    batch: async (operations, options) => (await opened()).batch(operations, options),
    range: async (options) => (await opened()).range(options),
    close: async () => (await opening?.catch(() => undefined))?.close(),
  };
}
