import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { createLogger, createProcessRunner } from '../../node/host/index.ts';
import { machineSubstituters, substitutersText } from '../../scripts/lib/machine-substituters.ts';

const runner = createProcessRunner({ logger: createLogger({ level: 'silent' }) });
const key = 'cache.test-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=';

/** A binary cache on loopback; a silent one takes the question and never answers. */
async function cacheOn(t: TestContext, isSilent: boolean): Promise<string> {
  const server = createServer((request, response) => {
    if (!isSilent) response.writeHead(request.url === '/nix-cache-info' ? 200 : 404).end('StoreDir: /nix/store\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('machineSubstituters() hands on the caches that answer, with the keys, and does not wait for others', async (t) => {
  const [quick, silent] = [await cacheOn(t, false), await cacheOn(t, true)];
  const NIX_CONFIG = `substituters = ${quick}/ ${silent} file:///nowhere http://127.0.0.1:1\ntrusted-public-keys = ${key}`;
  const found = await machineSubstituters(runner, { NIX_CONFIG }, AbortSignal.timeout(20_000));
  assert.deepEqual(found, { substituters: [quick], trustedPublicKeys: [key] });
  assert.ok(substitutersText(found).includes(quick));
});

test('machineSubstituters() hands on nothing where no cache answers', async () => {
  const NIX_CONFIG = 'substituters = http://127.0.0.1:1\n';
  const found = await machineSubstituters(runner, { NIX_CONFIG }, AbortSignal.timeout(20_000));
  assert.deepEqual(found, { substituters: [], trustedPublicKeys: [] });
  assert.match(substitutersText(found), /built from source/);
});
