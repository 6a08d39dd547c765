// Owns the way back of a peer that was away while everybody whom it knows was removed or replaced. It can dial nobody, but who
// belongs to the fleet now dials it. After a while without anybody it has strangers come in for a moment and asks them who
// votes now. They are believed nothing: what they prove by certificates counts, and the rest is forgotten.

import type { Clock, Logger, Mesh } from '../interfaces.ts';

/** Nobody who is only slow, or starts anew, stays away for so long. */
const aloneMs = 60_000;
/** A stranger stays no longer. */
const askMs = 15_000;
const askedMax = 4;

export interface WayBack {
  /** True while strangers are to come in. */
  asksStrangers(): boolean;
  meet(stranger: string): void;
  stop(): Promise<void>;
}

export function createWayBack(init: {
  readonly mesh: Pick<Mesh, 'connectedPeers' | 'onPeerChange'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly isMember: (peer: string) => boolean;
  /** How many others this peer would be connected to. */
  readonly wantedCount: () => number;
  /** Follows the changes of voters on this peer until the function that it returns is called. */
  readonly ask: (stranger: string) => () => Promise<void>;
}): WayBack {
  const { mesh, clock, logger, isMember, wantedCount, ask } = init;
  const asked = new Map<string, () => Promise<void>>();
  const ending = new Set<Promise<void>>();
  let isLeft = false;
  let cancel: (() => void) | undefined;
  const isAlone = (): boolean => wantedCount() > 0 && !mesh.connectedPeers().some(({ peer }) => isMember(peer));

  function look(): void {
    if (isAlone()) {
      cancel ??= clock.after(aloneMs, leave);
      return;
    }
    cancel?.();
    cancel = undefined;
    isLeft = false;
  }

  function leave(): void {
    isLeft = true;
    const hint =
      'Whoever dials this peer is asked who votes now. If nobody does, remove it from the fleet and enrol it anew.';
    logger.warn({ wanted: wantedCount(), hint }, 'nobody that this peer knows has been there for a while');
  }

  function forget(stranger: string): void {
    const ended = asked.get(stranger)?.();
    asked.delete(stranger);
    if (ended === undefined) return;
    ending.add(ended);
    void ended.finally(() => ending.delete(ended));
  }

  const unsubscribe = mesh.onPeerChange(look);
  look();
  return {
    asksStrangers: () => isLeft && isAlone(),
    meet(stranger) {
      if (!isLeft || asked.has(stranger) || asked.size >= askedMax) return;
      const stopAsking = ask(stranger);
      const cancelEnd = clock.after(askMs, () => forget(stranger));
      asked.set(stranger, () => {
        cancelEnd();
        return stopAsking();
      });
    },
    async stop() {
      unsubscribe();
      cancel?.();
      for (const stranger of [...asked.keys()]) forget(stranger);
      await Promise.all(ending);
    },
  };
}
