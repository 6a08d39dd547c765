// Owns streams between peers of one process for the tests of control: whole messages both ways, an end, and a break that
// both sides see at once.

import type { MessageStream } from '../../node/interfaces.ts';
import { ParleyError } from '../../protocols/errors.ts';

interface Pipe {
  readonly messages: Uint8Array[];
  ended: boolean;
  failure: Error | undefined;
  wake: PromiseWithResolvers<void>;
}

/** Two ends of a stream between peers; aborting either end breaks both. */
export function streamPair(near: string, far: string): [MessageStream, MessageStream] {
  const there = createPipe();
  const back = createPipe();
  return [streamEnd(far, there, back), streamEnd(near, back, there)];
}

function createPipe(): Pipe {
  return { messages: [], ended: false, failure: undefined, wake: Promise.withResolvers<void>() };
}

function poke(pipe: Pipe): void {
  pipe.wake.resolve();
  pipe.wake = Promise.withResolvers<void>();
}

function streamEnd(peer: string, out: Pipe, incoming: Pipe): MessageStream {
  const closed = (cause: Error) => new ParleyError('stream-closed', 'the stream is gone', { retryable: true, cause });
  return {
    peer,
    async send(message) {
      await Promise.resolve();
      if (out.failure !== undefined) throw closed(out.failure);
      out.messages.push(message);
      poke(out);
    },
    async receive(options) {
      for (;;) {
        if (incoming.failure !== undefined) throw closed(incoming.failure);
        const message = incoming.messages.shift();
        if (message !== undefined) return message;
        if (incoming.ended) return undefined;
        options?.signal?.throwIfAborted();
        await wokenOrAborted(incoming, options?.signal);
      }
    },
    async close() {
      out.ended = true;
      poke(out);
    },
    abort(reason) {
      out.failure ??= reason;
      incoming.failure ??= reason;
      poke(out);
      poke(incoming);
    },
  };
}

async function wokenOrAborted(pipe: Pipe, signal: AbortSignal | undefined): Promise<void> {
  const aborted = Promise.withResolvers<void>();
  const onAbort = () => aborted.resolve();
  signal?.addEventListener('abort', onAbort);
  await Promise.race([pipe.wake.promise, aborted.promise]);
  signal?.removeEventListener('abort', onAbort);
}
