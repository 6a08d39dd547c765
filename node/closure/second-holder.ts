// Owns that a built closure outlives its builder: before an order can name it, one more voter or builder takes it into its own
// store, the builder's neighbours first. So a controller that dies after building does not take the deploy with it.

import { lstat, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import {
  closureKeepBytesMax,
  closureKeepProtocol,
  closureKeepReplySchema,
  closureKeepRequestSchema,
} from '../../protocols/closure-keep.ts';
import { decode, encode } from '../../protocols/codec.ts';
import { fromErrorRecord, ParleyError, toErrorRecord } from '../../protocols/errors.ts';
import type { Logger, Mesh, MessageStream } from '../interfaces.ts';
import type { FetchOptions } from './fetcher.ts';

/** Closures kept for others; the oldest leave first. A deploy of a large fleet has about this many different ones. */
const keptMax = 256;
/** A closure of several GiB over a slow uplink. */
const keepTimeoutMs = 30 * 60_000;

export interface SecondHolder {
  /**
   * Resolves once a peer other than this builder has the closure in its store, or when there is none that could: a deploy
   * does not wait for peers that are away.
   */
  keepTwice(manifest: string, builder: string, options: { readonly signal: AbortSignal }): Promise<void>;
}

export interface SecondHolderComponents {
  readonly mesh: Pick<Mesh, 'self' | 'open' | 'handle' | 'connectedPeers'>;
  /** Peers that may keep what a builder built, the preferred first; without the builder itself. */
  readonly keepers: (builder: string) => readonly string[];
  /** Whether a peer may have closures kept here: a possible controller. */
  readonly mayAsk: (peer: string) => boolean;
  readonly closures: {
    fetch(manifest: string, options: FetchOptions): Promise<void>;
    realise(manifest: string, options: { readonly rootLink: string; readonly signal: AbortSignal }): Promise<void>;
  };
  readonly removeRoot: (link: string) => Promise<void>;
  readonly logger: Logger;
}

/** @param rootsFolder folder of the kept closures' garbage-collector roots, for nothing else. */
export function createSecondHolder(rootsFolder: string): (components: SecondHolderComponents) => SecondHolder {
  return ({ mesh, keepers, mayAsk, closures, removeRoot, logger }) => {
    // One at a time: each takes the uplink and the disk.
    let turn: Promise<unknown> = Promise.resolve();

    async function keep(manifest: string, signal: AbortSignal): Promise<void> {
      const work = async (): Promise<void> => {
        await mkdir(rootsFolder, { recursive: true, mode: 0o700 });
        await closures.fetch(manifest, { signal });
        await closures.realise(manifest, { rootLink: path.join(rootsFolder, manifest), signal });
        await dropOldest(rootsFolder, removeRoot);
      };
      const mine = turn.then(work, work);
      turn = mine.catch(() => undefined);
      await mine;
    }

    mesh.handle(closureKeepProtocol, (stream) => answer(stream, mayAsk, keep), {
      messageBytesMax: closureKeepBytesMax,
    });

    async function askToKeep(peer: string, manifest: string, signal: AbortSignal): Promise<void> {
      if (peer === mesh.self) {
        await keep(manifest, signal);
        return;
      }
      const stream = await mesh.open(peer, closureKeepProtocol, { signal });
      await stream.send(encode({ version: 1, manifest }));
      const bytes = await stream.receive({ signal });
      if (bytes === undefined)
        throw new ParleyError('stream-closed', 'it hung up without an answer', { retryable: true });
      const reply = decode(closureKeepReplySchema, bytes, closureKeepBytesMax, 'answer about a kept closure');
      await stream.close();
      if (reply.type === 'refused') throw fromErrorRecord(reply.error);
    }

    return {
      async keepTwice(manifest, builder, { signal }) {
        const bounded = AbortSignal.any([signal, AbortSignal.timeout(keepTimeoutMs)]);
        const reachable = new Set([mesh.self, ...mesh.connectedPeers().map(({ peer }) => peer)]);
        for (const peer of keepers(builder).filter((keeper) => reachable.has(keeper))) {
          try {
            await askToKeep(peer, manifest, bounded);
            return;
          } catch (error) {
            signal.throwIfAborted();
            logger.warn({ keeper: peer, manifest, error: String(error) }, 'a peer could not keep a built closure');
          }
        }
        logger.warn({ manifest }, 'only its builder has a built closure');
      },
    };
  };
}

async function answer(
  stream: MessageStream,
  mayAsk: (peer: string) => boolean,
  keep: (manifest: string, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  try {
    const bytes = await stream.receive();
    if (bytes === undefined) return;
    const { manifest } = decode(closureKeepRequestSchema, bytes, closureKeepBytesMax, 'wish to keep a closure');
    if (!mayAsk(stream.peer)) {
      throw new ParleyError('not-a-voter', `'${stream.peer}' may not have closures kept: only a controller may`);
    }
    await keep(manifest, AbortSignal.timeout(keepTimeoutMs));
    await stream.send(encode({ type: 'kept' }));
  } catch (error) {
    await stream.send(encode({ type: 'refused', error: toErrorRecord(error) }));
  }
}

async function dropOldest(folder: string, removeRoot: (link: string) => Promise<void>): Promise<void> {
  const links = (await readdir(folder)).map((name) => path.join(folder, name));
  if (links.length <= keptMax) return;
  const dated = await Promise.all(links.map(async (link) => ({ link, madeMs: (await lstat(link)).mtimeMs })));
  const oldest = dated.sort((one, other) => one.madeMs - other.madeMs).slice(0, links.length - keptMax);
  for (const { link } of oldest) await removeRoot(link);
}
