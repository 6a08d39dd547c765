// Owns the libp2p host: its transports, its limits and its gater. Everything libp2p offers beyond connections and streams
// (identify, ping, routing, its monitor, pruning) is left out or out of reach: the mesh does what of it is needed over its
// own checked protocols, which strangers cannot open and which cost less at rest.

import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { ParleyError } from '../../protocols/errors.ts';
import { membersMax } from '../../protocols/limits.ts';
import { boundedNoise } from './bounded-noise.ts';
import { boundedWebSockets } from './bounded-websockets.ts';
import { boundedYamux } from './bounded-yamux.ts';
import { type DiscoveryInit, localDiscovery } from './local-discovery.ts';

export type Connection = ReturnType<Libp2p['getConnections']>[number];
export type Stream = Awaited<ReturnType<Connection['newStream']>>;

/** Who may connect; asked once the other side has proven its peer id. */
export interface Gate {
  admitsOutbound(peer: string): boolean;
  admitsInbound(peer: string): boolean;
}

export interface HostInit {
  /** Ed25519 seed, 32 bytes. */
  readonly privateKey: Uint8Array;
  /** Multiaddrs to listen on; none for a host that only dials. */
  readonly listen: readonly string[];
  /** Multiaddrs under which others reach this host beside those it listens on (a forwarded port). */
  readonly announce: readonly string[];
  readonly discovery?: DiscoveryInit;
  readonly gate: Gate;
}

/** Connections that one host may open per second. libp2p's 5 trips when a site behind one address restarts. */
const inboundConnectionsPerSecondMax = 250;
/** Connections in their handshake: each costs a few ms of CPU and some 100 KiB until inboundUpgradeTimeoutMs. */
const inboundHandshakesMax = 64;
const inboundUpgradeTimeoutMs = 5_000;
/** One address: TCP, noise and negotiation are about six round trips, so this allows 800 ms each. */
export const addressDialTimeoutMs = 5_000;
/** The dialler's own limits bound a dial; libp2p's are set out of the way. */
const dialTimeoutMs = 120_000;
const parallelDialsMax = 32;
/** Both sides may dial at once, so a peer may have two connections for a moment; with room for strangers that join. */
const connectionsMax = 2 * membersMax + 64;

/** Makes a host that is not started. */
export async function createHost({ privateKey, listen, announce, discovery, gate }: HostInit): Promise<Libp2p> {
  return createLibp2p({
    start: false,
    privateKey: await generateKeyPairFromSeed('Ed25519', privateKey),
    nodeInfo: { name: 'parley', version: '1', userAgent: 'parley' },
    logger: { forComponent: () => silentLogger },
    addresses: { listen: [...listen], appendAnnounce: [...announce] },
    transports: [
      tcp({ dialOpts: { noDelay: true }, listenOpts: { noDelay: true } }),
      boundedWebSockets(inboundUpgradeTimeoutMs),
    ],
    connectionEncrypters: [boundedNoise()],
    streamMuxers: [boundedYamux()],
    connectionMonitor: { enabled: false },
    connectionManager: {
      maxConnections: connectionsMax,
      inboundConnectionThreshold: inboundConnectionsPerSecondMax,
      maxIncomingPendingConnections: inboundHandshakesMax,
      inboundUpgradeTimeout: inboundUpgradeTimeoutMs,
      inboundStreamProtocolNegotiationTimeout: inboundUpgradeTimeoutMs,
      addressDialTimeout: addressDialTimeoutMs,
      dialTimeout: dialTimeoutMs,
      maxParallelDials: parallelDialsMax,
      maxDialQueueLength: membersMax,
      reconnectRetries: 0,
      // The dialler orders the addresses; a stable sort that finds all equal keeps its order.
      addressSorter: () => 0,
    },
    connectionGater: {
      denyDialPeer: (peer) => !gate.admitsOutbound(peer.toString()),
      denyOutboundEncryptedConnection: (peer) => !gate.admitsOutbound(peer.toString()),
      denyInboundEncryptedConnection: (peer) => !gate.admitsInbound(peer.toString()),
    },
    ...(discovery === undefined ? {} : { services: { localDiscovery: localDiscovery(discovery) } }),
  });
}

/**
 * Starts a host.
 * @throws ParleyError `address-in-use` or `cannot-listen`.
 */
export async function startHost(host: Libp2p, listen: readonly string[]): Promise<void> {
  try {
    await host.start();
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    const addresses = listen.join("', '");
    if (text.includes('EADDRINUSE')) {
      throw new ParleyError('address-in-use', `cannot listen on '${addresses}': another process uses the port`, {
        hint: 'Stop that process or listen on another port.',
        cause,
      });
    }
    throw new ParleyError('cannot-listen', `cannot listen on '${addresses}': ${text}`, {
      hint: 'Check the addresses in the configuration; port 0 takes a free one.',
      cause,
    });
  }
}

/** Stops a host. libp2p waits for its connections on timers that do not keep a process alive, so this does. */
export async function stopHost(host: Libp2p): Promise<void> {
  const alive = setInterval(() => {}, 1_000);
  await Promise.resolve(host.stop()).finally(() => clearInterval(alive));
}

/**
 * Dials addresses of one peer in turn until a connection is up; `force` makes one also where there is one. Texts that are no multiaddr are passed over.
 * Rejects with libp2p's error, also when nothing is left to dial.
 */
export async function dialAddresses(
  host: Libp2p,
  addresses: readonly string[],
  options: { readonly signal?: AbortSignal; readonly force?: boolean } = {},
): Promise<Connection> {
  const parsed = addresses.flatMap((address) => {
    try {
      return [multiaddr(address)];
    } catch {
      return [];
    }
  });
  if (parsed.length === 0) throw new Error('no address is known');
  return host.dial(parsed, options);
}

/** libp2p's own log: its events reach us as rejections and closed connections, and formatting what nobody reads costs CPU. */
const silent = () => {};
const silentLogger = Object.assign(silent, {
  error: silent,
  trace: silent,
  enabled: false,
  newScope: () => silentLogger,
});
