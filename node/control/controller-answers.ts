// Owns the messages on a stream between the asking peer and the controller: events in parts, since a view may be larger than
// one message, and the word that another peer leads.

import { decode, encode } from '../../protocols/codec.ts';
import {
  type CommandEvent,
  type ControlAnswer,
  commandEventSchema,
  controlAnswerSchema,
  controlEventBytesMax,
  controlPartBytesMax,
} from '../../protocols/control.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { MessageStream } from '../interfaces.ts';

const answerBytesMax = controlPartBytesMax + 1024;

/** Ends one attempt: another peer leads, or nobody could be asked. */
export class Redirected extends Error {
  readonly controller: string | null;
  /** True where the asked peer may have begun. */
  readonly mayHaveBegun: boolean;
  constructor(controller: string | null, mayHaveBegun: boolean, cause?: unknown) {
    super('the asked peer does not lead', { cause });
    this.controller = controller;
    this.mayHaveBegun = mayHaveBegun;
  }
}

export type ReadAnswer =
  | { readonly kind: 'done'; readonly ledgerIndex: number }
  | { readonly kind: 'event'; readonly event: CommandEvent };

/** @throws Redirected, ParleyError `malformed` or `too-large`, and what the stream throws. */
export async function readAnswer(stream: MessageStream, signal: AbortSignal): Promise<ReadAnswer> {
  const parts: Uint8Array[] = [];
  let byteCount = 0;
  for (;;) {
    const message = await stream.receive({ signal });
    if (message === undefined) throw new Redirected(null, true, 'the stream ended before the last event');
    const answer = decode(controlAnswerSchema, message, answerBytesMax, "the controller's answer");
    if (answer.kind === 'done') return answer;
    if (answer.kind === 'redirect') throw new Redirected(answer.controller, false);
    parts.push(answer.bytes);
    byteCount += answer.bytes.byteLength;
    if (byteCount > controlEventBytesMax)
      throw new ParleyError('too-large', `an event has more than ${byteCount} bytes`);
    if (answer.last) {
      const event = decode(commandEventSchema, Buffer.concat(parts), controlEventBytesMax, 'event');
      return { kind: 'event', event };
    }
  }
}

export async function sendEvent(stream: MessageStream, event: CommandEvent): Promise<void> {
  const bytes = encode(event);
  for (let at = 0; at === 0 || at < bytes.byteLength; at += controlPartBytesMax) {
    const part = bytes.subarray(at, at + controlPartBytesMax);
    const last = at + controlPartBytesMax >= bytes.byteLength;
    await stream.send(encode({ kind: 'part', bytes: part, last } satisfies ControlAnswer));
  }
}
