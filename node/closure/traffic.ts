// Owns the figures by which anyone can check that a site's uplink carried everything once: payload bytes by site, and for
// each manifest what crossed to here and what was given across to others. Counted since the start, payload only.

/** Manifests whose figures are kept; the oldest leave first. */
const manifestsMax = 64;
/** Sites named in the figures: a bound for a fleet of one-peer sites. */
const sitesMax = 2_000;

export interface SiteBytes {
  bytesIn: number;
  bytesOut: number;
}

export interface UplinkFigures {
  /** NAR bytes of the distinct paths that this peer brought across its site's uplink and proved. */
  readonly uniqueBytes: number;
  /** NAR bytes that came across to this peer, those of broken and refused transfers included. */
  readonly receivedAcrossBytes: number;
  /** NAR bytes that this peer gave to each other site. */
  readonly sentAcrossBytes: Readonly<Record<string, number>>;
  /** The paths counted in uniqueBytes, by their ordinal in the manifest: the site's unique bytes are those of the union. */
  readonly ordinals: readonly number[];
}

interface ManifestFigures {
  uniqueBytes: number;
  receivedAcrossBytes: number;
  readonly sentAcrossBytes: Map<string, number>;
  readonly ordinals: Set<number>;
}

export interface Traffic {
  received(peer: string, manifest: string, bytes: number): void;
  sent(peer: string, manifest: string, bytes: number): void;
  /** A path whose bytes this peer brought across the uplink, all or some of them, is whole and proven. */
  broughtAcross(manifest: string, ordinal: number, narSize: number): void;
  bySite(): Record<string, SiteBytes>;
  uplink(manifest: string): UplinkFigures;
}

export function createTraffic(init: { readonly site: string; siteOf(peer: string): string | undefined }): Traffic {
  const sites = new Map<string, SiteBytes>();
  const manifests = new Map<string, ManifestFigures>();

  const siteName = (peer: string): string => init.siteOf(peer) ?? 'unknown';

  function siteFigures(site: string): SiteBytes {
    const key = sites.has(site) || sites.size < sitesMax ? site : 'other';
    const figures = sites.get(key) ?? { bytesIn: 0, bytesOut: 0 };
    sites.set(key, figures);
    return figures;
  }

  function manifestFigures(manifest: string): ManifestFigures {
    const figures = manifests.get(manifest) ?? {
      uniqueBytes: 0,
      receivedAcrossBytes: 0,
      sentAcrossBytes: new Map(),
      ordinals: new Set(),
    };
    manifests.delete(manifest);
    manifests.set(manifest, figures);
    for (const oldest of manifests.keys()) {
      if (manifests.size <= manifestsMax) break;
      manifests.delete(oldest);
    }
    return figures;
  }

  return {
    received(peer, manifest, bytes) {
      const site = siteName(peer);
      siteFigures(site).bytesIn += bytes;
      if (site !== init.site) manifestFigures(manifest).receivedAcrossBytes += bytes;
    },

    sent(peer, manifest, bytes) {
      const site = siteName(peer);
      siteFigures(site).bytesOut += bytes;
      if (site === init.site) return;
      const across = manifestFigures(manifest).sentAcrossBytes;
      across.set(site, (across.get(site) ?? 0) + bytes);
    },

    broughtAcross(manifest, ordinal, narSize) {
      const figures = manifestFigures(manifest);
      if (figures.ordinals.has(ordinal)) return;
      figures.ordinals.add(ordinal);
      figures.uniqueBytes += narSize;
    },

    bySite: () => Object.fromEntries([...sites].map(([site, bytes]) => [site, { ...bytes }])),

    uplink(manifest) {
      const figures = manifests.get(manifest);
      return {
        uniqueBytes: figures?.uniqueBytes ?? 0,
        receivedAcrossBytes: figures?.receivedAcrossBytes ?? 0,
        sentAcrossBytes: Object.fromEntries(figures?.sentAcrossBytes ?? []),
        ordinals: [...(figures?.ordinals ?? [])],
      };
    },
  };
}
