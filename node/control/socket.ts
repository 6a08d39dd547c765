// Owns the local socket that every front end uses: who may connect is decided by the file's mode (0600), what comes in is
// bounded and checked, what goes out waits for the reader. A connection carries one command after another; closing it
// stops the following, never the task.

import { once } from 'node:events';
import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { decode, encode } from '../../protocols/codec.ts';
import {
  type CommandEvent,
  type CommandRequest,
  commandBytesMax,
  commandRequestSchema,
  controlEventBytesMax,
} from '../../protocols/control.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { Clock, Logger, Startable } from '../interfaces.ts';
import { createFrameSplitter, encodeFrame } from './frames.ts';
import { checkSocketPath } from './socket-path.ts';

/** Connections at once: a handful of people, the chat adapters and `watch`es; each holds at most one frame of 64 KiB. */
const clientsMaxDefault = 64;
/** Commands that a client may send ahead of the one that runs. */
const pipelinedMax = 8;
/** A client that has sent nothing whole for this long gives its place to others. */
const idleMsDefault = 60_000;

export interface ControlSocketInit {
  readonly path: string;
  readonly clientsMax?: number;
  readonly idleMs?: number;
}

export interface ControlSocketComponents {
  readonly logger: Logger;
  readonly clock: Clock;
  /** Carries out one command; its events end with `end` or `error`. */
  readonly run: (request: CommandRequest, signal: AbortSignal) => AsyncIterable<CommandEvent>;
}

/**
 * The local socket. `start` replaces the socket of a dead peer and rejects with ParleyError `socket-path-too-long`,
 * `socket-in-use` (a living peer answers there) or `socket-blocked` (something else lies at that path).
 */
export const createControlSocket =
  (init: ControlSocketInit) =>
  (components: ControlSocketComponents): Startable => {
    const { logger } = components;
    const clientsMax = init.clientsMax ?? clientsMaxDefault;
    const clients = new Set<Socket>();
    let server: Server | undefined;

    function accept(socket: Socket): void {
      socket.on('error', (error) => logger.debug({ error: error.message }, 'local client failed'));
      if (clients.size >= clientsMax) {
        const error = new ParleyError('too-many-clients', `the local socket serves ${clientsMax} clients: all taken`, {
          retryable: true,
          hint: 'Close other consoles or `watch`es, then try again.',
        });
        socket.end(encodeFrame(encode({ kind: 'error', error: toErrorRecord(error) })));
        socket.resume();
        return;
      }
      clients.add(socket);
      socket.once('close', () => clients.delete(socket));
      serveClient(socket, { ...components, idleMs: init.idleMs ?? idleMsDefault }).catch((error: unknown) => {
        logger.warn({ error: (error as Error).message }, 'local client dropped');
        socket.destroy();
      });
    }

    return {
      async start() {
        if (server !== undefined) return;
        checkSocketPath(init.path);
        await removeStaleSocket(init.path);
        server = createServer(accept);
        await listen(server, init.path);
        await chmod(init.path, 0o600);
      },
      async stop() {
        const stopping = server;
        if (stopping === undefined) return;
        server = undefined;
        const closed = once(stopping, 'close');
        stopping.close();
        for (const socket of clients) socket.destroy();
        await closed;
      },
    };
  };

/** Listens with a mask that never lets others in, not even between making the file and its chmod. */
async function listen(server: Server, path: string): Promise<void> {
  const listening = once(server, 'listening');
  const mask = process.umask(0o177);
  try {
    server.listen(path);
  } finally {
    process.umask(mask);
  }
  await listening;
}

async function removeStaleSocket(path: string): Promise<void> {
  const stats = await lstat(path).catch(() => undefined);
  if (stats === undefined) return;
  if (!stats.isSocket()) {
    throw new ParleyError('socket-blocked', `local socket '${path}' cannot be made: another file lies there`, {
      hint: 'Move that file away, then start the peer again.',
    });
  }
  if (await answers(path)) {
    throw new ParleyError('socket-in-use', `local socket '${path}' cannot be made: a running peer answers there`, {
      hint: 'Use the peer that runs, or stop it first.',
    });
  }
  await unlink(path);
}

async function answers(path: string): Promise<boolean> {
  const probe = connect(path);
  try {
    await once(probe, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    probe.destroy();
  }
}

interface ClientContext extends ControlSocketComponents {
  readonly idleMs: number;
}

/** Serves one connection until it closes, sends something that is no command, or stays silent for too long. */
async function serveClient(socket: Socket, context: ClientContext): Promise<void> {
  const gone = new AbortController();
  const splitter = createFrameSplitter(commandBytesMax, 'command');
  const waiting: Uint8Array[] = [];
  let running = false;
  let cancelIdle = armIdle();
  socket.once('close', () => {
    cancelIdle();
    gone.abort(new ParleyError('cancelled', 'the local client went away'));
  });

  function armIdle(): () => void {
    return context.clock.after(context.idleMs, () => {
      void refuse(
        new ParleyError('timed-out', `no command came within ${context.idleMs / 1000} s`, { retryable: true }),
      );
    });
  }

  async function refuse(error: unknown): Promise<void> {
    socket.pause();
    waiting.length = 0;
    await send(socket, { kind: 'error', error: toErrorRecord(error) }).catch(() => undefined);
    socket.end();
    context.clock.after(1_000, () => socket.destroy());
  }

  async function work(): Promise<void> {
    if (running) return;
    running = true;
    cancelIdle();
    for (let body = waiting.shift(); body !== undefined && !gone.signal.aborted; body = waiting.shift()) {
      await answer(socket, body, context, gone.signal);
    }
    running = false;
    if (!gone.signal.aborted) cancelIdle = armIdle();
  }

  socket.on('data', (chunk) => {
    try {
      for (const body of splitter.push(chunk)) {
        if (waiting.length >= pipelinedMax) {
          throw new ParleyError('too-large', `more than ${pipelinedMax} commands wait on one connection`);
        }
        waiting.push(body);
      }
    } catch (error) {
      void refuse(error);
      return;
    }
    if (waiting.length > 0) work().catch((error: unknown) => refuse(error));
  });
  await once(gone.signal, 'abort');
}

/** One command: its events in order, at the reader's pace. A request that is no command ends the connection. */
async function answer(socket: Socket, body: Uint8Array, context: ClientContext, signal: AbortSignal): Promise<void> {
  const request = decode(commandRequestSchema, body, commandBytesMax, 'command');
  try {
    for await (const event of context.run(request, signal)) await send(socket, event);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ParleyError))
      context.logger.error({ error, command: request.command.name }, 'command broke');
    await send(socket, { kind: 'error', error: toErrorRecord(error) });
  }
}

async function send(socket: Socket, event: CommandEvent): Promise<void> {
  let body = encode(event);
  if (body.byteLength > controlEventBytesMax) {
    const error = new ParleyError(
      'too-large',
      `the answer has ${body.byteLength} bytes: the limit is ${controlEventBytesMax}`,
    );
    body = encode({ kind: 'error', error: toErrorRecord(error) });
  }
  if (socket.destroyed) throw new ParleyError('stream-closed', 'the local client went away', { retryable: true });
  if (socket.write(encodeFrame(body))) return;
  await Promise.race([once(socket, 'drain'), once(socket, 'close')]);
}
