// Owns the demo's fleet on this machine: a state folder for each peer, founded and joined by the real protocol, loopback
// ports that stay the same over restarts, one process each. What it made is written down, so that it can go on later.

import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { createAttachment } from '../../chatops/attachment.ts';
import { connectControl, controlSocketPath } from '../../node/control/client.ts';
import { systemClock } from '../../node/host/index.ts';
import type { ProcessRunner } from '../../node/interfaces.ts';
import { check } from '../../protocols/codec.ts';
import type { Command } from '../../protocols/control.ts';
import { fromErrorRecord, ParleyError } from '../../protocols/errors.ts';
import { type StatusView, statusViewSchema, votersViewSchema } from '../../protocols/views.ts';
import type { PeerPlan } from './demo-options.ts';
import type { MachineSubstituters } from './machine-substituters.ts';
import { createPeerProcess, type PeerProcess } from './peer-process.ts';

export interface FleetRecord {
  readonly version: 1;
  readonly peers: readonly (PeerPlan & { readonly port: number })[];
}

export interface DemoFleet {
  readonly record: FleetRecord;
  readonly peers: readonly PeerProcess[];
  /** Sockets to ask, voters first, those of running peers before others. */
  sockets(): string[];
  status(signal: AbortSignal): Promise<StatusView>;
  /** Starts these peers and waits until their sockets answer. */
  startPeers(names: readonly string[], signal: AbortSignal): Promise<void>;
  /** Waits until the fleet sees all of these peers; calls `onProgress` with how many it sees. */
  waitUntilOnline(names: readonly string[], signal: AbortSignal, onProgress: (online: number) => void): Promise<void>;
  stop(): Promise<void>;
}

export interface DemoFleetInit {
  readonly folder: string;
  readonly runner: ProcessRunner;
  readonly onProgress: (text: string) => void;
  readonly signal: AbortSignal;
  /** What the peers' stores may substitute from; default nothing. */
  readonly substituters?: MachineSubstituters;
  /** Where each peer lives: its address, and words before its program's own; default loopback and none. */
  readonly place?: (name: string) => { readonly address: string; readonly command: readonly string[] };
  /** How much the peers log; default `info`. */
  readonly logLevel?: 'debug';
}

const mainFile = path.resolve(import.meta.dirname, '../../node/main.ts');
const recordName = 'demo.json';
const pollMs = 100;
const logLinesQuoted = 3;
/** Lines of a crash that say nothing to a person. */
const stackLine = /^\s*(at |[{}]|Node\.js|$)/;
const startMsMax = 60_000;
const onlineMsMax = 120_000;
/** A command asked of a fleet that is coming up may need an election first. */
const patienceMs = 30_000;
/** The sample's units settle at once; nobody wants to wait in a demo. */
const healthSettleMs = 500;

/** Whether a folder holds a fleet whose making came to its end. */
export function isComplete(folder: string): boolean {
  return existsSync(path.join(folder, recordName));
}

/** The fleet that a folder holds, started; undefined when it holds none. */
export async function resumeFleet(init: DemoFleetInit): Promise<DemoFleet | undefined> {
  if (!isComplete(init.folder)) return undefined;
  const record = JSON.parse(await readFile(path.join(init.folder, recordName), 'utf8')) as FleetRecord;
  const fleet = createFleet(init, record);
  init.onProgress(`starting ${record.peers.length} peers from '${init.folder}'`);
  const names = record.peers.map(({ name }) => name);
  await startTogether(fleet, names, init);
  return fleet;
}

/** Writes down that this folder's fleet is complete and can go on later. */
export async function rememberFleet(folder: string, record: FleetRecord): Promise<void> {
  await writeFile(path.join(folder, recordName), `${JSON.stringify(record, undefined, 2)}\n`);
}

/** Founds a new fleet of these peers in an empty folder. */
export async function foundFleet(init: DemoFleetInit, plans: readonly PeerPlan[]): Promise<DemoFleet> {
  const ports = await freePorts(plans.length);
  const record: FleetRecord = { version: 1, peers: plans.map((plan, index) => ({ ...plan, port: ports[index] ?? 0 })) };
  const fleet = createFleet(init, record);
  const [founder, ...others] = record.peers;
  if (founder === undefined) throw new ParleyError('usage', 'a fleet needs at least one peer');
  try {
    init.onProgress(`founding the fleet on ${founder.name}`);
    await peerCommand(init, founder, ['init', '--name', founder.name, '--site', founder.site]);
    await fleet.startPeers([founder.name], init.signal);
    const voters = others.filter(({ roles }) => roles.includes('voter'));
    const members = others.filter(({ roles }) => !roles.includes('voter'));
    for (const peer of voters) await enrol(init, fleet, peer);
    await inPairs(members, (peer) => enrol(init, fleet, peer));
    await startTogether(
      fleet,
      record.peers.map(({ name }) => name),
      init,
    );
    await untilAllVote(fleet, init);
    return fleet;
  } catch (error) {
    await fleet.stop();
    throw error;
  }
}

async function startTogether(fleet: DemoFleet, names: readonly string[], init: DemoFleetInit): Promise<void> {
  try {
    await fleet.startPeers(names, init.signal);
    await fleet.waitUntilOnline(names, init.signal, (online) =>
      init.onProgress(`${online} of ${names.length} peers online`),
    );
  } catch (error) {
    await fleet.stop();
    throw error;
  }
}

/** A fleet bears the loss that its number of voters promises only once all of them vote. */
async function untilAllVote(fleet: DemoFleet, { signal, onProgress }: DemoFleetInit): Promise<void> {
  const deadlineMs = performance.now() + onlineMsMax;
  for (;;) {
    const { change } = check(votersViewSchema, await ask(fleet.sockets(), { name: 'voters' }, signal), 'voters');
    if (change === null) return;
    const text = change.waitsFor === null ? change.text : `${change.text}; that waits for ${change.waitsFor}`;
    onProgress(text);
    if (performance.now() > deadlineMs) throw new ParleyError('timed-out', `${text}, for ${onlineMsMax / 1000} s`);
    await wait(pollMs, undefined, { signal });
  }
}

async function enrol(init: DemoFleetInit, fleet: DemoFleet, peer: FleetRecord['peers'][number]): Promise<void> {
  init.onProgress(`${peer.name} joins at ${peer.site} as ${peer.roles.join(' and ')}`);
  const { name, site, roles } = peer;
  const invite: Command = { name: 'invite', peer: name, site, roles: [...roles], expiresInMs: 3_600_000 };
  const view = (await ask(fleet.sockets(), invite, init.signal)) as { token: string };
  await peerCommand(init, peer, ['join', '-'], view.token);
  await fleet.startPeers([name], init.signal);
}

/** Runs `init` or `join` of a new peer with the configuration of a demo; a token is handed in where no `ps` shows it. */
async function peerCommand(
  init: DemoFleetInit,
  peer: FleetRecord['peers'][number],
  words: readonly string[],
  input = '',
): Promise<void> {
  const stateFolder = path.join(init.folder, peer.name);
  const { address, command } = placeOf(init, peer.name);
  const [program = '', ...prefix] = [...command, process.execPath];
  const result = await init.runner.run({
    program,
    arguments: [
      ...prefix,
      mainFile,
      ...words,
      ...['--state', stateFolder, '--listen', `/ip4/${address}/tcp/${peer.port}`, '--discovery', 'none'],
      ...['--nix-store', path.join(stateFolder, 'store'), '--speak-as', '--health-settle-ms', `${healthSettleMs}`],
      ...(init.substituters?.substituters ?? []).flatMap((url) => ['--substituter', url]),
      ...(init.substituters?.trustedPublicKeys ?? []).flatMap((key) => ['--trusted-public-key', key]),
      ...(init.logLevel === undefined ? [] : ['--log-level', init.logLevel]),
    ],
    input: new TextEncoder().encode(input),
    signal: init.signal,
    timeoutMs: startMsMax,
  });
  if (result.exitCode === 0 && result.stdout.byteLength > 0) return;
  throw new ParleyError('peer-failed', `'parley ${words[0]}' of ${peer.name} failed: ${result.stderr.trim()}`);
}

function createFleet(init: DemoFleetInit, record: FleetRecord): DemoFleet {
  const peers = record.peers.map(({ name }) =>
    createPeerProcess(name, path.join(init.folder, name), placeOf(init, name).command),
  );
  const find = (name: string) => peers.find((peer) => peer.name === name);

  function sockets(): string[] {
    const rank = ({ name }: PeerProcess) => {
      const isVoter = record.peers.find((plan) => plan.name === name)?.roles.includes('voter') === true;
      return (find(name)?.state() === 'running' ? 0 : 2) + (isVoter ? 0 : 1);
    };
    const ordered = peers.toSorted((one, other) => rank(one) - rank(other));
    return ordered.map(({ stateFolder }) => controlSocketPath(stateFolder));
  }

  const status = async (signal: AbortSignal) =>
    check(statusViewSchema, await ask(sockets(), { name: 'status' }, signal), 'status');

  return {
    record,
    peers,
    sockets,
    status,
    async startPeers(names, signal) {
      const started = peers.filter(({ name }) => names.includes(name));
      for (const peer of started) peer.start();
      for (const peer of started) await answers(peer, signal);
    },
    async waitUntilOnline(names, signal, onProgress) {
      const deadlineMs = performance.now() + onlineMsMax;
      for (;;) {
        const view = await status(signal);
        const online = view.peers.filter((peer) => peer.online && names.includes(peer.name));
        onProgress(online.length);
        if (view.controller !== null && online.length === names.length) return;
        if (performance.now() > deadlineMs) throw notOnline(names, view);
        await wait(pollMs, undefined, { signal });
      }
    },
    async stop() {
      await Promise.all(peers.map((peer) => peer.stop()));
    },
  };
}

function placeOf({ place }: DemoFleetInit, name: string): ReturnType<NonNullable<DemoFleetInit['place']>> {
  return place?.(name) ?? { address: '127.0.0.1', command: [] };
}

function notOnline(names: readonly string[], view: StatusView): ParleyError {
  const missing = names.filter((name) => !view.peers.some((peer) => peer.name === name && peer.online));
  const state = `${missing.join(', ') || 'no controller'} not there after ${onlineMsMax / 1000} s`;
  return new ParleyError('not-online', `the fleet did not come up: ${state}`, { hint: "'demo log PEER' shows why." });
}

/** Waits until a started peer answers on its socket, be it with an error. */
async function answers(peer: PeerProcess, signal: AbortSignal): Promise<void> {
  const deadlineMs = performance.now() + startMsMax;
  for (;;) {
    try {
      await ask([controlSocketPath(peer.stateFolder)], { name: 'whoami' }, signal, { patienceMs: 0 });
      return;
    } catch (error) {
      if (!(error instanceof ParleyError)) throw error;
      if (error.code !== 'no-peer-here' && error.code !== 'connection-lost') return;
    }
    if (peer.state() === 'stopped' || performance.now() > deadlineMs) throw await notStarted(peer);
    await wait(pollMs, undefined, { signal });
  }
}

async function notStarted(peer: PeerProcess): Promise<ParleyError> {
  const lines = (await readFile(peer.logFile, 'utf8')).split('\n').filter((line) => !stackLine.test(line));
  const log = lines.slice(-logLinesQuoted).join('\n');
  const state = peer.crashed() ?? 'its socket is silent';
  return new ParleyError('peer-failed', `${peer.name} did not start: ${state}; its log ends with\n${log}`);
}

/** Asks one command; gives the data of its view. @throws ParleyError what the peer answered */
export async function ask(
  sockets: readonly string[],
  command: Command,
  signal: AbortSignal,
  options: {
    readonly patienceMs?: number;
    readonly workFolder?: string;
    readonly follow?: boolean;
    readonly speakAs?: string;
    /** Of a command that is asked again; default a new one. */
    readonly id?: string;
  } = {},
): Promise<unknown> {
  const attachment = createAttachment({ sockets: () => sockets, patienceMs: options.patienceMs ?? patienceMs })({
    connect: connectControl,
    clock: systemClock,
  });
  const fresh = `demo-${process.pid}-${Date.now()}-${Math.random().toString(36).slice(2)}`;
  const { patienceMs: _, follow = false, id = fresh, ...rest } = options;
  const request = { version: 1 as const, id, command, follow, ...rest };
  let data: unknown;
  for await (const event of attachment.run(request, { signal })) {
    if (event.kind === 'view') data = event.data;
    if (event.kind === 'error') throw fromErrorRecord(event.error);
    if (event.kind === 'end' && follow && event.outcome !== 'succeeded') {
      throw new ParleyError('command-failed', `'${command.name}' ended as ${event.outcome}: ${event.text}`);
    }
  }
  return data;
}

/** Two at a time: each start takes a core for a second. */
async function inPairs<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all([worker(), worker()]);
}

/** Ports of 127.0.0.1 that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once('error', reject);
          server.listen(0, '127.0.0.1', () => {
            const address = server.address();
            resolve(typeof address === 'object' && address !== null ? address.port : 0);
          });
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
