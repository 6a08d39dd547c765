// Owns who watches the ledger: listeners are told of new states and certificates, in order, and none can hurt the ledger.

import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Logger } from '../interfaces.ts';

/** Listeners of one peer: more is a leak. */
const listenersMax = 10_000;

export interface Listeners<News extends { readonly index: number }> {
  add(listener: (news: News) => void): () => void;
  readonly tell: (news: News) => void;
}

export function createListeners<News extends { readonly index: number }>(logger: Logger): Listeners<News> {
  const listeners = new Set<{ readonly call: (news: News) => void }>();
  return {
    add(call) {
      if (listeners.size >= listenersMax) throw new Error('too many listeners of the ledger');
      const own = { call };
      listeners.add(own);
      return () => listeners.delete(own);
    },
    tell(news) {
      for (const { call } of [...listeners]) {
        try {
          call(news);
        } catch (error) {
          logger.error({ index: news.index, error: String(error) }, 'a listener of the ledger failed');
        }
      }
    },
  };
}

/** Resolves with the first state that the predicate accepts, the present one included. Rejects with the signal's reason or what the predicate throws. */
export async function waitForState(
  ledger: { readonly state: () => LedgerState; readonly onApplied: Listeners<LedgerState>['add'] },
  predicate: (state: LedgerState) => boolean,
  signal: AbortSignal,
): Promise<LedgerState> {
  signal.throwIfAborted();
  const present = ledger.state();
  if (predicate(present)) return present;
  const found = Promise.withResolvers<LedgerState>();
  const abort = (): void => found.reject(signal.reason);
  signal.addEventListener('abort', abort);
  const unsubscribe = ledger.onApplied((state) => {
    try {
      if (predicate(state)) found.resolve(state);
    } catch (error) {
      found.reject(error);
    }
  });
  try {
    return await found.promise;
  } finally {
    unsubscribe();
    signal.removeEventListener('abort', abort);
  }
}
