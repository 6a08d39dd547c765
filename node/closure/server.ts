// Owns what this peer answers to others on the exchange protocol: what it has, the NARs themselves from store or spool, and
// paths that it gathers for neighbours. Streams that may wait for others have their own slots, so none can block the rest.

import {
  type ClosureHaveRequest,
  type ClosureSendRequest,
  closureFrameBytes,
  closurePartialsMax,
  closureRequestBytesMax,
  closureRequestSchema,
  fromBitmap,
  toBitmap,
} from '../../protocols/closure-exchange.ts';
import { decode } from '../../protocols/codec.ts';
import { ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { Clock, Logger, MessageStream } from '../interfaces.ts';
import type { SiteMap } from './acquire.ts';
import type { Acquisition, Acquisitions } from './acquisitions.ts';
import { type AnswerStream, createAnswerStream } from './answer-stream.ts';
import type { Unit } from './download.ts';
import type { ClosureNix, Holdings } from './holdings.ts';
import type { Manifests } from './manifests.ts';
import { writeNar } from './nar-writer.ts';
import { createSlots } from './slots.ts';
import type { Spool } from './spool.ts';
import type { Traffic } from './traffic.ts';

/** NARs read and sent at once: each holds a file and a few frames. */
const servingMax = 16;
/** Streams that follow a path as it arrives: mostly idle, so more of them fit. */
const followingMax = 64;
const queueMax = 256;
/** A stream without a request is closed after this long; askers let go of theirs earlier. */
const idleTimeoutMs = 30_000;

export interface ServerComponents {
  readonly site: string;
  readonly sites: Pick<SiteMap, 'siteOf'>;
  readonly nix: Pick<ClosureNix, 'physicalPath'>;
  readonly manifests: Manifests;
  readonly holdings: Holdings;
  readonly spool: Spool;
  readonly acquisitions: Acquisitions;
  readonly traffic: Traffic;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Sending {
  readonly peer: string;
  readonly unit: Unit;
  readonly request: ClosureSendRequest;
  readonly answers: AnswerStream;
}

/** The handler of the exchange protocol; returns when the asker closes its end or falls idle. */
export function createServer(components: ServerComponents): (stream: MessageStream) => Promise<void> {
  const { sites, site, nix, manifests, holdings, spool, acquisitions, traffic, clock, logger } = components;
  const serving = createSlots({ what: 'serving', slotsMax: servingMax, waitersMax: queueMax });
  const following = createSlots({ what: 'gathering', slotsMax: followingMax, waitersMax: queueMax });

  async function answerHave(request: ClosureHaveRequest, answers: AnswerStream): Promise<void> {
    const { paths } = await manifests.get(request.manifest);
    const inStore = await holdings.inStore(request.manifest);
    const held: number[] = [];
    const arriving: number[] = [];
    const partials: { ordinal: number; bytes: number }[] = [];
    for (const ordinal of fromBitmap(request.ordinals, paths.length)) {
      const path = paths[ordinal];
      if (path === undefined) continue;
      if (inStore.has(ordinal) || spool.holdsNow(path)) held.push(ordinal);
      else if (acquisitions.isArriving(path)) arriving.push(ordinal);
      else if (partials.length < closurePartialsMax) {
        const bytes = spool.partialBytes(path);
        if (bytes > 0) partials.push({ ordinal, bytes });
      }
    }
    const ordinals = toBitmap(held, paths.length);
    await answers.send({ kind: 'held', ordinals, arriving: toBitmap(arriving, paths.length), partials });
  }

  async function sendData(sending: Sending, bytes: Uint8Array): Promise<void> {
    await sending.answers.send({ kind: 'data', bytes });
    traffic.sent(sending.peer, sending.unit.manifestHash, bytes.byteLength);
  }

  async function sendHeader({ answers, unit }: Sending, offset: number): Promise<void> {
    await answers.send({ kind: 'header', size: unit.path.narSize, offset });
  }

  async function sendFromStore(sending: Sending): Promise<void> {
    const { path, manifestHash, ordinal } = sending.unit;
    const { offset } = sending.request;
    const { signal } = sending.answers;
    const physicalPath = nix.physicalPath(path.storePath);
    const frames = writeNar({ physicalPath, offset, frameBytes: closureFrameBytes, signal });
    try {
      await sendHeader(sending, offset);
      for (;;) {
        const frame = await frames.next();
        if (frame.done === true) {
          if (frame.value.narHash === path.narHash) break;
          throw new ParleyError(
            'store-damaged',
            `'${path.storePath}' has the hash ${frame.value.narHash}: not the manifest's`,
          );
        }
        if (frame.value.byteLength > 0) await sendData(sending, frame.value);
      }
    } catch (error) {
      holdings.forget(manifestHash, ordinal);
      throw error;
    } finally {
      await frames.return({ narHash: '', narSize: 0 });
    }
  }

  async function sendFromSpool(sending: Sending, end: number): Promise<void> {
    const reader = await spool.read(sending.unit.path);
    try {
      await sendHeader(sending, sending.request.offset);
      for (let offset = sending.request.offset; offset < end; ) {
        const bytes = await reader.read(offset, Math.min(closureFrameBytes, end - offset));
        if (bytes.byteLength === 0) throw notHeld(sending.unit);
        await sendData(sending, bytes);
        offset += bytes.byteLength;
      }
    } finally {
      await reader.close();
    }
  }

  async function sendArriving(sending: Sending, acquisition: Acquisition, mayEnd: () => boolean): Promise<void> {
    const { progress } = acquisition;
    const { path } = sending.unit;
    const { signal } = sending.answers;
    let { generation } = progress;
    let offset = sending.request.offset;
    let reader: Awaited<ReturnType<Spool['read']>> | undefined;
    await sendHeader(sending, offset);
    try {
      while (!progress.proven || offset < path.narSize) {
        if (progress.generation !== generation) {
          ({ generation } = progress);
          offset = 0;
          await sendHeader(sending, offset);
        } else if (progress.bytes > offset) {
          reader ??= await spool.read(path);
          const bytes = await reader.read(offset, Math.min(closureFrameBytes, progress.bytes - offset));
          if (progress.generation !== generation) continue;
          await sendData(sending, bytes);
          offset += bytes.byteLength;
        } else {
          if (mayEnd()) throw notHeld(sending.unit);
          await acquisition.changed(signal);
        }
      }
    } finally {
      await reader?.close();
    }
  }

  async function follow(sending: Sending): Promise<void> {
    const giveBack = await following.take(sending.answers.signal);
    try {
      const acquisition = acquisitions.join(sending.unit);
      try {
        const { progress } = acquisition;
        const { resignations } = progress;
        const gathers = sending.request.kind === 'gather';
        if (gathers) acquisition.takeCharge();
        const mayEnd = (): boolean => progress.resignations > resignations || (!gathers && !progress.inCharge);
        await sendArriving(sending, acquisition, mayEnd);
      } finally {
        acquisition.leave();
      }
    } finally {
      giveBack();
    }
  }

  async function sendHeld(sending: Sending): Promise<boolean> {
    const { unit, request, answers } = sending;
    const held = await spool.holds(unit.path);
    const inStore = !held && (await holdings.inStore(unit.manifestHash)).has(unit.ordinal);
    const partialBytes = !held && !inStore && request.partial ? spool.partialBytes(unit.path) : 0;
    if (!held && !inStore && partialBytes <= request.offset) return false;
    const giveBack = await serving.take(answers.signal);
    try {
      if (inStore) await sendFromStore(sending);
      else await sendFromSpool(sending, held ? unit.path.narSize : partialBytes);
      answers.stop();
      await answers.send({ kind: 'trailer', complete: held || inStore });
      return true;
    } finally {
      giveBack();
    }
  }

  async function answerSend(request: ClosureSendRequest, peer: string, answers: AnswerStream): Promise<void> {
    const { paths } = await manifests.get(request.manifest);
    const path = paths[request.ordinal];
    if (path === undefined || request.offset > path.narSize) {
      throw new ParleyError('malformed', `no byte ${request.offset} of path ${request.ordinal}: not in the manifest`);
    }
    const unit = { manifestHash: request.manifest, ordinal: request.ordinal, path };
    const sending = { peer, unit, request, answers };
    const neighbour = sites.siteOf(peer) === site;
    if (request.kind === 'gather' && !neighbour) {
      throw new ParleyError('wrong-site', `${peer} is at another site: only peers of '${site}' gather here`);
    }
    if (await sendHeld(sending)) return;
    if (request.kind === 'fetch' && !(neighbour && acquisitions.isArriving(path))) throw notHeld(unit);
    await follow(sending);
    answers.stop();
    await answers.send({ kind: 'trailer', complete: true });
  }

  async function answer(message: Uint8Array, stream: MessageStream): Promise<void> {
    const request = decode(closureRequestSchema, message, closureRequestBytesMax, `closure request of ${stream.peer}`);
    const answers = createAnswerStream(stream, clock);
    try {
      if (request.kind === 'have') await answerHave(request, answers);
      else await answerSend(request, stream.peer, answers);
    } catch (error) {
      answers.stop();
      answers.signal.throwIfAborted();
      logger.debug({ peer: stream.peer, kind: request.kind, error: String(error) }, 'a closure request is refused');
      await answers.send({ kind: 'error', error: toErrorRecord(error) });
    } finally {
      answers.stop();
    }
  }

  return async (stream) => {
    for (;;) {
      const controller = new AbortController();
      const cancel = clock.after(idleTimeoutMs, () => controller.abort(new Error('idle')));
      const message = await stream.receive({ signal: controller.signal }).finally(cancel);
      if (message === undefined) return stream.close();
      await answer(message, stream);
    }
  };
}

function notHeld({ path }: Unit): ParleyError {
  return new ParleyError('not-held', `'${path.storePath}' is not here: neither in the store nor in the spool`, {
    retryable: true,
  });
}
