// Owns our side of an answer: signs of life while there is nothing to send, an end for readers that stop reading, and the
// news that the asker has gone.

import type { ClosureAnswer } from '../../protocols/closure-exchange.ts';
import { closureWaitingPeriodMs } from '../../protocols/closure-exchange.ts';
import { encode } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Clock, MessageStream } from '../interfaces.ts';

/** A reader that takes no byte for this long holds a serving slot for nothing. */
const sendTimeoutMs = 60_000;

export interface AnswerStream {
  /** Aborts when the asker is gone. */
  readonly signal: AbortSignal;
  send(answer: ClosureAnswer): Promise<void>;
  /** Ends the signs of life; further answers belong to the next request. */
  stop(): void;
}

export function createAnswerStream(stream: MessageStream, clock: Clock): AnswerStream {
  const controller = new AbortController();
  let quietSinceMs = clock.monotonicMs();
  let sending = 0;

  async function send(answer: ClosureAnswer): Promise<void> {
    sending += 1;
    const cancel = clock.after(sendTimeoutMs, () => {
      stream.abort(new ParleyError('stalled', `${stream.peer} took nothing for ${sendTimeoutMs} ms`));
    });
    try {
      await stream.send(encode(answer));
    } catch (error) {
      controller.abort(error);
      throw error;
    } finally {
      cancel();
      sending -= 1;
      quietSinceMs = clock.monotonicMs();
    }
  }

  const stop = clock.every(closureWaitingPeriodMs, () => {
    if (sending > 0 || clock.monotonicMs() - quietSinceMs < closureWaitingPeriodMs / 2) return;
    send({ kind: 'waiting' }).catch(() => {});
  });

  return { signal: controller.signal, send, stop };
}
