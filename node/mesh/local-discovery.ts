// Owns discovery by multicast DNS at a site. What it finds is unproven: it is an address worth trying for a peer that we
// want anyway, and is kept out of libp2p's own peer store, which anybody on the network could fill.

import { mdns } from '@libp2p/mdns';

/** A tag of our own: other libp2p programs on the network neither see nor disturb us. */
const serviceTag = '_parley._udp.local';
const queryIntervalMs = 10_000;

export interface DiscoveryInit {
  /** Called with a peer id and multiaddrs that somebody on the local network claims for it. */
  readonly onFound: (peer: string, addresses: string[]) => void;
}

type Discovery = ReturnType<ReturnType<typeof mdns>>;
type DiscoveryComponents = Parameters<ReturnType<typeof mdns>>[0];

/** A libp2p service that starts and stops with the host and is not announced to it as a discovery of peers. */
export function localDiscovery({ onFound }: DiscoveryInit) {
  return (components: DiscoveryComponents) => {
    const discovery = mdns({ serviceTag, interval: queryIntervalMs })(components) as Discovery & {
      start(): Promise<void>;
      stop(): Promise<void>;
    };
    discovery.addEventListener('peer', ({ detail }) => onFound(detail.id.toString(), detail.multiaddrs.map(String)));
    return { start: () => discovery.start(), stop: () => discovery.stop() };
  };
}
