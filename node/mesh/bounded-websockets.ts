// Owns the WebSocket transport with its limits. libp2p's server takes messages of 100 MiB from anybody who has not even
// shaken hands, keeps silent sockets for ever, and listens to no errors of its WebSockets, so that one malformed frame from a
// stranger ends the process. It has no options for that; it is mended on the servers that a new listener holds.

import { Server } from 'node:net';
import { webSockets } from '@libp2p/websockets';

/** noise speaks in pieces of 64 KiB, each sent as one message. */
const messageBytesMax = 128 * 1024;

type TransportFactory = ReturnType<typeof webSockets>;
type Accept = (socket: ServerSocket, request: unknown) => void;

interface ServerSocket {
  on(event: 'error', listener: () => void): void;
  terminate(): void;
}

/** What we touch of the server (package ws) inside libp2p's listener. */
interface UpgradeServer {
  options: { maxPayload: number };
  handleUpgrade(request: unknown, socket: unknown, head: unknown, accept: Accept): void;
}

/** The WebSocket transport for a libp2p host. @param upgradeTimeoutMs how long a socket may be silent before it is a WebSocket. */
export function boundedWebSockets(upgradeTimeoutMs: number): TransportFactory {
  return (components) => {
    const transport = webSockets({ http: { headersTimeout: upgradeTimeoutMs } })(components);
    const createListener = transport.createListener.bind(transport);
    transport.createListener = (options) => {
      const listener = createListener(options);
      const sockets: unknown = 'server' in listener ? listener.server : undefined;
      const upgrades: unknown = 'wsServer' in listener ? listener.wsServer : undefined;
      if (!(sockets instanceof Server) || !isUpgradeServer(upgrades)) {
        throw new Error('the WebSocket listener has no servers that can be bounded');
      }
      // The upgrade takes this time-out away again.
      sockets.on('connection', (socket) => socket.setTimeout(upgradeTimeoutMs, () => socket.destroy()));
      bound(upgrades);
      return listener;
    };
    return transport;
  };
}

function bound(server: UpgradeServer): void {
  server.options.maxPayload = messageBytesMax;
  const handleUpgrade = server.handleUpgrade.bind(server);
  server.handleUpgrade = (request, socket, head, accept) => {
    handleUpgrade(request, socket, head, (webSocket, upgraded) => {
      webSocket.on('error', () => webSocket.terminate());
      accept(webSocket, upgraded);
    });
  };
}

function isUpgradeServer(server: unknown): server is UpgradeServer {
  if (typeof server !== 'object' || server === null || !('options' in server && 'handleUpgrade' in server))
    return false;
  const { options, handleUpgrade } = server;
  return (
    typeof options === 'object' && options !== null && 'maxPayload' in options && typeof handleUpgrade === 'function'
  );
}
