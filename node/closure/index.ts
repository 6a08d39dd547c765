// Owns the public face of the swarm: closures come peer to peer into the spool, cross a site's uplink once, and enter the
// Nix store through a loopback binary cache with signatures checked by Nix itself.

import { closureMessageBytesMax, closureProtocol } from '../../protocols/closure-exchange.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { Manifest } from '../../protocols/manifest.ts';
import type { Clock, Logger, Mesh, Startable } from '../interfaces.ts';
import type { SiteMap, Source } from './acquire.ts';
import { createAcquisitions } from './acquisitions.ts';
import { createBinaryCache } from './binary-cache.ts';
import { createFetcher, type FetchOptions } from './fetcher.ts';
import { createGrudges } from './grudges.ts';
import { type ClosureNix, createHoldings } from './holdings.ts';
import { createManifests } from './manifests.ts';
import { createPeerLinks } from './peer-links.ts';
import { createServer } from './server.ts';
import { createSiblings } from './siblings.ts';
import { createSignatureChecks } from './signatures.ts';
import { createSpool } from './spool.ts';
import { createTraffic, type SiteBytes, type UplinkFigures } from './traffic.ts';

export type { SiteMap, Source } from './acquire.ts';
export type { FetchOptions, FetchProgress } from './fetcher.ts';
export type { ClosureNix, RealiseOptions } from './holdings.ts';
export { createSecondHolder, type SecondHolder, type SecondHolderComponents } from './second-holder.ts';
export type { SiteBytes, UplinkFigures } from './traffic.ts';

/** What was gathered for neighbours and used by nobody for one to two of these leaves the spool. */
const sweepPeriodMs = 30 * 60 * 1000;

export interface ClosuresInit {
  /** The room's own folder, such as STATE/closure/spool. */
  readonly spoolFolder: string;
  /** Bytes that the spool may take; it must hold what one closure lacks. */
  readonly spoolBytesMax: number;
  /** The site of this peer. */
  readonly site: string;
}

export interface ClosuresComponents {
  readonly mesh: Pick<Mesh, 'self' | 'open' | 'handle'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly nix: ClosureNix;
  /** The manifest of this hash, checked against it; undefined when nobody reachable has it. */
  readonly manifest: (hash: string) => Promise<Manifest | undefined>;
  /** Nix public keys (`name:base64`) of the builders in force. */
  readonly builderKeys: () => readonly string[];
  readonly sites: SiteMap;
  /** Peers thought to have the whole closure, the preferred first: its builder, then those known to run it. */
  readonly sources: (manifestHash: string) => readonly Source[];
}

export interface Closures extends Startable {
  /**
   * Brings every path that the store lacks into the spool, proven. What is there already is not fetched again.
   * @throws ParleyError `manifest-unknown`, `signature-untrusted`, `content-mismatch` (names the sender),
   * `closure-unavailable`, `disk-full`, and the signal's reason; what was fetched is kept.
   */
  fetch(manifestHash: string, options: FetchOptions): Promise<void>;
  /**
   * Lets Nix take the fetched closure into its store and root it at rootLink, then releases the spool.
   * @throws ParleyError `closure-incomplete` (retryable) when it must be fetched first, and those of Nix.
   */
  realise(manifestHash: string, options: { readonly rootLink: string; readonly signal: AbortSignal }): Promise<void>;
  /** The closure is not wanted any more: removes what no other fetched closure needs from the spool. */
  release(manifestHash: string): Promise<void>;
  /** Payload bytes (NARs only) since the start, by the other peer's site. */
  counters(): { readonly bySite: Record<string, SiteBytes>; readonly spoolBytes: number };
  /** What crossed the uplink for this closure since the start. */
  uplink(manifestHash: string): UplinkFigures;
  /** URL of the loopback binary cache, once started. */
  cacheUrl(): string;
}

export function createClosures(init: ClosuresInit): (components: ClosuresComponents) => Closures {
  return (components) => {
    const { mesh, clock, logger, nix, sites, builderKeys } = components;
    const shared = { ...components, self: mesh.self, site: init.site };
    const stopping = new AbortController();
    const signatures = createSignatureChecks(builderKeys);
    const grudges = createGrudges(clock);
    const spool = createSpool({ folder: init.spoolFolder, bytesMax: init.spoolBytesMax });
    const traffic = createTraffic({ site: init.site, siteOf: (peer) => sites.siteOf(peer) });
    const manifests = createManifests(components.manifest);
    const holdings = createHoldings({ nix, manifests, clock });
    const links = createPeerLinks({ mesh, clock });
    const siblings = createSiblings({ links, grudges, clock, logger, stopping: stopping.signal });
    const acquisitions = createAcquisitions({
      ...shared,
      signatures,
      links,
      siblings,
      manifests,
      spool,
      traffic,
      grudges,
    });
    const cache = createBinaryCache({ spool, logger });
    const fetcher = createFetcher({ manifests, holdings, spool, acquisitions, cache, signatures, clock });
    const serve = createServer({ ...shared, manifests, holdings, spool, acquisitions, traffic });
    const sweep = (): void => {
      spool.sweep().catch((error: unknown) => logger.warn({ error: String(error) }, 'the spool could not be swept'));
    };
    let stopSweeping: (() => void) | undefined;

    return {
      async start() {
        if (stopSweeping !== undefined) return;
        stopSweeping = clock.every(sweepPeriodMs, sweep);
        await spool.start();
        await cache.start();
        mesh.handle(closureProtocol, serve, { messageBytesMax: closureMessageBytesMax });
      },

      async stop() {
        stopSweeping?.();
        stopping.abort(new ParleyError('cancelled', 'the peer is stopping', { retryable: true }));
        await acquisitions.stop();
        links.stop();
        await cache.stop();
      },

      fetch: (manifestHash, options) => fetcher.fetch(manifestHash, options),

      async realise(manifestHash, { rootLink, signal }) {
        const { root } = await fetcher.prepare(manifestHash);
        const substituter = cache.url(manifestHash);
        await nix.realise(root, { substituter, trustedPublicKeys: builderKeys(), root: rootLink, signal });
        holdings.clear();
        await fetcher.release(manifestHash);
      },

      release: (manifestHash) => fetcher.release(manifestHash),
      counters: () => ({ bySite: traffic.bySite(), spoolBytes: spool.bytes() }),
      uplink: (manifestHash) => traffic.uplink(manifestHash),
      cacheUrl: () => cache.url(),
    };
  };
}
