// Owns what is different about a peer that has seen two records of one generation: it obeys no order and says so, loudly,
// until people have begun another generation.

import type { Clock, Logger, Startable } from '../interfaces.ts';

const sayPeriodMs = 60_000;

/** The ledger as the device of such a peer sees it: nothing in it is proven. */
export function obeying<L extends { certification(): { certifiedIndex(): number } }>(
  frozen: string | undefined,
  ledger: L,
): Omit<L, 'certification'> & { certification(): { certifiedIndex(): number } } {
  return frozen === undefined ? ledger : { ...ledger, certification: () => ({ certifiedIndex: () => 0 }) };
}

export function createFrozenAlarm(
  frozen: string | undefined,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): Startable {
  let stop = (): void => undefined;
  const say = (): void =>
    logger.error(
      { reason: frozen },
      'this peer is frozen and obeys no order until the fleet begins another generation',
    );
  return {
    async start() {
      if (frozen === undefined) return;
      stop();
      say();
      stop = clock.every(sayPeriodMs, say);
    },
    async stop() {
      stop();
    },
  };
}
