// Owns the way in for front ends: one command over the local socket of a peer, its events as they come. The second public
// face of this room, apart from index.ts, because the command line must start fast and needs nothing else of the peer.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { decode, encode } from '../../protocols/codec.ts';
import {
  type CommandEvent,
  type CommandRequest,
  commandEventSchema,
  controlEventBytesMax,
} from '../../protocols/control.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { createFrameSplitter, encodeFrame } from './frames.ts';
import { checkSocketPath } from './socket-path.ts';

export { controlSocketPath } from './socket-path.ts';

export interface ControlClient {
  /**
   * Sends one command and yields its events; the last one is `end` or `error`. Leaving the loop or aborting the signal
   * stops following only: what the command asked for goes on.
   * @throws ParleyError `no-peer-here`, `permission-denied`, `socket-path-too-long`, `cancelled`, or `connection-lost`
   *   (retryable with the same request id) when the peer went away before the last event.
   */
  runCommand(request: CommandRequest, options: { readonly signal: AbortSignal }): AsyncIterable<CommandEvent>;
}

/** A client of the peer that listens at this path. Each command opens a connection of its own. */
export function connectControl(socketPath: string): ControlClient {
  return { runCommand: (request, options) => runCommand(socketPath, request, options.signal) };
}

async function* runCommand(path: string, request: CommandRequest, signal: AbortSignal): AsyncGenerator<CommandEvent> {
  checkSocketPath(path);
  if (signal.aborted) throw cancelled(request, signal);
  const socket = connect(path);
  const stop = () => socket.destroy();
  signal.addEventListener('abort', stop, { once: true });
  try {
    await connected(socket, path, signal, request);
    socket.write(encodeFrame(encode(request)));
    for await (const event of eventsOf(socket, path)) {
      yield event;
      if (event.kind === 'end' || event.kind === 'error') return;
    }
    if (signal.aborted) throw cancelled(request, signal);
    throw lost(path, undefined);
  } finally {
    signal.removeEventListener('abort', stop);
    socket.destroy();
  }
}

async function connected(socket: Socket, path: string, signal: AbortSignal, request: CommandRequest): Promise<void> {
  try {
    await once(socket, 'connect', { signal });
  } catch (cause) {
    if (signal.aborted) throw cancelled(request, signal);
    throw connectFailure(path, cause);
  }
}

async function* eventsOf(socket: Socket, path: string): AsyncGenerator<CommandEvent> {
  const splitter = createFrameSplitter(controlEventBytesMax, 'event');
  try {
    for await (const chunk of socket) {
      for (const body of splitter.push(chunk)) {
        yield decode(commandEventSchema, body, controlEventBytesMax, 'event');
      }
    }
  } catch (cause) {
    if (cause instanceof ParleyError) throw cause;
    if (!socket.destroyed || socket.errored !== null) throw lost(path, cause);
  }
}

function connectFailure(path: string, cause: unknown): ParleyError {
  const code = (cause as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return new ParleyError('no-peer-here', `no peer answers at '${path}': none is running with this state folder`, {
      cause,
      retryable: true,
      hint: 'Start one with `parley run --state DIR`, or name the state folder of a running peer.',
    });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new ParleyError('permission-denied', `local socket '${path}' cannot be opened: permission denied`, {
      cause,
      hint: 'Run the command as the user that the peer runs as, or as root.',
    });
  }
  return new ParleyError('no-peer-here', `local socket '${path}' cannot be opened: ${(cause as Error).message}`, {
    cause,
    hint: 'Check the path of the state folder (--state DIR).',
  });
}

function lost(path: string, cause: unknown): ParleyError {
  return new ParleyError('connection-lost', `the peer at '${path}' went away before it had answered in full`, {
    cause,
    retryable: true,
    hint: 'Ask again with the same id: a command is applied once. `tasks` shows what was started.',
  });
}

function cancelled(request: CommandRequest, signal: AbortSignal): ParleyError {
  return new ParleyError('cancelled', `following '${request.command.name}' stopped: cancelled by the caller`, {
    cause: signal.reason,
  });
}
