// A device in a process of its own, with a real database, store and container, for tests that kill it. Takes one order from
// its arguments, carries it out, prints each report as a line of JSON.

import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { createDevice } from '../../node/device/index.ts';
import { createContainedMachine, createNix, createProcessRunner, systemClock } from '../../node/host/index.ts';
import { createJournal } from '../../node/journal/index.ts';
import { verifySignature } from '../../node/mesh/index.ts';
import { openStore } from '../../node/store/index.ts';
import { encode, hashOf, sha256Hex } from '../../protocols/codec.ts';
import type { Order } from '../../protocols/ledger-state.ts';
import { createMemoryNetwork } from '../helpers/memory-mesh.ts';
import { silentLogger } from './toplevels.ts';
import { emptyState, host, identityOf, planFor, self } from './world.ts';

const [folder = '', numberText = '', closure = ''] = process.argv.slice(2);
const number = Number(numberText);
const manifest = hashOf(closure);
const planBytes = encode(planFor(number, closure, manifest));
const order: Order = {
  ...{ number, peer: self, host, task: `t${number}`, plan: sha256Hex(planBytes), closure, manifest },
  ...{ revision: null, givenAtMs: 0, cancelled: false, outcome: null, reason: null },
};
const state = { ...emptyState(), orders: { [host]: order } };

const runner = createProcessRunner({ logger: silentLogger });
const storeRoot = path.join(folder, 'store');
const nix = createNix({ store: storeRoot, cacheHome: path.join(folder, 'cache') })({ runner });
const machine = createContainedMachine({ storeRoot, rootFolder: path.join(folder, 'root'), switchTimeoutMs: 60_000 })({
  runner,
  nix,
});
const mesh = createMemoryNetwork().join(self);
await mesh.start();
const store = await openStore(path.join(folder, 'journal'));
const shared = { store, mesh, identity: identityOf(1), verifySignature, clock: systemClock, logger: silentLogger };
const journal = createJournal({ self, name: host, markerFile: path.join(folder, 'marker') })(shared);
const device = createDevice({
  ...{ self, host, healthSettleMs: 10, confirmWindowMs: 1_000, fetchPatienceMs: 1_000 },
  rootsFolder: path.join(folder, 'roots'),
})({
  ...shared,
  ...{ machine, journal, nix, randomBytes },
  ledger: { state: () => state, onApplied: () => () => {}, fetchBlob: async () => planBytes },
  closures: {
    fetch: async () => {},
    realise: (_, { rootLink }) => nix.addRoot(rootLink, closure),
    release: async () => {},
  },
});

journal.onAppended((report) => process.stdout.write(`${JSON.stringify({ ...report, signature: undefined })}\n`));
const keptAlive = setInterval(() => {}, 60_000);
process.on('SIGTERM', async () => {
  clearInterval(keptAlive);
  await device.stop();
  await journal.stop();
  await store.close();
});
await journal.start();
await device.start();
