// One voter of a bench, in a process of its own: the real consensus on a real LevelDB, its witness file and the real mesh; the
// state machine only counts, and is certified. Started by voter-group.ts, which tells it over the process's channel what to do
// and what to measure.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { bootstrapLog, type Consensus, createConsensus } from '../../node/consensus/index.ts';
import { createLogger, systemClock } from '../../node/host/index.ts';
import type { KeyValueStore, Mesh, MessageStream } from '../../node/interfaces.ts';
import { createMesh, type Identity, identityFromSeed } from '../../node/mesh/index.ts';
import { createWitnessFile, openStore } from '../../node/store/index.ts';
import { sha256Hex } from '../../protocols/codec.ts';
import { plainConfiguration } from '../../protocols/consensus-record.ts';
import { CertifiedCounter, genesisHash } from './certified-counter.ts';
import { largeState } from './large-state.ts';
import { probeLoop, type Stall } from './loop-probe.ts';

/** What a voter needs to know; the same for all but for its number. */
export interface VoterPlan {
  readonly raftId: number;
  readonly folder: string;
  /** One TCP port on 127.0.0.1 for each voter, by number. */
  readonly ports: readonly number[];
}

export type VoterTask =
  | { readonly do: 'status' }
  /** Proposes entries from this many clients, each waiting for its last one. */
  | { readonly do: 'propose'; readonly clients: number; readonly durationMs: number }
  /** Writes synced batches of one such entry to a database beside, one after another. */
  | { readonly do: 'write'; readonly durationMs: number }
  | { readonly do: 'hand-over'; readonly to: number }
  /** Sends bytes to another voter over the same connection. */
  | { readonly do: 'transfer'; readonly to: number; readonly bytes: number }
  /** Drops the log, so that who is behind needs a snapshot, which will be of a state near the limit. */
  | { readonly do: 'compact' }
  /** The worst stall of the event loop since the last such task; the first one begins to look. */
  | { readonly do: 'stall' };

export interface Rate {
  readonly perSecond: number;
  readonly p50Ms: number;
}

/** Sent by a voter that has become leader and has committed an entry of its own. */
export interface LedEvent {
  readonly event: 'led';
  readonly raftId: number;
}

const entryBytes = 100;
const transferProtocol = '/parley/bench-transfer/1';
const transferPartBytes = 256 * 1024;

const seedOf = (raftId: number): Uint8Array => Buffer.from(sha256Hex(`voter ${raftId}`), 'hex');
const identityOf = (raftId: number): Identity => identityFromSeed(seedOf(raftId));
const peerOf = (raftId: number): string => identityOf(raftId).peer;

async function start({
  raftId,
  folder,
  ports,
}: VoterPlan): Promise<{ mesh: Mesh; consensus: Consensus; counter: CertifiedCounter }> {
  const raftIds = ports.map((_, position) => position + 1);
  const contacts = raftIds.map((id) => {
    const peer = peerOf(id);
    return { peer, addresses: [`/ip4/127.0.0.1/tcp/${ports[id - 1]}/p2p/${peer}`] };
  });
  const members = {
    isMember: (peer: string) => contacts.some((contact) => contact.peer === peer),
    wasRemoved: () => false,
    joinsOpen: () => false,
    asksStrangers: () => false,
    meet: () => undefined,
    wanted: () => contacts.filter((_, position) => position + 1 !== raftId),
    onChange: () => () => undefined,
    peerOf: (id: number) => contacts[id - 1]?.peer,
    raftIdOf: (peer: string) => contacts.findIndex((contact) => contact.peer === peer) + 1 || undefined,
    voters: () => raftIds,
  };
  const common = { clock: systemClock, logger: createLogger({ level: 'error' }), members };
  const listen = [`/ip4/127.0.0.1/tcp/${ports[raftId - 1]}`];
  const meshInit = { privateKey: seedOf(raftId), listen, discovery: 'none' } as const;
  const mesh = createMesh(meshInit)({ ...common, random: randomBytes });
  const store = await openStore(join(folder, 'log'));
  const witness = createWitnessFile(join(folder, 'witness'));
  const configuration = plainConfiguration(raftIds);
  await bootstrapLog({ store, witness }, { index: 1, term: 1, chainHash: genesisHash, configuration });
  const counter = new CertifiedCounter(raftIds.map(identityOf));
  const certifying = counter.certifying(identityOf(raftId));
  const components = { ...common, store, witness, mesh, randomBytes, stateMachine: counter, certifying };
  const consensus = createConsensus({ raftId })(components);
  mesh.handle(transferProtocol, drain);
  await mesh.start();
  await consensus.start();
  return { mesh, consensus, counter };
}

async function drain(stream: MessageStream): Promise<void> {
  while ((await stream.receive()) !== undefined) {
    // Only the cost of moving the bytes matters.
  }
  await stream.close();
}

async function transfer(mesh: Mesh, peer: string, bytes: number): Promise<void> {
  const stream = await mesh.open(peer, transferProtocol, { signal: AbortSignal.timeout(5_000) });
  const part = randomBytes(transferPartBytes);
  for (let sent = 0; sent < bytes; sent += part.byteLength) await stream.send(part);
  await stream.close();
  await stream.receive();
}

/** Runs `work` again and again from each client; rates count whole runs. */
async function measure(clients: number, durationMs: number, work: () => Promise<unknown>): Promise<Rate> {
  const times: number[] = [];
  const startedMs = performance.now();
  const client = async (): Promise<void> => {
    for (let beganMs = performance.now(); beganMs - startedMs < durationMs; ) {
      await work();
      const endedMs = performance.now();
      times.push(endedMs - beganMs);
      beganMs = endedMs;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  const seconds = (performance.now() - startedMs) / 1_000;
  times.sort((a, b) => a - b);
  return { perSecond: times.length / seconds, p50Ms: times[Math.floor(times.length / 2)] ?? Number.NaN };
}

async function writeBatches(store: KeyValueStore, durationMs: number): Promise<Rate> {
  const value = randomBytes(entryBytes);
  let next = 0;
  const write = (): Promise<void> => {
    next += 1;
    return store.batch([{ type: 'put', key: `entry/${next}`, value }], { sync: true });
  };
  try {
    return await measure(1, durationMs, write);
  } finally {
    await store.close();
  }
}

async function main(plan: VoterPlan): Promise<void> {
  const { mesh, consensus, counter } = await start(plan);
  let worstStall: (() => Stall) | undefined;
  const data = randomBytes(entryBytes);
  const propose = () => consensus.propose(data, { signal: AbortSignal.timeout(10_000) });

  async function perform(task: VoterTask): Promise<unknown> {
    if (task.do === 'status') return consensus.status();
    if (task.do === 'propose') return measure(task.clients, task.durationMs, propose);
    if (task.do === 'write') return writeBatches(await openStore(join(plan.folder, 'bare')), task.durationMs);
    if (task.do === 'hand-over') return consensus.transferLeadership([task.to]);
    if (task.do === 'transfer') return transfer(mesh, peerOf(task.to), task.bytes);
    if (task.do === 'compact') {
      counter.state = await largeState();
      return consensus.compact(counter.appliedIndex());
    }
    worstStall ??= probeLoop();
    return worstStall();
  }

  const tell = (message: object): void => void process.send?.(message);
  const tellThatItLeads = (): void => {
    propose().then(
      () => tell({ event: 'led', raftId: plan.raftId } satisfies LedEvent),
      () => undefined,
    );
  };
  consensus.onRoleChange(({ role }) => role === 'leader' && tellThatItLeads());
  if (consensus.status().role === 'leader') tellThatItLeads();
  process.on('message', ({ id, task }: { id: number; task: VoterTask }) => {
    perform(task).then(
      (result) => tell({ id, result }),
      (error: unknown) => tell({ id, error: String(error) }),
    );
  });
  process.once('disconnect', () => process.exit());
  tell({ event: 'ready' });
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? '') as VoterPlan);
