// Owns what this peer answers to others on the exchange protocol. Answers that may wait for others have their own slots, so
// that two sites which gather from each other can never fill each other's.

import {
  type ClosureHaveRequest,
  type ClosureSendRequest,
  closurePartialsMax,
  closureRequestBytesMax,
  closureRequestSchema,
  fromBitmap,
  toBitmap,
} from '../../protocols/closure-exchange.ts';
import { decode } from '../../protocols/codec.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { Logger, MessageStream } from '../interfaces.ts';
import type { SiteMap } from './acquire.ts';
import type { Acquisitions } from './acquisitions.ts';
import { type AnswerStream, createAnswerStream } from './answer-stream.ts';
import type { Manifests } from './manifests.ts';
import { notHeld, type SenderComponents, type Sending, sendArriving, sendFromSpool, sendFromStore } from './senders.ts';
import { createSlots, type Slots } from './slots.ts';

/** NARs read and sent at once: each holds a file and a few frames. */
const servingMax = 16;
/** Streams that follow a path as it arrives: mostly idle, so more of them fit. */
const followingMax = 64;
const queueMax = 256;
/** A stream without a request is dropped after this long; askers let go of theirs earlier. */
const idleTimeoutMs = 30_000;

export interface ServerComponents extends SenderComponents {
  readonly site: string;
  readonly sites: Pick<SiteMap, 'siteOf'>;
  readonly manifests: Manifests;
  readonly acquisitions: Acquisitions;
  readonly logger: Logger;
}

interface Server {
  readonly components: ServerComponents;
  readonly serving: Slots;
  readonly following: Slots;
}

/** The handler of the exchange protocol; returns when the asker closes its end, throws when it falls idle. */
export function createServer(components: ServerComponents): (stream: MessageStream) => Promise<void> {
  const slots = (what: string, slotsMax: number): Slots => createSlots({ what, slotsMax, waitersMax: queueMax });
  const server = { components, serving: slots('serving', servingMax), following: slots('gathering', followingMax) };
  const { clock } = components;
  return async (stream) => {
    for (;;) {
      const idle = new AbortController();
      const cancel = clock.after(idleTimeoutMs, () => idle.abort(new Error('no request came')));
      const message = await stream.receive({ signal: idle.signal }).finally(cancel);
      if (message === undefined) return stream.close();
      await answer(server, message, stream);
    }
  };
}

async function answer(server: Server, message: Uint8Array, stream: MessageStream): Promise<void> {
  const { clock, logger } = server.components;
  const request = decode(closureRequestSchema, message, closureRequestBytesMax, `closure request of ${stream.peer}`);
  const answers = createAnswerStream(stream, clock);
  try {
    if (request.kind === 'have') await answerHave(server.components, request, answers);
    else await answerSend(server, request, stream.peer, answers);
  } catch (error) {
    answers.stop();
    answers.signal.throwIfAborted();
    logger.debug({ peer: stream.peer, kind: request.kind, error: String(error) }, 'a closure request is refused');
    await answers.send({ kind: 'error', error: toErrorRecord(error) });
  } finally {
    answers.stop();
  }
}

async function answerHave(
  { manifests, holdings, spool, acquisitions }: ServerComponents,
  request: ClosureHaveRequest,
  answers: AnswerStream,
): Promise<void> {
  const { paths } = await manifests.get(request.manifest);
  const inStore = await holdings.inStore(request.manifest);
  const held: number[] = [];
  const arriving: number[] = [];
  const partials: { ordinal: number; bytes: number }[] = [];
  for (const ordinal of fromBitmap(request.ordinals, paths.length)) {
    const path = paths[ordinal];
    if (path === undefined) continue;
    const partialBytes = spool.partialBytes(path);
    if (inStore.has(ordinal) || spool.holdsNow(path)) held.push(ordinal);
    else if (acquisitions.isArriving(path)) arriving.push(ordinal);
    else if (partialBytes > 0 && partials.length < closurePartialsMax) partials.push({ ordinal, bytes: partialBytes });
  }
  answers.stop();
  const ordinals = toBitmap(held, paths.length);
  await answers.send({ kind: 'held', ordinals, arriving: toBitmap(arriving, paths.length), partials });
}

async function answerSend(
  server: Server,
  request: ClosureSendRequest,
  peer: string,
  answers: AnswerStream,
): Promise<void> {
  const { sites, site, manifests, acquisitions } = server.components;
  const { paths } = await manifests.get(request.manifest);
  const path = paths[request.ordinal];
  if (path === undefined || request.offset > path.narSize) {
    throw new ParleyError('malformed', `no byte ${request.offset} of path ${request.ordinal}: not in the manifest`);
  }
  const unit = { manifestHash: request.manifest, ordinal: request.ordinal, path };
  const neighbour = sites.siteOf(peer) === site;
  if (request.kind === 'gather' && !neighbour) {
    throw new ParleyError('wrong-site', `${peer} is at another site: only peers of '${site}' gather here`, {
      retryable: true,
    });
  }
  const sending = { peer, unit, request, answers };
  let complete = await sendHeld(server, sending);
  if (complete === undefined) {
    if (request.kind === 'fetch' && !(neighbour && acquisitions.isArriving(path))) throw notHeld(unit);
    await withSlot(server.following, sending, () => follow(server.components, sending));
    complete = true;
  }
  answers.stop();
  await answers.send({ kind: 'trailer', complete });
}

/** Sends what this peer has; undefined when it has nothing to send, false when that was a part only. */
async function sendHeld({ components, serving }: Server, sending: Sending): Promise<boolean | undefined> {
  const { spool, holdings } = components;
  const { unit, request } = sending;
  if (await spool.holds(unit.path)) {
    await withSlot(serving, sending, () => sendFromSpool(components, sending, unit.path.narSize));
    return true;
  }
  if ((await holdings.inStore(unit.manifestHash)).has(unit.ordinal)) {
    await withSlot(serving, sending, () => sendFromStore(components, sending));
    return true;
  }
  const partialBytes = request.partial ? spool.partialBytes(unit.path) : 0;
  if (partialBytes <= request.offset) return undefined;
  await withSlot(serving, sending, () => sendFromSpool(components, sending, partialBytes));
  return false;
}

/** Streams a path as it arrives here; a gatherer's wish makes this peer bring it. */
async function follow(components: ServerComponents, sending: Sending): Promise<void> {
  const acquisition = components.acquisitions.join(sending.unit);
  try {
    const { progress } = acquisition;
    const { resignations } = progress;
    const gathers = sending.request.kind === 'gather';
    if (gathers) acquisition.takeCharge();
    const isOver = (): boolean => progress.resignations > resignations || (!gathers && !progress.inCharge);
    await sendArriving(components, sending, acquisition, isOver);
  } finally {
    await acquisition.leave();
  }
}

async function withSlot(slots: Slots, sending: Sending, run: () => Promise<void>): Promise<void> {
  const giveBack = await slots.take(sending.answers.signal);
  try {
    await run();
  } finally {
    giveBack();
  }
}
