// Owns the end of a connection that must go now.

import type { Connection } from './host.ts';

/** A WebSocket closes by a handshake; after this it is dropped. */
const closeTimeoutMs = 1_000;

/** Ends a connection at once. Its streams are reset, and the other side notices. */
export function cutConnection(connection: Connection, reason: Error): void {
  for (const stream of [...connection.streams]) stream.abort(reason);
  if (!connection.remoteAddr.toString().includes('/ws')) {
    connection.abort(reason);
    return;
  }
  // libp2p's WebSocket connection cannot be aborted: it closes with a status code that the standard forbids.
  connection.close({ signal: AbortSignal.timeout(closeTimeoutMs) }).catch(() => connection.abort(reason));
}
