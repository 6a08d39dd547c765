// Owns the proof that a device still reaches the others with its new system: it dials those that it reached before, each
// answer is signed over the nonce, the order, the closure and the boot, and any one suffices. No controller is needed.

import { decode, encode } from '../../protocols/codec.ts';
import {
  type ConfirmationAnswer,
  type ConfirmationRequest,
  confirmationAnswerSchema,
  confirmationBytesMax,
  confirmationProtocol,
  confirmationRequestSchema,
  confirmationSigningBytes,
} from '../../protocols/confirmation.ts';
import { fromErrorRecord, ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { MessageStream } from '../interfaces.ts';
import { pause, within } from '../waiting.ts';
import type { DeviceComponents } from './device-types.ts';
import { exchange } from './exchange.ts';
import { explain } from './job.ts';

const nonceBytes = 32;
/** One try: dialling, a round trip, an answer. */
const tryMs = 5_000;
/** Between tries; far below the window, or a healthy device would be rolled back (Thymis's back-off was as long as its window). */
const retryMs = 500;

type ConfirmationComponents = Pick<
  DeviceComponents,
  'mesh' | 'clock' | 'randomBytes' | 'verifySignature' | 'identity' | 'ledger'
>;

export interface ConfirmationWish {
  readonly self: string;
  readonly confirmers: readonly string[];
  readonly order: number;
  readonly closure: string;
  readonly bootId: string;
  readonly windowMs: number;
  /** Aborts when the peer stops. */
  readonly signal: AbortSignal;
}

/**
 * Asks all confirmers until one has confirmed.
 * @returns the peer that confirmed, or why none did within the window.
 */
export async function seekConfirmation(
  components: ConfirmationComponents,
  wish: ConfirmationWish,
): Promise<{ readonly confirmer: string } | { readonly failure: string }> {
  const { clock } = components;
  const done = new AbortController();
  const closeWindow = clock.after(wish.windowMs, () => done.abort(new Error('the time to confirm is over')));
  const signal = AbortSignal.any([wish.signal, done.signal]);
  const failures = new Map<string, string>();

  async function ask(confirmer: string): Promise<string> {
    for (;;) {
      try {
        await askOnce(components, wish, confirmer, signal);
        return confirmer;
      } catch (error) {
        signal.throwIfAborted();
        failures.set(confirmer, explain(error));
        await pause(clock, retryMs, signal);
      }
    }
  }

  try {
    return { confirmer: await Promise.any(wish.confirmers.map(ask)) };
  } catch {
    wish.signal.throwIfAborted();
    const asked = wish.confirmers.map((peer) => `'${peer}' (${failures.get(peer) ?? 'no answer'})`);
    return { failure: `no peer confirmed it within ${wish.windowMs} ms; asked ${asked.join(', ')}` };
  } finally {
    closeWindow();
    done.abort(new Error('the confirmation is over'));
  }
}

async function askOnce(
  components: ConfirmationComponents,
  { self, order, closure, bootId }: ConfirmationWish,
  confirmer: string,
  outer: AbortSignal,
): Promise<void> {
  const { randomBytes, verifySignature } = components;
  const request: ConfirmationRequest = { version: 1, nonce: randomBytes(nonceBytes), order, closure, bootId };
  const to = { peer: confirmer, protocol: confirmationProtocol, fresh: true, limitMs: tryMs, outer };
  const read = (message: Uint8Array): void => {
    const answer = decode(confirmationAnswerSchema, message, confirmationBytesMax, 'confirmation');
    if (answer.kind === 'error') throw fromErrorRecord(answer.error);
    const signed = confirmationSigningBytes({ confirmer, device: self, request, atMs: answer.atMs });
    if (!verifySignature(confirmer, signed, answer.signature)) {
      throw new ParleyError('malformed', `the confirmation of '${confirmer}' is not signed by it`);
    }
  };
  await exchange(components, { ...to, question: request, read });
}

/** Those of the peers that can be dialled afresh now: only they can confirm later. */
export async function reachableAfresh(
  { mesh, clock }: Pick<ConfirmationComponents, 'mesh' | 'clock'>,
  peers: readonly string[],
  outer: AbortSignal,
): Promise<string[]> {
  const late = (): Error => new Error(`not reached within ${tryMs} ms`);
  const tried = await within({ clock, limitMs: tryMs, late, outer }, (signal) =>
    Promise.allSettled(
      peers.map(async (peer) => {
        const stream = await mesh.open(peer, confirmationProtocol, { signal, fresh: true });
        await stream.close();
      }),
    ),
  );
  outer.throwIfAborted();
  return peers.filter((_, index) => tried[index]?.status === 'fulfilled');
}

/** Answers `/parley/confirm/1` from now on. */
export function serveConfirmations(self: string, components: ConfirmationComponents): void {
  const { mesh, clock, identity, ledger } = components;

  function answer(device: string, message: Uint8Array): ConfirmationAnswer {
    try {
      const request = decode(confirmationRequestSchema, message, confirmationBytesMax, 'confirmation request');
      const state = ledger.state();
      const host = state.members[device]?.name;
      const order = host === undefined ? undefined : state.orders[host];
      // A replica that lags knows less; one that knows this number must know it with this closure.
      if (order?.number === request.order && order.closure !== request.closure) {
        throw new ParleyError('order-conflict', `order ${request.order} of '${host}' is for '${order.closure}' here`);
      }
      const atMs = clock.nowMs();
      const signature = identity.sign(confirmationSigningBytes({ confirmer: self, device, request, atMs }));
      return { kind: 'confirmed', atMs, signature };
    } catch (error) {
      return { kind: 'error', error: toErrorRecord(error) };
    }
  }

  const handler = async (stream: MessageStream) => {
    const late = (): Error => new Error(`no request within ${tryMs} ms`);
    const message = await within({ clock, limitMs: tryMs, late }, (signal) => stream.receive({ signal }));
    if (message === undefined) return;
    await stream.send(encode(answer(stream.peer, message)));
    await stream.close();
  };
  mesh.handle(confirmationProtocol, handler, { messageBytesMax: 4 * confirmationBytesMax, inboundStreamsMax: 4 });
}
