// Runs in a network namespace of its own: two members that know each other's ids and no addresses. Prints `found`.

import { randomBytes } from 'node:crypto';
import { createMesh } from '../../node/mesh/index.ts';
import { clock, connection, TestMembers, testLogger } from './fixtures.ts';

const members = new TestMembers();
const meshes = ['one', 'two'].map((name) =>
  createMesh({ privateKey: randomBytes(32), listen: ['/ip4/0.0.0.0/tcp/0'], discovery: 'mdns' })({
    clock,
    logger: testLogger(name),
    random: randomBytes,
    members,
  }),
);
for (const { self } of meshes) members.set(self);
await Promise.all(meshes.map((mesh) => mesh.start()));
const [one, two] = meshes;
if (one === undefined || two === undefined) throw new Error('two peers');
await connection(one, two.self, true);
process.stdout.write('found\n');
process.exit(0);
