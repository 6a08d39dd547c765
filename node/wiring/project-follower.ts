// Owns that every peer with the repository follows the ledger's project: commits are made here from their intents, and what
// was committed while this peer was away is fetched. So any voter can lead, and any builder can build.

import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { Clock, Logger, Startable } from '../interfaces.ts';
import type { Project } from '../project/index.ts';

export interface ProjectFollower extends Startable {
  /** Whether the ledger names a head that this peer has not come to yet. */
  isBehind(): boolean;
  /** Called when it has come to another head. */
  onCaughtUp(listener: () => void): void;
}

const retryMs = 2_000;

export function createProjectFollower(components: {
  readonly project: Pick<Project, 'head' | 'executeCommit' | 'ensureRevision'>;
  readonly ledger: { state(): LedgerState; onApplied(listener: (state: LedgerState) => void): () => void };
  readonly clock: Clock;
  readonly logger: Logger;
}): ProjectFollower {
  const { project, ledger, clock, logger } = components;
  let stopping = new AbortController();
  let unsubscribe: (() => void) | undefined;
  let cancelRetry: (() => void) | undefined;
  let following: Promise<void> | undefined;
  let seen: LedgerState | undefined;
  let head: string | null = null;
  const listeners: (() => void)[] = [];

  function notice(state: LedgerState): void {
    if (state.head === seen?.head && state.tasks === seen?.tasks) return;
    seen = state;
    follow();
  }

  /** One pass at a time; a change during a pass asks for another one. */
  function follow(): void {
    following ??= pass().finally(() => {
      following = undefined;
    });
  }

  async function pass(): Promise<void> {
    let done: LedgerState | undefined;
    while (done !== seen && !stopping.signal.aborted) {
      done = seen;
      try {
        await catchUp(ledger.state());
      } catch (error) {
        if (stopping.signal.aborted) return;
        logger.warn({ error: String(error) }, 'the project could not follow the ledger');
        cancelRetry = clock.after(retryMs, follow);
        return;
      }
    }
  }

  async function catchUp(state: LedgerState): Promise<void> {
    const { signal } = stopping;
    if (state.head !== null && (await project.head()) !== state.head)
      await project.ensureRevision(state.head, { signal });
    if (head !== state.head) {
      head = state.head;
      for (const listener of listeners) listener();
    }
    const intent = Object.values(state.tasks).find((task) => task.commit !== null && task.outcome === null)?.commit;
    if (intent) await project.executeCommit(intent, { signal });
  }

  return {
    isBehind: () => ledger.state().head !== head,
    onCaughtUp: (listener) => void listeners.push(listener),
    async start() {
      stopping = new AbortController();
      unsubscribe = ledger.onApplied(notice);
      notice(ledger.state());
    },
    async stop() {
      unsubscribe?.();
      cancelRetry?.();
      stopping.abort();
      await following;
    },
  };
}
