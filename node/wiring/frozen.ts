// Owns the alarm of a peer that has seen two records of one generation: it obeys no order (the device's part) and says so,
// loudly, until people have begun another generation.

import type { Clock, Logger, Startable } from '../interfaces.ts';

const sayPeriodMs = 60_000;

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
