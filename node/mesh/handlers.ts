// Owns the protocols that this peer serves: who may open them, how many streams of each, and what happens when a handler is
// done or fails. A handler's failure costs its stream and nothing else.

import type { Libp2p } from 'libp2p';
import { ParleyError } from '../../protocols/errors.ts';
import { messageBytesMax as defaultMessageBytesMax } from '../../protocols/limits.ts';
import type { Clock, HandleOptions, Logger, MessageStream } from '../interfaces.ts';
import { grantThresholdBytes, windowBytes } from './framing-core.ts';
import type { Connection, Stream } from './host.ts';
import { createMessageStream, type ManagedStream } from './streams.ts';
import { strangerName, type Traffic } from './traffic.ts';

const inboundStreamsDefault = 16;
/** Our side bounds what it opens by what it waits for; libp2p's 64 would fail a busy peer. */
export const outboundStreamsMax = 1024;
/** After a handler is done the other side has this long to end its direction too. */
const lingerMs = 10_000;

export type Handler = (stream: MessageStream, connection: Connection) => Promise<void>;

export interface HandlersComponents {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly traffic: Traffic;
  readonly isMember: (peer: string) => boolean;
  readonly wasRemoved: (peer: string) => boolean;
}

export interface Handlers {
  add(protocol: string, handler: Handler, options?: HandleOptions): void;
  /** Registers everything with a host, also what is added later. */
  serve(host: Libp2p): Promise<void>;
  /** Wraps a stream that we opened. */
  wrapOutbound(stream: Stream, peer: string): ManagedStream;
}

interface Registration {
  readonly handler: Handler;
  readonly options: Required<HandleOptions>;
}

export function createHandlers({ clock, logger, traffic, isMember, wasRemoved }: HandlersComponents): Handlers {
  const registrations = new Map<string, Registration>();
  const openInbound = new Map<string, number>();
  let host: Libp2p | undefined;

  async function register(protocol: string, { options }: Registration): Promise<void> {
    const limits = { maxInboundStreams: options.inboundStreamsMax, maxOutboundStreams: outboundStreamsMax };
    await host?.handle(protocol, (stream, connection) => void serveStream(protocol, stream, connection), limits);
  }

  function isAdmitted(peer: string, admits: Required<HandleOptions>['admits']): boolean {
    return admits === 'anyone' || isMember(peer) || (admits === 'removed' && wasRemoved(peer));
  }

  async function serveStream(protocol: string, stream: Stream, connection: Connection): Promise<void> {
    const peer = connection.remotePeer.toString();
    const registration = registrations.get(protocol);
    const key = `${peer} ${protocol}`;
    const open = openInbound.get(key) ?? 0;
    if (registration === undefined || !isAdmitted(peer, registration.options.admits)) {
      const isKnown = wasRemoved(peer);
      logger[isKnown ? 'debug' : 'warn'](
        { peer, protocol },
        `a ${isKnown ? 'removed peer' : 'stranger'} tried to open a stream`,
      );
      stream.abort(new Error('members only'));
      return;
    }
    if (open >= registration.options.inboundStreamsMax) {
      logger.warn({ peer, protocol, open }, 'too many streams of one protocol');
      stream.abort(new Error('too many streams'));
      return;
    }
    openInbound.set(key, open + 1);
    const managed = wrap(stream, peer, registration.options.messageBytesMax);
    try {
      await registration.handler(managed, connection);
      const cancel = clock.after(lingerMs, () => managed.abort(new Error('the other side did not end')));
      await managed.finish();
      cancel();
    } catch (error) {
      const expected = error instanceof ParleyError && error.code === 'stream-closed';
      const fields = { peer, protocol, error: error instanceof Error ? error.message : String(error) };
      if (expected) logger.debug(fields, 'a served stream was closed');
      else logger.warn(fields, 'a handler failed');
      managed.abort(error instanceof Error ? error : new Error(String(error)));
    } finally {
      const left = (openInbound.get(key) ?? 1) - 1;
      if (left === 0) openInbound.delete(key);
      else openInbound.set(key, left);
    }
  }

  function wrap(stream: Stream, peer: string, messageBytesMax: number): ManagedStream {
    const { protocol } = stream;
    const count = traffic.counter(isMember(peer) ? peer : strangerName, protocol);
    const onViolation = (reason: string) => {
      const total = traffic.violation(isMember(peer) ? peer : strangerName);
      // Each power of two: whoever breaks the rules all day does not fill the log.
      if (Number.isInteger(Math.log2(total)))
        logger.warn({ peer, protocol, reason, total }, 'a stream broke the rules');
    };
    return createMessageStream(stream, { peer, messageBytesMax, count, onViolation });
  }

  return {
    add(protocol, handler, options = {}) {
      const messageBytesMax = options.messageBytesMax ?? defaultMessageBytesMax;
      const limit = windowBytes - grantThresholdBytes;
      if (registrations.has(protocol) || messageBytesMax > limit) {
        const state = registrations.has(protocol)
          ? 'it has a handler already'
          : `messages are limited to ${limit} bytes`;
        throw new ParleyError('bad-handler', `cannot handle '${protocol}': ${state}`);
      }
      const inboundStreamsMax = options.inboundStreamsMax ?? inboundStreamsDefault;
      const admits = options.admits ?? 'members';
      const registration = { handler, options: { messageBytesMax, inboundStreamsMax, admits } };
      registrations.set(protocol, registration);
      register(protocol, registration).catch((error) => logger.error({ protocol, error }, 'cannot handle a protocol'));
    },
    async serve(next) {
      host = next;
      for (const [protocol, registration] of registrations) await register(protocol, registration);
    },
    wrapOutbound(stream, peer) {
      const registration = registrations.get(stream.protocol);
      return wrap(stream, peer, registration?.options.messageBytesMax ?? defaultMessageBytesMax);
    },
  };
}
