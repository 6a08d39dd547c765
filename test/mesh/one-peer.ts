// Runs one peer for a test until standard input ends. Arguments: its seed in hex, the other peer, the other's addresses.

import { randomBytes } from 'node:crypto';
import { createMesh } from '../../node/mesh/index.ts';
import { clock, TestMembers, testLogger } from './fixtures.ts';

const [seed = '', other = '', ...addresses] = process.argv.slice(2);
const members = new TestMembers();
members.set(other, addresses);
const mesh = createMesh({ privateKey: Buffer.from(seed, 'hex'), listen: ['/ip4/127.0.0.1/tcp/0'], discovery: 'none' })({
  clock,
  logger: testLogger('child'),
  random: randomBytes,
  members,
});
await mesh.start();
process.stdin.resume().on('end', () => process.exit(0));
