// Owns the three ways to send a path: packed from the store, read from the spool, and passed on while it still arrives.
// Bytes are counted when they have left.

import { type ClosureSendRequest, closureFrameBytes } from '../../protocols/closure-exchange.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Clock } from '../interfaces.ts';
import type { Acquisition } from './acquisitions.ts';
import type { AnswerStream } from './answer-stream.ts';
import type { Unit } from './download.ts';
import type { ClosureNix, Holdings } from './holdings.ts';
import { writeNar } from './nar-writer.ts';
import type { Spool } from './spool.ts';
import type { SpoolReader } from './spool-file.ts';
import type { Traffic } from './traffic.ts';

export interface SenderComponents {
  readonly nix: Pick<ClosureNix, 'physicalPath'>;
  readonly holdings: Holdings;
  readonly spool: Spool;
  readonly traffic: Traffic;
  readonly clock: Clock;
}

/** One answer to a fetch or gather. */
export interface Sending {
  readonly peer: string;
  readonly unit: Unit;
  readonly request: ClosureSendRequest;
  readonly answers: AnswerStream;
}

/**
 * Packs the path from the store's files and hashes it once more on the way.
 * @throws ParleyError `store-damaged` instead of an end when the files are not what the manifest says.
 */
export async function sendFromStore(components: SenderComponents, sending: Sending): Promise<void> {
  const { unit, request, answers } = sending;
  const { path } = unit;
  const physicalPath = components.nix.physicalPath(path.storePath);
  const nar = { physicalPath, offset: request.offset, frameBytes: closureFrameBytes, signal: answers.signal };
  const frames = writeNar(nar);
  try {
    await sendHeader(sending, request.offset);
    let frame = await frames.next();
    for (; frame.done !== true; frame = await frames.next()) {
      if (frame.value.byteLength > 0) await sendData(components, sending, frame.value);
    }
    if (frame.value.narHash === path.narHash) return;
    throw new ParleyError(
      'store-damaged',
      `'${path.storePath}' has the hash ${frame.value.narHash}: not the manifest's`,
    );
  } catch (error) {
    if (!answers.signal.aborted) components.holdings.forget(unit.manifestHash, unit.ordinal);
    throw error;
  } finally {
    await frames.return({ narHash: '', narSize: 0 });
  }
}

/** Sends what the spool has, up to `end`. */
export async function sendFromSpool(components: SenderComponents, sending: Sending, end: number): Promise<void> {
  const reader = await components.spool.read(sending.unit.path);
  try {
    await sendHeader(sending, sending.request.offset);
    for (let offset = sending.request.offset; offset < end; ) {
      const bytes = await reader.read(offset, Math.min(closureFrameBytes, end - offset));
      if (bytes.byteLength === 0) throw notHeld(sending.unit);
      await sendData(components, sending, bytes);
      offset += bytes.byteLength;
    }
  } finally {
    await reader.close();
  }
}

/**
 * Passes a path on while it arrives, and starts over when its bytes turn out wrong here. Ends when it is proven.
 * @throws ParleyError `not-held` (retryable) when isOver says that it will not come by this peer any more, and whatever
 * ends the acquisition.
 */
export async function sendArriving(
  components: SenderComponents,
  sending: Sending,
  acquisition: Acquisition,
  isOver: () => boolean,
): Promise<void> {
  const { progress } = acquisition;
  const { path } = sending.unit;
  let { generation } = progress;
  let { offset } = sending.request;
  let reader: SpoolReader | undefined;
  await sendHeader(sending, offset);
  try {
    while (!progress.proven || offset < path.narSize) {
      if (progress.generation !== generation) {
        ({ generation } = progress);
        offset = 0;
        await sendHeader(sending, offset);
      } else if (progress.bytes > offset) {
        reader ??= await components.spool.read(path);
        const bytes = await reader.read(offset, Math.min(closureFrameBytes, progress.bytes - offset));
        if (progress.generation !== generation) continue;
        await sendData(components, sending, bytes);
        offset += bytes.byteLength;
      } else {
        if (isOver()) throw notHeld(sending.unit);
        await acquisition.changed(sending.answers.signal);
      }
    }
  } finally {
    await reader?.close();
  }
}

export function notHeld({ path }: Unit): ParleyError {
  return new ParleyError('not-held', `'${path.storePath}' is not here: neither in the store nor in the spool`, {
    retryable: true,
  });
}

async function sendHeader({ answers, unit }: Sending, offset: number): Promise<void> {
  await answers.send({ kind: 'header', size: unit.path.narSize, offset });
}

async function sendData(
  { traffic }: SenderComponents,
  { answers, peer, unit }: Sending,
  bytes: Uint8Array,
): Promise<void> {
  await answers.send({ kind: 'data', bytes });
  traffic.sent(peer, unit.manifestHash, bytes.byteLength);
}
