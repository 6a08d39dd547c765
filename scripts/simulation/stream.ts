// Owns one simulated stream: two pipes that keep their order. A message that is lost takes the stream with it: both ends
// learn that later, each in its time, and nothing arrives in between.

import type { MessageStream } from '../../node/interfaces.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Node } from './network.ts';

export interface StreamInit {
  /** Who opened it. */
  readonly near: Node;
  readonly far: Node;
  readonly protocol: string;
  readonly isLost: (from: Node, to: Node) => boolean;
  readonly delayMs: (from: Node, to: Node) => number;
  /** After which silence a side takes the stream for broken. */
  readonly noticeMs: () => number;
  readonly nowMs: () => number;
  readonly schedule: (delayMs: number, owner: Node, label: string, run: () => void) => void;
  readonly onSend: (from: Node, to: Node, bytes: Uint8Array) => Uint8Array;
  readonly onGone: () => void;
}

/** The network's hold on a stream. */
export interface Link {
  /** `node` sees the stream broken if it leads to that run of `other`. */
  breakFor(node: Node, other: Node): void;
  /** Hands a message to one side as if the other had sent it. */
  deliver(to: Node, bytes: Uint8Array): void;
}

/** What one side has received and not read. */
class Inbox {
  readonly #messages: Uint8Array[] = [];
  #hasEnded = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  get isBroken(): boolean {
    return this.#error !== undefined;
  }

  push(bytes: Uint8Array): void {
    this.#messages.push(bytes);
    this.#wake?.();
  }

  end(): void {
    this.#hasEnded = true;
    this.#wake?.();
  }

  break(reason: string): void {
    this.#error ??= new ParleyError('stream-closed', reason, { retryable: true });
    this.#wake?.();
  }

  requireWhole(): void {
    if (this.#error) throw this.#error;
  }

  async next(signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
    for (;;) {
      signal?.throwIfAborted();
      this.requireWhole();
      const message = this.#messages.shift();
      if (message !== undefined) return message;
      if (this.#hasEnded) return undefined;
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          signal?.removeEventListener('abort', wake);
          resolve();
        };
        this.#wake = wake;
        signal?.addEventListener('abort', wake);
      });
    }
  }
}

export function createStream(init: StreamInit): { ours: MessageStream; theirs: MessageStream; link: Link } {
  const { near, far, protocol, schedule } = init;
  const inboxes = new Map([near, far].map((node) => [node, new Inbox()]));
  const inboxOf = (node: Node): Inbox => inboxes.get(node) ?? new Inbox();
  const arrivesMs = new Map<Node, number>();
  let isDoomed = false;

  function breakAt(node: Node, reason: string): void {
    inboxOf(node).break(reason);
    if (inboxOf(near).isBroken && inboxOf(far).isBroken) init.onGone();
  }

  /** Nothing gets through any more, and neither side knows yet. */
  function doom(): void {
    if (isDoomed) return;
    isDoomed = true;
    for (const node of [near, far]) {
      schedule(init.noticeMs(), node, `loses ${protocol}`, () => breakAt(node, 'nothing comes through any more'));
    }
  }

  /** Something travels behind all that was sent before it. */
  function travel(from: Node, to: Node, label: string, arrive: () => void): void {
    if (!isDoomed && init.isLost(from, to)) doom();
    if (isDoomed) return;
    const nowMs = init.nowMs();
    const atMs = Math.max(arrivesMs.get(to) ?? 0, nowMs + init.delayMs(from, to));
    arrivesMs.set(to, atMs);
    schedule(atMs - nowMs, to, label, () => {
      if (!isDoomed) arrive();
    });
  }

  function endOf(self: Node, other: Node): MessageStream {
    const inbox = inboxOf(self);
    return {
      peer: other.peer,
      async send(message) {
        inbox.requireWhole();
        if (!self.life.isAlive) return;
        const bytes = init.onSend(self, other, new Uint8Array(message));
        travel(self, other, `gets ${bytes.byteLength} of ${protocol}`, () => inboxOf(other).push(bytes));
      },
      receive: (options) => inbox.next(options?.signal),
      async close() {
        travel(self, other, `sees the end of ${protocol}`, () => inboxOf(other).end());
      },
      abort(reason) {
        if (inbox.isBroken) return;
        breakAt(self, reason.message);
        travel(self, other, `sees ${protocol} reset`, () => breakAt(other, 'reset by the other side'));
      },
    };
  }

  return {
    ours: endOf(near, far),
    theirs: endOf(far, near),
    link: {
      breakFor(node, other) {
        const isOurs = (node === near && other === far) || (node === far && other === near);
        if (isOurs) breakAt(node, 'the connection broke');
      },
      deliver: (to, bytes) => inboxOf(to).push(bytes),
    },
  };
}
