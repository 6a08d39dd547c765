// A built closure is kept by a second peer before anything depends on it: who is asked, who may ask, and what happens when
// a keeper cannot.

import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createSecondHolder } from '../../node/closure/index.ts';
import { createLogger } from '../../node/host/index.ts';
import { closureKeepProtocol } from '../../protocols/closure-keep.ts';
import { encode, sha256Hex } from '../../protocols/codec.ts';
import { createMemoryNetwork } from '../helpers/memory-mesh.ts';

const manifest = sha256Hex('a manifest');
const logger = createLogger({ level: 'silent' });
const signal = AbortSignal.timeout(30_000);

/** Peers `controller`, `builder`, `one`, `two`; whoever is in `failing` cannot fetch. */
async function createPeers(context: TestContext, failing: readonly string[] = []) {
  const folder = await mkdtemp(join(tmpdir(), 'parley-keep-'));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const network = createMemoryNetwork();
  const fetched: string[] = [];
  const peers = ['controller', 'builder', 'one', 'two'].map((name) => {
    const mesh = network.join(name);
    const roots = join(folder, name);
    const holder = createSecondHolder(roots)({
      mesh,
      keepers: (builder) => ['one', 'two', 'controller'].filter((peer) => peer !== builder),
      mayAsk: (peer) => peer === 'controller',
      closures: {
        async fetch(hash) {
          if (failing.includes(name)) throw new Error('the disk is full');
          fetched.push(`${name} ${hash}`);
        },
        realise: async (_hash, { rootLink }) => writeFile(rootLink, ''),
      },
      removeRoot: (link) => rm(link),
      logger,
    });
    return { name, mesh, holder, roots };
  });
  for (const { mesh } of peers) await mesh.start();
  const [controller, , one] = peers;
  if (!controller || !one) throw new Error('unreachable');
  for (const name of ['builder', 'one', 'two']) await controller.mesh.open(name, closureKeepProtocol, { signal });
  context.after(() => Promise.all(peers.map(({ mesh }) => mesh.stop())));
  return { network, controller, one, fetched };
}

test('keepTwice() has the preferred keeper take and root the closure', async (context) => {
  const { controller, one, fetched } = await createPeers(context);
  await controller.holder.keepTwice(manifest, 'builder', { signal });
  assert.deepEqual(fetched, [`one ${manifest}`]);
  assert.deepEqual(await readdir(one.roots), [manifest]);
});

test('keepTwice() goes on to the next keeper when one fails', async (context) => {
  const { controller, fetched } = await createPeers(context, ['one']);
  await controller.holder.keepTwice(manifest, 'builder', { signal });
  assert.deepEqual(fetched, [`two ${manifest}`]);
});

test('keepTwice() passes over keepers that are away and keeps the closure itself', async (context) => {
  const { network, controller, fetched } = await createPeers(context);
  network.kill('one');
  network.kill('two');
  await controller.holder.keepTwice(manifest, 'builder', { signal });
  assert.deepEqual(fetched, [`controller ${manifest}`]);
});

test('keepTwice() does not hold a deploy up where nobody else can keep it', async (context) => {
  const { controller, fetched } = await createPeers(context, ['one', 'two', 'controller']);
  await controller.holder.keepTwice(manifest, 'builder', { signal });
  assert.deepEqual(fetched, []);
});

test('a keeper refuses a peer that cannot be a controller, and malformed wishes', async (context) => {
  const { one, controller, fetched } = await createPeers(context);
  for (const [from, message] of [
    [one, encode({ version: 1, manifest })],
    [controller, encode({ version: 1 })],
    [controller, new Uint8Array([255, 0, 1])],
  ] as const) {
    const stream = await from.mesh.open('two', closureKeepProtocol, { signal });
    await stream.send(message);
    const reply = Buffer.from((await stream.receive({ signal })) ?? []).toString('latin1');
    assert.match(reply, /refused/);
  }
  assert.deepEqual(fetched, []);
});
