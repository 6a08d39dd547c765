// Owns the NAR form of a store path: streamed from the files on disk in bounded frames, so that any peer can serve what
// it has in its store without keeping a packed copy. The format is the one of `nix-store --dump`.

import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { ParleyError } from '../../protocols/errors.ts';
import { toNarHash } from '../../protocols/nix32.ts';

const magic = text('nix-archive-1');
const slash = Buffer.from('/');

export interface NarRequest {
  /** The store path's files; with a diverted store not the logical path. */
  readonly physicalPath: string;
  /** Bytes to leave out at the start; they are made and hashed all the same. */
  readonly offset: number;
  /** Size of a frame; the last one may be shorter. */
  readonly frameBytes: number;
  readonly signal: AbortSignal;
}

/**
 * Yields the NAR from `offset` on, in frames that the caller may keep, and returns the hash and size of the whole NAR.
 * An empty frame is a sign of life while bytes before the offset are skipped.
 * @throws ParleyError `store-path-changed` when files vanish or change size meanwhile, and the signal's reason.
 */
export async function* writeNar(request: NarRequest): AsyncGenerator<Uint8Array, { narHash: string; narSize: number }> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const frame of packFrames(nodePieces(Buffer.from(request.physicalPath), request), request.frameBytes)) {
    request.signal.throwIfAborted();
    hash.update(frame);
    const skipped = Math.min(frame.byteLength, Math.max(0, request.offset - size));
    size += frame.byteLength;
    yield frame.subarray(skipped);
  }
  return { narHash: toNarHash(hash.digest()), narSize: size };
}

async function* packFrames(pieces: AsyncGenerator<Uint8Array>, frameBytes: number): AsyncGenerator<Uint8Array> {
  let frame = Buffer.allocUnsafe(frameBytes);
  let filled = 0;
  for await (const piece of pieces) {
    for (let taken = 0; taken < piece.byteLength; ) {
      const count = Math.min(piece.byteLength - taken, frameBytes - filled);
      frame.set(piece.subarray(taken, taken + count), filled);
      taken += count;
      filled += count;
      if (filled < frameBytes) continue;
      yield frame;
      frame = Buffer.allocUnsafe(frameBytes);
      filled = 0;
    }
  }
  if (filled > 0) yield frame.subarray(0, filled);
}

async function* nodePieces(path: Buffer, request: NarRequest): AsyncGenerator<Uint8Array> {
  yield magic;
  yield* treePieces(path, request);
}

async function* treePieces(path: Buffer, request: NarRequest): AsyncGenerator<Uint8Array> {
  const stats = await lstat(path).catch((cause) => changed(path, cause));
  if (stats.isFile()) {
    yield tokens('(', 'type', 'regular');
    if ((stats.mode & constants.S_IXUSR) !== 0) yield tokens('executable', '');
    yield text('contents');
    yield* filePieces(path, stats.size, request);
    yield text(')');
  } else if (stats.isSymbolicLink()) {
    const target = await readlink(path, { encoding: 'buffer' }).catch((cause) => changed(path, cause));
    yield Buffer.concat([tokens('(', 'type', 'symlink', 'target'), text(target), text(')')]);
  } else if (stats.isDirectory()) {
    yield tokens('(', 'type', 'directory');
    const names = await readdir(path, { encoding: 'buffer' }).catch((cause) => changed(path, cause));
    for (const name of names.sort(Buffer.compare)) {
      yield Buffer.concat([tokens('entry', '(', 'name'), text(name), text('node')]);
      yield* treePieces(Buffer.concat([path, slash, name]), request);
      yield text(')');
    }
    yield text(')');
  } else {
    throw new ParleyError('store-path-changed', `'${path}' cannot be packed: it is no file, folder or symlink`);
  }
}

async function* filePieces(path: Buffer, size: number, request: NarRequest): AsyncGenerator<Uint8Array> {
  yield length(size);
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch((cause) => changed(path, cause));
  try {
    const buffer = Buffer.allocUnsafe(Math.min(request.frameBytes, Math.max(1, size)));
    for (let read = 0; read < size; ) {
      request.signal.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.byteLength, size - read));
      if (bytesRead === 0) changed(path, undefined);
      read += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
  yield padding(size);
}

function changed(path: Buffer, cause: unknown): never {
  throw new ParleyError('store-path-changed', `'${path}' changed while it was read: it is not whole any more`, {
    retryable: true,
    cause,
  });
}

function tokens(...words: string[]): Buffer {
  return Buffer.concat(words.map(text));
}

function text(words: string | Buffer): Buffer {
  const bytes = Buffer.from(words as string);
  return Buffer.concat([length(bytes.byteLength), bytes, padding(bytes.byteLength)]);
}

function length(count: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(count));
  return bytes;
}

function padding(count: number): Buffer {
  return Buffer.alloc((8 - (count % 8)) % 8);
}
