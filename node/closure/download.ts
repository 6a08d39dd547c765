// Owns one transfer of one path from one peer into the spool: checks every message against what was asked, counts bytes,
// and gives up on a peer that falls silent. It never decides whom to ask next.

import { type ClosureAnswer, type ClosureSendRequest, closureRestartsMax } from '../../protocols/closure-exchange.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { ManifestPath } from '../../protocols/manifest.ts';
import type { Clock } from '../interfaces.ts';
import { stallTimeoutMs } from './assignment-core.ts';
import type { Link } from './conversation.ts';
import type { PeerLinks } from './peer-links.ts';
import type { SpoolWriter } from './spool-file.ts';

/** How long a peer may say "waiting" without a byte: it may queue behind other paths on a slow uplink. */
const waitingMaxMs = 5 * 60 * 1000;

/** One path of a manifest. */
export interface Unit {
  readonly manifestHash: string;
  readonly ordinal: number;
  readonly path: ManifestPath;
}

export interface DownloadRequest {
  readonly peer: string;
  readonly kind: ClosureSendRequest['kind'];
  readonly partial: boolean;
  /** The peer is at another site, behind a slow uplink maybe. */
  readonly isAcross: boolean;
  /** Asked once a slot is free: true when the peer fell silent while we waited. */
  readonly isPointless: () => boolean;
  readonly unit: Unit;
  readonly writer: SpoolWriter;
  readonly signal: AbortSignal;
  /** Called after bytes are in the spool. */
  readonly onBytes: (bytes: number) => void;
  /** Called before the spool file is emptied because the sender starts over. */
  readonly onRestart: () => void;
}

/**
 * Resolves when the sender has sent all that it was asked for, the spool then having the whole path unless `partial`.
 * @throws ParleyError `content-mismatch` when the path cannot be what the manifest says, `stalled`, `malformed`, those of
 * the spool and of the sender.
 */
export async function download(links: PeerLinks, clock: Clock, request: DownloadRequest): Promise<void> {
  const { unit, writer, peer } = request;
  const ask = (): ClosureSendRequest => {
    if (request.isPointless())
      throw new ParleyError('stalled', `${peer} fell silent a moment ago`, { retryable: true });
    const { manifestHash, ordinal } = unit;
    const { kind, partial } = request;
    return { kind, unit: 'path', manifest: manifestHash, ordinal, offset: writer.bytes, partial };
  };
  await links.ask({ peer, lane: 'bulk', request: ask, signal: request.signal }, (link) =>
    readAnswer(link, clock, request),
  );
}

async function readAnswer(link: Link, clock: Clock, request: DownloadRequest): Promise<void> {
  const { unit, writer, peer } = request;
  let headers = 0;
  let longestPauseMs = 0;
  let byteAtMs = clock.monotonicMs();
  for (;;) {
    const answer = await link.next(stallTimeoutMs(longestPauseMs, request.isAcross));
    if (answer.kind === 'header') {
      headers += 1;
      await takeHeader(answer, headers, request);
    } else if (answer.kind === 'data' && headers > 0) {
      if (writer.bytes + answer.bytes.byteLength > unit.path.narSize) throw mismatch(request, 'is longer');
      await writer.append(answer.bytes);
      request.onBytes(answer.bytes.byteLength);
    } else if (answer.kind === 'trailer' && headers > 0) {
      if (answer.complete && writer.bytes < unit.path.narSize) throw mismatch(request, 'is shorter');
      if (!answer.complete && !request.partial) throw malformed(peer, 'ended a path in the middle');
      return;
    } else if (answer.kind !== 'waiting') {
      throw malformed(peer, `sent '${answer.kind}' out of turn`);
    }
    const nowMs = clock.monotonicMs();
    if (nowMs - byteAtMs > waitingMaxMs) {
      throw new ParleyError('stalled', `${peer} sent nothing of '${unit.path.storePath}' for ${waitingMaxMs} ms`, {
        retryable: true,
      });
    }
    if (answer.kind !== 'data' || answer.bytes.byteLength === 0) continue;
    if (headers > 0 && writer.bytes > 0) longestPauseMs = Math.max(longestPauseMs, nowMs - byteAtMs);
    byteAtMs = nowMs;
  }
}

async function takeHeader(
  header: Extract<ClosureAnswer, { kind: 'header' }>,
  headers: number,
  request: DownloadRequest,
): Promise<void> {
  const { unit, writer, peer } = request;
  if (header.size !== unit.path.narSize) throw mismatch(request, `has ${header.size} bytes`);
  if (header.offset === writer.bytes && headers === 1) return;
  if (header.offset !== 0 || headers > closureRestartsMax) throw malformed(peer, 'jumped within a path');
  request.onRestart();
  await writer.reset();
}

function mismatch({ unit, peer }: DownloadRequest, how: string): ParleyError {
  const expected = `${unit.path.narSize} bytes`;
  return new ParleyError(
    'content-mismatch',
    `'${unit.path.storePath}' from ${peer} is refused: it ${how}, the manifest says ${expected}`,
  );
}

function malformed(peer: string, what: string): ParleyError {
  return new ParleyError('malformed', `${peer} ${what}: its answer is dropped`);
}
