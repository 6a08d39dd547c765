// Owns one question to another peer and its answer: a stream of their own, and no longer than the time that is given.

import { encode } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { within } from '../waiting.ts';
import type { DeviceComponents } from './device-types.ts';

interface Exchange<Answer> {
  readonly peer: string;
  readonly protocol: string;
  /** Dials anew, so that the answer shows that the peer can be reached now. */
  readonly fresh?: boolean;
  readonly question: object;
  readonly limitMs: number;
  /** Ends the exchange sooner. */
  readonly outer: AbortSignal;
  /** Checks the answer's bytes. Throws for what is none to the question. */
  readonly read: (message: Uint8Array) => Answer;
}

/** Asks a peer once. @throws what the mesh or `read` throws; ParleyError `stream-closed` (retryable); Error when it takes too long. */
export async function exchange<Answer>(
  { mesh, clock }: Pick<DeviceComponents, 'mesh' | 'clock'>,
  { peer, protocol, fresh = false, question, limitMs, outer, read }: Exchange<Answer>,
): Promise<Answer> {
  const late = (): Error => new Error(`no answer within ${limitMs} ms`);
  return within({ clock, limitMs, late, outer }, async (signal) => {
    const stream = await mesh.open(peer, protocol, { signal, fresh });
    try {
      await stream.send(encode(question));
      const message = await stream.receive({ signal });
      if (message === undefined)
        throw new ParleyError('stream-closed', 'closed without an answer', { retryable: true });
      const answer = read(message);
      await stream.close();
      return answer;
    } catch (error) {
      stream.abort(error as Error);
      throw error;
    }
  });
}
