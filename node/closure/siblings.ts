// Owns the view of what the other peers of the site hold of a manifest: polled, kept for a moment, and asked for afresh
// before anything crosses the uplink out of turn, because views of who is alive can differ.

import { type ClosureRequest, fromBitmap, toBitmap } from '../../protocols/closure-exchange.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Clock, Logger } from '../interfaces.ts';
import { stallTimeoutMinMs } from './assignment-core.ts';
import type { Grudges } from './grudges.ts';
import type { PeerLinks } from './peer-links.ts';

const viewsMax = 8;

/** What one neighbour has of a manifest, by ordinal. */
export interface Holding {
  readonly peer: string;
  readonly held: ReadonlySet<number>;
  /** On their way to it across the uplink. */
  readonly arriving: ReadonlySet<number>;
  /** Bytes of unfinished ones. */
  readonly partials: ReadonlyMap<number, number>;
}

export interface SiteQuestion {
  readonly manifestHash: string;
  readonly pathCount: number;
  readonly peers: readonly string[];
  /** An answer that old is good enough. */
  readonly ageMaxMs: number;
}

export interface Siblings {
  /** What the peers hold; those that do not answer in time hold nothing. */
  view(question: SiteQuestion): Promise<readonly Holding[]>;
}

export function createSiblings(components: {
  readonly links: PeerLinks;
  readonly grudges: Grudges;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Ends polls, which several callers share, when the room stops. */
  readonly stopping: AbortSignal;
}): Siblings {
  const { links, grudges, clock, logger, stopping } = components;
  const views = new Map<string, { readonly atMs: number; readonly holdings: Promise<readonly Holding[]> }>();

  async function askPeer(peer: string, question: SiteQuestion): Promise<Holding | undefined> {
    const { manifestHash, pathCount } = question;
    const all = toBitmap(Array(pathCount).keys(), pathCount);
    const have: ClosureRequest = { kind: 'have', unit: 'path', manifest: manifestHash, ordinals: all };
    try {
      return await links.ask({ peer, lane: 'question', request: () => have, signal: stopping }, async (link) => {
        for (;;) {
          const answer = await link.next(stallTimeoutMinMs);
          if (answer.kind === 'waiting') continue;
          if (answer.kind !== 'held')
            throw new ParleyError('malformed', `${peer} answers 'have' with '${answer.kind}'`);
          return {
            peer,
            held: new Set(fromBitmap(answer.ordinals, pathCount)),
            arriving: new Set(fromBitmap(answer.arriving, pathCount)),
            partials: new Map(answer.partials.map(({ ordinal, bytes }) => [ordinal, bytes])),
          };
        }
      });
    } catch (error) {
      if (isSilence(error)) grudges.suspect(peer);
      logger.debug({ peer, manifest: manifestHash, error: String(error) }, 'a site peer does not say what it holds');
      return undefined;
    }
  }

  async function poll(question: SiteQuestion): Promise<readonly Holding[]> {
    const answers = await Promise.all(question.peers.map((peer) => askPeer(peer, question)));
    return answers.filter((answer) => answer !== undefined);
  }

  return {
    async view(question) {
      const key = `${question.manifestHash}\n${[...question.peers].sort().join()}`;
      const known = views.get(key);
      if (known !== undefined && clock.monotonicMs() - known.atMs <= question.ageMaxMs) return known.holdings;
      const holdings = poll(question);
      views.delete(key);
      views.set(key, { atMs: clock.monotonicMs(), holdings });
      for (const oldest of views.keys()) {
        if (views.size <= viewsMax) break;
        views.delete(oldest);
      }
      return holdings;
    },
  };
}

/** Whether an error means that the peer is gone or stuck, not that it answered no. */
export function isSilence(error: unknown): boolean {
  return error instanceof ParleyError && ['peer-unreachable', 'stalled', 'stream-closed'].includes(error.code);
}
