//   node scripts/bench/first-light.ts [--json]
// Measures a first deploy to the whole sample fleet: seconds from the approval to the last device's switch, the part of it that
// the slowest device spent in Nix, and for each site the bytes that crossed its uplink against those that it lacked (aim: 1.00).

import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { createNix } from '../../node/host/index.ts';
import type { TaskDetail } from '../../protocols/views.ts';
import { ask } from '../lib/demo-fleet.ts';
import { printFigures, readArguments, round, tell } from '../lib/tool.ts';
import { type BenchFleet, runner, withSampleFleet } from './bench-fleet.ts';

readArguments(import.meta.filename, { json: { type: 'boolean' } });

interface Interval {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Names of the store paths in a peer's store. */
async function storePaths({ folder }: BenchFleet, peer: string): Promise<Set<string>> {
  const names = await readdir(path.join(folder, peer, 'store/nix/store')).catch(() => []);
  return new Set(
    names.filter((name) => /^[0-9a-z]{32}-/.test(name) && !name.endsWith('.lock')).map((name) => `/nix/store/${name}`),
  );
}

async function storePathsBySite(bench: BenchFleet): Promise<Map<string, Set<string>>> {
  const bySite = new Map<string, Set<string>>();
  for (const { name, site } of bench.fleet.record.peers) {
    const paths = bySite.get(site) ?? new Set();
    for (const storePath of await storePaths(bench, name)) paths.add(storePath);
    bySite.set(site, paths);
  }
  return bySite;
}

/** Payload bytes that came into each site from others. */
async function uplinkBytes({ fleet, signal }: BenchFleet): Promise<Map<string, number>> {
  const bySite = new Map<string, number>();
  for (const peer of (await fleet.status(signal)).peers) {
    const across = Object.entries(peer.bytesBySite).filter(([site]) => site !== peer.site);
    const bytesIn = across.reduce((sum, [, bytes]) => sum + bytes.bytesIn, 0);
    bySite.set(peer.site, (bySite.get(peer.site) ?? 0) + bytesIn);
  }
  return bySite;
}

/** Bytes of the NARs that a site's stores have now and had not before. */
async function lackedBytes(bench: BenchFleet, site: string, before: ReadonlySet<string>): Promise<number> {
  let bytes = 0;
  const counted = new Set(before);
  for (const { name } of bench.fleet.record.peers.filter((peer) => peer.site === site)) {
    const folder = path.join(bench.folder, name);
    const nix = createNix({ store: path.join(folder, 'store'), cacheHome: path.join(folder, 'cache') })({ runner });
    const fresh = [...(await storePaths(bench, name))].filter((storePath) => !counted.has(storePath));
    for (const { path: storePath, narSize } of fresh.length === 0 ? [] : await nix.pathInfo(fresh)) {
      counted.add(storePath);
      bytes += narSize;
    }
  }
  return bytes;
}

/** When Nix's programs ran on a peer, by its log. */
async function nixIntervals({ folder }: BenchFleet, peer: string): Promise<Interval[]> {
  const lines = (await readFile(path.join(folder, peer, 'peer.log'), 'utf8')).split('\n');
  return lines.flatMap((line) => {
    if (!line.includes('"program ended"')) return [];
    const { time, program, durationMs } = JSON.parse(line) as { time: number; program: string; durationMs: number };
    return program.startsWith('nix') ? [{ fromMs: time - durationMs, toMs: time }] : [];
  });
}

/** Milliseconds of `within` that any of the intervals covers. */
function coveredMs(intervals: readonly Interval[], within: Interval): number {
  let covered = 0;
  let reachedMs = within.fromMs;
  for (const { fromMs, toMs } of intervals.toSorted((one, other) => one.fromMs - other.fromMs)) {
    const end = Math.min(toMs, within.toMs);
    covered += Math.max(0, end - Math.max(fromMs, reachedMs));
    reachedMs = Math.max(reachedMs, end);
  }
  return covered;
}

async function measure(bench: BenchFleet): Promise<Record<string, unknown>> {
  const { fleet, signal } = bench;
  const sockets = fleet.sockets();
  const as = (speakAs: string) => ({ speakAs, follow: true });
  tell('deploy: evaluating and building');
  await ask(sockets, { name: 'deploy', selector: '@all', keepGoing: false, commitMessage: null }, signal, as('alice'));
  const tasks = (await ask(sockets, { name: 'tasks', all: true }, signal)) as { tasks: { id: string; type: string }[] };
  const task = tasks.tasks.find(({ type }) => type === 'deploy')?.id ?? '';
  const [pathsBefore, bytesBefore] = [await storePathsBySite(bench), await uplinkBytes(bench)];
  tell('approved: closures spread and devices switch');
  const approvedAtMs = Date.now();
  await ask(sockets, { name: 'approve', task, plan: null }, signal, as('bob'));
  const { children } = (await ask(sockets, { name: 'task', task }, signal)) as TaskDetail;
  const switched = children
    .filter(({ host }) => host !== null)
    .toSorted((one, other) => (one.endedAtMs ?? 0) - (other.endedAtMs ?? 0));
  const last = switched.at(-1);
  const window = { fromMs: approvedAtMs, toMs: last?.endedAtMs ?? approvedAtMs };
  const nixMs = coveredMs(await nixIntervals(bench, last?.host ?? ''), window);
  const bytesAfter = await uplinkBytes(bench);
  const sites: Record<string, unknown> = {};
  for (const [site, before] of pathsBefore) {
    const uniqueBytes = await lackedBytes(bench, site, before);
    const crossedBytes = (bytesAfter.get(site) ?? 0) - (bytesBefore.get(site) ?? 0);
    sites[site] = { uniqueBytes, crossedBytes, ratio: uniqueBytes === 0 ? null : round(crossedBytes / uniqueBytes, 4) };
  }
  const seconds = (window.toMs - window.fromMs) / 1000;
  return { hosts: switched.length, seconds: round(seconds, 2), nixSeconds: round(nixMs / 1000, 2), sites };
}

printFigures(await withSampleFleet(measure, { logLevel: 'debug' }));
process.exit(0);
