// Owns the fleets that runs begin with: grown once from a founder, without faults and from a fixed seed, by the ledger's own
// entries; then every run starts from a copy of their disks.

import { createGenesis } from '../../node/ledger/index.ts';
import type { Role } from '../../protocols/primitives.ts';
import { createClient, History } from './client.ts';
import { Fleet, factsOf, identityOf, type PeerPlan } from './fleet.ts';
import type { Judge } from './judge.ts';
import type { Hardware } from './peer.ts';
import { commit, join } from './people.ts';

export interface Shape {
  readonly voters: number;
  readonly members: number;
}

export interface Grown {
  readonly genesis: Uint8Array;
  readonly peers: readonly PeerPlan[];
  /** What was committed on the way. */
  readonly entries: Judge['entries'];
}

const limitMs = 60_000;
const grown = new Map<string, Promise<Grown>>();

/** The fleet of a shape that every run of that shape starts from. */
export function grownFleet(shape: Shape): Promise<Grown> {
  const key = `${shape.voters}+${shape.members}`;
  const found = grown.get(key) ?? grow(shape);
  grown.set(key, found);
  return found;
}

/** A founder, then voters and members; all members but the first are deployed without a person's yes. */
function newcomers({ voters, members }: Shape): { readonly name: string; readonly roles: Role[] }[] {
  const voting = Array.from({ length: voters - 1 }, (_, at) => ({
    name: `voter${at + 2}`,
    roles: ['builder', 'voter'] as Role[],
  }));
  const others = Array.from({ length: members }, (_, at) => ({
    name: `device${at + 1}${at === 0 ? '' : '-auto'}`,
    roles: ['member'] as Role[],
  }));
  return [...voting, ...others];
}

async function grow(shape: Shape): Promise<Grown> {
  const founderRoles: Role[] = ['builder', 'voter'];
  const voterKey = identityOf('vote of gate').peer;
  const founder = { ...factsOf('gate', founderRoles), voterKey, name: 'gate', site: 'home', roles: founderRoles };
  const nonce = new Uint8Array(16);
  const { bytes: genesis } = createGenesis({ founder, recoveryKey: 'none', nonce, timeMs: 1_700_000_000_000 });
  const fleet = new Fleet(1, genesis);
  fleet.add({ name: 'gate', roles: founderRoles, raftId: 1 });
  fleet.boot('gate');
  let isGrown = false;
  const growing = admitAll(fleet, shape).then(() => {
    isGrown = true;
  });
  await fleet.time.run(limitMs, () => isGrown);
  if (!isGrown) throw new Error(`the fleet did not grow: ${fleet.judge.violations.join('; ') || 'no reason is known'}`);
  await growing;
  const peers = [...fleet.peers.values()].map(({ hardware }) => planOf(hardware));
  return { genesis, peers, entries: fleet.judge.entries };
}

async function admitAll(fleet: Fleet, shape: Shape): Promise<void> {
  const client = createClient('root', fleet, new History(), fleet.chance('root'));
  while (fleet.voters()[0]?.consensus.status().role !== 'leader') await client.pause(20);
  for (const { name, roles } of newcomers(shape)) await join(fleet, client, name, roles);
  let ids = 0;
  const state = client.glance();
  if (state !== undefined) {
    await commit(client, state, () => {
      ids += 1;
      return `first-commit-${ids}`;
    });
  }
  while (!isComplete(fleet, shape)) await client.pause(50);
  for (const { running } of fleet.ready()) await running.ledger.snapshot();
  await client.pause(1_000);
}

function isComplete(fleet: Fleet, { voters }: Shape): boolean {
  const states = fleet.ready().map(({ running }) => running.ledger.state());
  const isSame = new Set(states.map(({ index }) => index)).size === 1;
  return isSame && states.every((state) => state.voters.length === voters && state.policy !== null);
}

function planOf({ name, vote, databases, blobs }: Hardware): PeerPlan {
  const { ledger, consensus, witness, journal } = databases;
  const records = {
    ...{ ledger: ledger.records, consensus: consensus.records },
    ...{ witness: witness.records, journal: journal.records },
  };
  const { roles, raftId } = vote.record;
  return { name, roles, raftId, vote: vote.record, records, blobs: blobs.blobs };
}
