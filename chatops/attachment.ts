// Owns which peer a front end talks to. Several sockets may be given; when the attached peer dies, or does not vote where a voter
// is needed, the same request, with the same id, goes to the next one, where a command that was already applied gives the same
// answer.

import { setTimeout as wait } from 'node:timers/promises';
import type { Clock } from '../node/interfaces.ts';
import type { CommandEvent, CommandRequest } from '../protocols/control.ts';
import { type ErrorRecord, fromErrorRecord, ParleyError } from '../protocols/errors.ts';

/** What a front end needs of node/control/client.ts. */
export type ConnectControl = (socketPath: string) => {
  runCommand(request: CommandRequest, options: { readonly signal: AbortSignal }): AsyncIterable<CommandEvent>;
};

export interface Attachment {
  /** Runs a command on the attached peer; the last event is `end` or `error`. Aborting detaches: the command goes on. */
  run(request: CommandRequest, options: { readonly signal: AbortSignal }): AsyncIterable<CommandEvent>;
}

export interface AttachmentInit {
  /** Sockets in the order in which they are tried; asked anew at each attempt. At least one. */
  readonly sockets: () => readonly string[];
  /** How long peers that do not answer are asked again. */
  readonly patienceMs: number;
}

export interface AttachmentComponents {
  readonly connect: ConnectControl;
  readonly clock: Pick<Clock, 'monotonicMs'>;
}

/** Between two rounds over all sockets. */
const roundPauseMs = 250;
/** Codes that say "this peer could not carry it to the end": another peer, or the same one later, may know the answer. */
const tryElsewhere: readonly string[] = ['no-peer-here', 'connection-lost', 'outcome-unknown', 'no-controller'];
/** Code of a refusal by a peer's place in the fleet: another one may do it, the same one will not for being asked again. */
const notVoter = 'not-a-voter';

export const createAttachment =
  (init: AttachmentInit) =>
  ({ connect, clock }: AttachmentComponents): Attachment => {
    let attached: string | undefined;

    async function* run(request: CommandRequest, { signal }: { readonly signal: AbortSignal }) {
      const patience = createPatience(init.patienceMs, clock);
      for (;;) {
        const failures: ParleyError[] = [];
        for (const socket of inOrder(init.sockets(), attached)) {
          for await (const event of attempt(socket, request, signal, failures)) {
            yield event;
            if (event.kind === 'end' || event.kind === 'error') return;
          }
        }
        const error = failures[0] ?? new ParleyError('no-peer-here', 'no peer to ask: no local socket is known');
        const isRefused = failures.length > 0 && failures.every(({ code }) => code === notVoter);
        if (isRefused || patience.isOver()) throw error;
        yield { kind: 'progress', text: `asking again: ${error.message}`.slice(0, 200) } as const;
        await wait(roundPauseMs, undefined, { signal }).catch(() => {});
        if (signal.aborted) throw new ParleyError('cancelled', 'following stopped: cancelled by the caller');
      }
    }

    async function* attempt(
      socket: string,
      request: CommandRequest,
      signal: AbortSignal,
      failures: ParleyError[],
    ): AsyncGenerator<CommandEvent> {
      try {
        for await (const event of connect(socket).runCommand(request, { signal })) {
          if (event.kind === 'error' && isForOthers(event.error)) throw fromErrorRecord(event.error);
          attached = socket;
          yield event;
        }
      } catch (error) {
        if (!(error instanceof ParleyError) || ![...tryElsewhere, notVoter].includes(error.code)) throw error;
        failures.push(error);
        if (attached === socket) attached = undefined;
      }
    }

    return { run };
  };

const isForOthers = ({ code, retryable }: ErrorRecord): boolean =>
  code === notVoter || (retryable && tryElsewhere.includes(code));

function inOrder(sockets: readonly string[], attached: string | undefined): readonly string[] {
  if (attached === undefined || !sockets.includes(attached)) return sockets;
  return [attached, ...sockets.filter((socket) => socket !== attached)];
}

/** Failures that follow each other within the patience count as one trouble; it is over when that has lasted too long. */
function createPatience(patienceMs: number, clock: Pick<Clock, 'monotonicMs'>) {
  let sinceMs: number | undefined;
  let lastMs = 0;
  return {
    isOver(): boolean {
      const nowMs = clock.monotonicMs();
      if (sinceMs === undefined || nowMs - lastMs > patienceMs) sinceMs = nowMs;
      lastMs = nowMs;
      return nowMs - sinceMs >= patienceMs;
    },
  };
}
