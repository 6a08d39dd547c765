// Owns the merging of several asynchronous sequences into one, in the order in which their items come. Holds at most one
// item of each, so that a slow reader slows all of them down.

export interface Merged<T> {
  /** Adds a sequence while the items are being read. */
  add(source: AsyncIterable<T>): void;
  /** All items; ends when every sequence has ended or the signal is aborted. */
  items(): AsyncGenerator<T>;
}

export function mergeAsync<T>(signal: AbortSignal): Merged<T> {
  const ready: { readonly item: T; readonly taken: () => void }[] = [];
  let open = 0;
  let failure: { readonly error: unknown } | undefined;
  let changed = Promise.withResolvers<void>();

  async function drain(source: AsyncIterable<T>): Promise<void> {
    try {
      for await (const item of source) {
        const { promise, resolve } = Promise.withResolvers<void>();
        ready.push({ item, taken: resolve });
        changed.resolve();
        await promise;
        if (signal.aborted) return;
      }
    } catch (error) {
      failure ??= { error };
    } finally {
      open -= 1;
      changed.resolve();
    }
  }

  return {
    add(source) {
      open += 1;
      void drain(source);
    },
    async *items() {
      const onAbort = () => changed.resolve();
      signal.addEventListener('abort', onAbort);
      try {
        while (!signal.aborted) {
          const next = ready.shift();
          if (next !== undefined) {
            yield next.item;
            next.taken();
          } else if (failure !== undefined) throw failure.error;
          else if (open === 0) return;
          else {
            changed = Promise.withResolvers<void>();
            await changed.promise;
          }
        }
      } finally {
        signal.removeEventListener('abort', onAbort);
        for (const { taken } of ready) taken();
      }
    },
  };
}
