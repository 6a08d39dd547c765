// Owns the start of a peer's ledger: a store that is damaged is told of before the peer gives up starting.

import { ParleyError } from '../../protocols/errors.ts';
import type { Startable } from '../interfaces.ts';

export function createLedgerStart(components: {
  readonly ledger: Startable;
  readonly onDamage: (error: Error) => void;
}): Startable {
  const { ledger, onDamage } = components;
  return {
    async start() {
      try {
        await ledger.start();
      } catch (error) {
        if (error instanceof ParleyError && error.code === 'store-damaged') onDamage(error);
        throw error;
      }
    },
    stop: () => ledger.stop(),
  };
}
