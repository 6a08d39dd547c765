// Tests the loopback binary cache with plain requests and with Nix itself.

import assert from 'node:assert/strict';
import { readdir, readlink, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { ParleyError } from '../../protocols/errors.ts';
import {
  type Fleet,
  makeKey,
  makeStore,
  readNar,
  removeStore,
  required,
  type StoreFixture,
  startFleet,
  type TestPeer,
} from './fleet.ts';

let store: StoreFixture;
let fleet: Fleet;
let shop: TestPeer;
const { signal } = new AbortController();

before(async () => {
  store = await makeStore([300_000, 10, 20]);
  fleet = await startFleet(store, { home: 1, shop: 1 });
  shop = fleet.get('shop-1');
  await shop.closures.fetch(store.manifestHash, { signal });
});
after(async () => {
  await fleet.stop();
  await removeStore(store);
});

interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly tookMs: number;
}

async function get(path: string, method = 'GET', headers: Record<string, string> = {}): Promise<Answer> {
  const startMs = performance.now();
  return await new Promise<Answer>((resolve, reject) => {
    const asked = request(`${shop.closures.cacheUrl()}${path}`, { method, headers }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('end', () => {
        const tookMs = performance.now() - startMs;
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces), tookMs });
      });
    });
    asked.on('error', reject).end();
  });
}

function hashPart(storePath: string): string {
  return storePath.slice('/nix/store/'.length, '/nix/store/'.length + 32);
}

test('the cache shows info, narinfo and NAR of every fetched path', async () => {
  const info = await get('/nix-cache-info');
  assert.equal(info.body.toString(), 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 10\n');
  for (const prefix of ['', `/${store.manifestHash}`]) {
    for (const path of store.manifest.paths) {
      const narinfo = await get(`${prefix}/${hashPart(path.storePath)}.narinfo`);
      assert.equal(narinfo.status, 200);
      assert.match(narinfo.body.toString(), new RegExp(`^StorePath: ${path.storePath}\nURL: nar/`));
      assert.ok(narinfo.body.toString().includes(`Sig: ${path.signature}\n`));
      const nar = await get(`${prefix}/nar/${path.narHash.slice('sha256:'.length)}.nar`);
      assert.equal(Buffer.compare(nar.body, await readNar(`${store.storeFolder}${path.storePath}`)), 0);
      const head = await get(`${prefix}/${hashPart(path.storePath)}.narinfo`, 'HEAD');
      assert.deepEqual([head.status, head.body.byteLength], [200, 0]);
    }
  }
});

test('the cache answers 404 within 100 ms to everything else', async () => {
  const known = hashPart(required(store.manifest.paths[0]).storePath);
  const paths = [
    '/',
    `/${'0'.repeat(32)}.narinfo`,
    `/nar/${'0'.repeat(52)}.nar`,
    `/${known}.narinfo?x=1`,
    `/${known}.ls`,
    `/${'a'.repeat(64)}/${known}.narinfo`,
    '/../../etc/passwd',
    '/nar/nix-cache-info',
    `/realisations/sha256:${'0'.repeat(64)}!out.doi`,
    `/${'x'.repeat(4_000)}`,
  ];
  for (const path of paths) {
    // The best of three: a busy machine may hold back any single answer.
    const answers = [await get(path), await get(path), await get(path)];
    assert.deepEqual(
      answers.map(({ status }) => status),
      [404, 404, 404],
      path,
    );
    const tookMs = Math.min(...answers.map((answer) => answer.tookMs));
    assert.ok(tookMs < 100, `${path} took ${tookMs} ms`);
  }
  for (const method of ['PUT', 'POST', 'DELETE', 'OPTIONS', 'PATCH']) {
    assert.equal((await get('/nix-cache-info', method)).status, 404, method);
  }
});

test('the cache drops what is no HTTP and oversized headers without a 5xx', async () => {
  const url = new URL(shop.closures.cacheUrl());
  const headers = `X: ${'y'.repeat(10_000)}`;
  for (const text of ['\x00\x01\x02\r\n\r\n', `GET / HTTP/1.1\r\n${headers}\r\n\r\n`, 'CONNECT x:1 HTTP/1.1\r\n\r\n']) {
    const answer = await new Promise<string>((resolve) => {
      const socket = connect(Number(url.port), url.hostname, () => socket.write(text));
      let all = '';
      socket.on('data', (piece) => {
        all += piece;
      });
      socket.on('error', () => resolve(all));
      socket.on('close', () => resolve(all));
    });
    assert.doesNotMatch(answer, /^HTTP\/1.1 5/);
  }
  assert.equal((await get('/nix-cache-info')).status, 200);
});

test('the cache answers 404 when a file of the spool has gone behind its back', async (context) => {
  const spoolFolder = `${store.folder}/emptied`;
  const other = await startFleet(store, { home: 1, shop: 1 }, (name) => (name === 'shop-1' ? { spoolFolder } : {}));
  context.after(() => other.stop());
  const { closures } = other.get('shop-1');
  await closures.fetch(store.manifestHash, { signal });
  for (const name of await readdir(spoolFolder)) await rm(`${spoolFolder}/${name}`);
  const path = required(store.manifest.paths[0]);
  const url = `${closures.cacheUrl()}/nar/${path.narHash.slice('sha256:'.length)}.nar`;
  assert.equal((await fetch(url)).status, 404);
});

test('realise() lets Nix take the closure with signatures checked, roots it and empties the spool', async (context) => {
  const other = await startFleet(store, { home: 1, shop: 1 });
  context.after(() => other.stop());
  const { closures, folder } = other.get('shop-1');
  const rootLink = `${folder}/root`;
  const early = closures.realise(store.manifestHash, { rootLink, signal });
  await assert.rejects(early, (error) => error instanceof ParleyError && error.code === 'closure-incomplete');
  await closures.fetch(store.manifestHash, { signal });
  await closures.realise(store.manifestHash, { rootLink, signal });
  assert.equal(await readlink(rootLink), store.manifest.root);
  for (const path of store.manifest.paths) {
    const taken = await readNar(`${folder}/store${path.storePath}`);
    assert.equal(Buffer.compare(taken, await readNar(`${store.storeFolder}${path.storePath}`)), 0);
  }
  assert.equal(closures.counters().spoolBytes, 0);
});

test('Nix refuses a closure whose signer it does not trust', async (context) => {
  const keys = [store.key.publicKey];
  const other = await startFleet(store, { home: 1, shop: 1 }, () => ({ builderKeys: keys }));
  context.after(() => other.stop());
  const { closures, folder } = other.get('shop-1');
  await closures.fetch(store.manifestHash, { signal });
  keys[0] = makeKey('builder-1').publicKey;
  const realising = closures.realise(store.manifestHash, { rootLink: `${folder}/root`, signal });
  await assert.rejects(realising, /not signed by any of the keys|lacks a (valid )?signature/);
});
