// Owns making a ledger state near the limit of a snapshot: what a voter encodes, hashes, sends and decodes when a fleet of the
// largest size has a long history.

import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createGenesis } from '../../node/ledger/index.ts';
import { identityFromSeed } from '../../node/mesh/index.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { membersMax } from '../../protocols/limits.ts';

/** Tasks with their lists of hosts take most of the room: the whole comes to some 15 MiB. */
const tasks = 12_000;
const hostsPerTask = 20;
/** Records made before the event loop goes on. */
const stepRecords = 100;

const seedOf = (name: string): Uint8Array => createHash('sha256').update(name).digest();
const hashOf = (name: string): string => Buffer.from(seedOf(name)).toString('hex');
const closureOf = (name: string): string => `/nix/store/${'0123456789abcdfg'.repeat(2)}-nixos-system-${name}-26.05`;
const peerOf = (name: string): string => identityFromSeed(seedOf(name)).peer;

/** Makes the state, letting others have the event loop meanwhile. */
export async function largeState(): Promise<LedgerState> {
  const { state } = createGenesis({
    founder: {
      ...{ peer: peerOf('host-0'), voterKey: peerOf('key-0'), name: 'host-0', site: 'home' },
      ...{ system: 'x86_64-linux', roles: ['member', 'voter'], addresses: [] },
    },
    recoveryKey: peerOf('recovery'),
    nonce: new Uint8Array(16),
    timeMs: 1,
  });
  const members = { ...state.members };
  const founder = Object.values(members)[0];
  if (founder === undefined) throw new Error('the founder is a member');
  const orders: Record<string, LedgerState['orders'][string]> = {};
  const devices: Record<string, LedgerState['devices'][string]> = {};
  for (let number = 1; number < membersMax; number += 1) {
    const name = `host-${number}`;
    const peer = peerOf(name);
    const place = { closure: closureOf(name), manifest: hashOf(name), plan: hashOf('plan'), revision: null };
    members[peer] = {
      ...founder,
      name,
      raftId: 0,
      roles: ['member'],
      addresses: [`/ip4/10.0.0.1/tcp/4001/p2p/${peer}`],
    };
    orders[name] = {
      ...{ ...place, generation: 0, number, peer, host: name, task: 't1', givenAtMs: 1 },
      ...{ cancelled: false, outcome: 'succeeded', reason: null },
    };
    const ran = Array.from({ length: 8 }, (_, order) => ({ ...place, order, atMs: 1 }));
    const facts = { incarnation: 1, sequence: number, running: place.closure, booted: place.closure };
    devices[name] = { ...facts, outcome: 'succeeded', reportedAtMs: 1, ran };
    if (number % stepRecords === 0) await nextTurn();
  }
  return { ...state, members, orders, devices, tasks: await manyTasks() };
}

async function manyTasks(): Promise<LedgerState['tasks']> {
  const made: Record<string, LedgerState['tasks'][string]> = {};
  const hosts = Array.from({ length: hostsPerTask }, (_, number) => `host-${number}`);
  for (let number = 1; number <= tasks; number += 1) {
    const id = `t${number}`;
    made[id] = {
      ...{ id, type: 'deploy', status: 'completed', outcome: 'succeeded', reason: null, parent: null },
      ...{ children: hosts.map((host) => `${id}/${host}`), actor: 'alice', commandId: null, attempt: 1 },
      ...{ submittedAtMs: 1, startedAtMs: 1, endedAtMs: 1, revision: null, selector: '@all', hosts: [...hosts] },
      ...{ inputs: [], keepGoing: false, commit: null, stage: 'ended', evaluation: hashOf(id), builder: null },
      ...{ plan: hashOf(`plan of ${id}`), host: null, drvPath: null, closure: null, manifest: null, order: null },
      ...{ failedUnits: [], simulated: false, abortedBy: null },
    };
    if (number % stepRecords === 0) await nextTurn();
  }
  return made;
}
