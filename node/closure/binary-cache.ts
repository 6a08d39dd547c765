// Owns the loopback binary cache from which Nix substitutes what the spool holds. It answers from memory: a path that is
// not there is a 404 at once, and so is every trouble of ours, because Nix gives up on a whole command after one 5xx.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename } from 'node:path';
import type { Manifest, ManifestPath } from '../../protocols/manifest.ts';
import type { Logger } from '../interfaces.ts';
import type { Spool } from './spool.ts';

const headerBytesMax = 8 * 1024;
const headersTimeoutMs = 5_000;
/** Nix opens 25 connections; several commands may run at once. */
const connectionsMax = 256;
const socketTimeoutMs = 30_000;
const readBytes = 256 * 1024;
const cachePath = /^\/(?:([0-9a-f]{64})\/)?(?:(nix-cache-info)|([0-9a-z]{32})\.narinfo|nar\/([0-9a-z]{52})\.nar)$/;

export interface BinaryCache {
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Shows the proven paths of a manifest, under the root and under its own prefix. */
  show(manifestHash: string, manifest: Manifest): void;
  hide(manifestHash: string): void;
  /** URL of the cache; with a manifest's hash one that holds that manifest's paths only, so that order and content bind. */
  url(manifestHash?: string): string;
}

interface Found {
  readonly headers: Readonly<Record<string, string | number>>;
  readonly body: string | ManifestPath;
}

/** Indexes a manifest by the hash part of its paths and by NarHash. */
function indexOf(manifest: Manifest): ReadonlyMap<string, ManifestPath> {
  const index = new Map<string, ManifestPath>();
  for (const path of manifest.paths) {
    index.set(basename(path.storePath).slice(0, 32), path);
    index.set(path.narHash.slice('sha256:'.length), path);
  }
  return index;
}

export function createBinaryCache(components: {
  readonly spool: Pick<Spool, 'holdsNow' | 'read'>;
  readonly logger: Logger;
}): BinaryCache {
  const { spool, logger } = components;
  const shown = new Map<string, ReadonlyMap<string, ManifestPath>>();
  let server: Server | undefined;
  let port = 0;

  function look(key: string, manifestHash: string | undefined): ManifestPath | undefined {
    const indexes = manifestHash === undefined ? [...shown.values()].reverse() : [shown.get(manifestHash)];
    return indexes.map((index) => index?.get(key)).find((path) => path !== undefined && spool.holdsNow(path));
  }

  function find(url: string): Found | undefined {
    const [, manifestHash, info, hashPart, narDigits] = cachePath.exec(url) ?? [];
    if (manifestHash !== undefined && !shown.has(manifestHash)) return undefined;
    if (info !== undefined)
      return text('text/x-nix-cache-info', 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 10\n');
    const key = hashPart ?? narDigits;
    const path = key === undefined ? undefined : look(key, manifestHash);
    if (path === undefined) return undefined;
    if (hashPart !== undefined) return text('text/x-nix-narinfo', narinfo(path));
    return { headers: { 'content-type': 'application/x-nix-nar', 'content-length': path.narSize }, body: path };
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const readable = request.method === 'GET' || request.method === 'HEAD';
    const found = readable && isLoopback(request) ? find(request.url ?? '') : undefined;
    if (found === undefined) {
      response.writeHead(404, { 'content-length': 0, ...(readable ? {} : { connection: 'close' }) }).end();
    } else if (request.method === 'HEAD' || typeof found.body === 'string') {
      response.writeHead(200, found.headers).end(request.method === 'HEAD' ? undefined : found.body);
    } else {
      await sendNar(found.body, found.headers, response);
    }
  }

  async function sendNar(path: ManifestPath, headers: Found['headers'], response: ServerResponse): Promise<void> {
    const reader = await spool.read(path);
    try {
      response.writeHead(200, headers);
      for (let offset = 0; offset < path.narSize && !response.destroyed; ) {
        const bytes = await reader.read(offset, Math.min(readBytes, path.narSize - offset));
        if (bytes.byteLength === 0) throw new Error(`'${path.storePath}' is cut off in the spool`);
        offset += bytes.byteLength;
        if (!response.write(bytes)) await drained(response);
      }
      response.end();
    } finally {
      await reader.close();
    }
  }

  function handle(request: IncomingMessage, response: ServerResponse): void {
    answer(request, response).catch((error: unknown) => {
      logger.warn({ url: request.url, error: String(error) }, 'the binary cache could not answer');
      if (response.headersSent) response.destroy();
      else response.writeHead(404, { 'content-length': 0 }).end();
    });
  }

  return {
    async start() {
      if (server !== undefined) return;
      const starting = createServer({ maxHeaderSize: headerBytesMax, headersTimeout: headersTimeoutMs }, handle);
      starting.requestTimeout = headersTimeoutMs;
      starting.maxConnections = connectionsMax;
      starting.setTimeout(socketTimeoutMs, (socket) => socket.destroy());
      starting.on('clientError', (_error, socket) => socket.destroy());
      server = starting;
      await new Promise<void>((resolve, reject) => {
        starting.once('error', reject).listen(port, '127.0.0.1', resolve);
      });
      starting.on('error', (error) => logger.warn({ error: String(error) }, 'the binary cache has trouble listening'));
      port = (starting.address() as AddressInfo).port;
    },

    async stop() {
      const stopping = server;
      server = undefined;
      if (stopping === undefined) return;
      const closed = new Promise<void>((resolve) => stopping.close(() => resolve()));
      stopping.closeAllConnections();
      await closed;
    },

    show: (manifestHash, manifest) => void shown.set(manifestHash, indexOf(manifest)),
    hide: (manifestHash) => void shown.delete(manifestHash),
    url: (manifestHash) => `http://127.0.0.1:${port}${manifestHash === undefined ? '' : `/${manifestHash}`}`,
  };
}

function text(contentType: string, body: string): Found {
  return { headers: { 'content-type': contentType, 'content-length': Buffer.byteLength(body) }, body };
}

function narinfo(path: ManifestPath): string {
  const lines = [
    `StorePath: ${path.storePath}`,
    `URL: nar/${path.narHash.slice('sha256:'.length)}.nar`,
    'Compression: none',
    `NarHash: ${path.narHash}`,
    `NarSize: ${path.narSize}`,
    `References: ${path.references.map((reference) => basename(reference)).join(' ')}`,
    ...(path.deriver === undefined ? [] : [`Deriver: ${basename(path.deriver)}`]),
    `Sig: ${path.signature}`,
  ];
  return `${lines.join('\n')}\n`;
}

function isLoopback(request: IncomingMessage): boolean {
  return /^(?:::ffff:)?127\./.test(request.socket.remoteAddress ?? '');
}

async function drained(response: ServerResponse): Promise<void> {
  await new Promise<void>((resolve) => {
    const go = (): void => {
      response.off('drain', go).off('close', go);
      resolve();
    };
    response.on('drain', go).on('close', go);
  });
}
