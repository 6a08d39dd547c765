// Owns `demo …` in the demo's console: what a person may do to the peers' processes to see the mesh survive it.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { LocalCommand } from '../../chatops/console-line.ts';
import { plainPaint, renderTable } from '../../chatops/paint.ts';
import type { RunContext } from '../../chatops/run-command.ts';
import { cleanLines, columnsMax, cut } from '../../chatops/words.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { DemoFleet } from './demo-fleet.ts';
import type { PeerProcess } from './peer-process.ts';

type Action = (peers: readonly PeerProcess[], fleet: DemoFleet, context: RunContext) => Promise<void>;

const logLinesShown = 40;

const actions: Readonly<Record<string, Action>> = {
  kill: async (peers) => void (await Promise.all(peers.map((peer) => peer.kill()))),
  stop: async (peers) => void (await Promise.all(peers.map((peer) => peer.stop()))),
  start,
  restart: async (peers, fleet, context) => {
    await Promise.all(peers.map((peer) => peer.stop()));
    await start(peers, fleet, context);
  },
  pause: async (peers) => peers.forEach((peer) => void peer.pause()),
  resume: async (peers) => peers.forEach((peer) => void peer.resume()),
  log: async (peers, _fleet, context) => {
    for (const peer of peers) await printLog(peer, context);
  },
};

const help: readonly string[] = [
  'Demo (NAME is a peer, several with commas, `controller`, or `all`)',
  '  demo peers          the processes behind the peers',
  '  demo kill NAME      end it at once, as a power cut would',
  '  demo stop NAME      ask it to stop',
  '  demo start NAME     start it again, and wait until the fleet sees it',
  '  demo restart NAME   stop and start',
  '  demo pause NAME     freeze it; `demo resume NAME` lets it go on',
  `  demo log NAME       the last lines of its log`,
];

export function createDemoCommand(fleet: DemoFleet): LocalCommand {
  return {
    name: 'demo',
    help,
    async run([verb = '', target = '', ...rest], context) {
      if (verb === 'peers' && target === '') {
        for (const line of peerRows(fleet)) context.output.out(line);
        return 0;
      }
      const action = Object.hasOwn(actions, verb) ? actions[verb] : undefined;
      if (action === undefined || target === '' || rest.length > 0) {
        const message =
          verb === '' ? "'demo' needs a word" : `'demo ${[verb, target, ...rest].join(' ').trim()}' is not understood`;
        throw new ParleyError('usage', message, { hint: "'help demo' shows what it takes." });
      }
      const peers = await peersNamed(target, fleet, context);
      await action(peers, fleet, context);
      if (verb !== 'log') for (const peer of peers) context.output.out(`${peer.name} is ${peer.state()}`);
      return 0;
    },
    complete(words) {
      if (words.length === 0) return ['peers', ...Object.keys(actions)];
      return words.length === 1 ? ['controller', 'all', ...fleet.peers.map(({ name }) => name)] : [];
    },
  };
}

async function start(peers: readonly PeerProcess[], fleet: DemoFleet, context: RunContext): Promise<void> {
  const names = peers.map(({ name }) => name);
  await fleet.startPeers(names, context.signal);
  await fleet.waitUntilOnline(names, context.signal, (online) =>
    context.output.live.update(`${online} of ${names.length} online`),
  );
  context.output.live.clear();
}

async function peersNamed(target: string, fleet: DemoFleet, context: RunContext): Promise<PeerProcess[]> {
  if (target === 'all') return [...fleet.peers];
  const names = target === 'controller' ? [await controllerName(fleet, context)] : target.split(',');
  return names.map((name) => {
    const peer = fleet.peers.find((candidate) => candidate.name === name);
    if (peer !== undefined) return peer;
    const known = fleet.peers.map((candidate) => candidate.name).join(', ');
    throw new ParleyError('unknown-peer', `no peer '${name}' in this demo`, { hint: `There are: ${known}.` });
  });
}

async function controllerName(fleet: DemoFleet, context: RunContext): Promise<string> {
  const { controller } = await fleet.status(context.signal);
  if (controller !== null) return controller;
  throw new ParleyError('no-controller', 'the fleet has no controller now', {
    retryable: true,
    hint: 'Try again in a moment.',
  });
}

function peerRows(fleet: DemoFleet): string[] {
  const rows = fleet.record.peers.map((plan, index) => {
    const peer = fleet.peers[index];
    const crash = peer?.crashed();
    return [
      { text: plan.name },
      { text: plan.site },
      { text: plan.roles.join(',') },
      { text: crash === undefined ? (peer?.state() ?? '') : `ended by itself: ${crash}` },
      { text: String(peer?.pid() ?? '-') },
      { text: String(plan.port) },
      { text: peer?.stateFolder ?? '' },
    ];
  });
  const titles = ['peer', 'site', 'roles', 'process', 'pid', 'port', 'state folder'];
  return renderTable(
    titles.map((title) => ({ title, columnsMax })),
    rows,
    160,
    plainPaint,
  );
}

async function printLog(peer: PeerProcess, { output }: RunContext): Promise<void> {
  output.out(`${peer.name}: ${peer.logFile}`);
  if (!existsSync(peer.logFile)) return;
  const lines = cleanLines(await readFile(peer.logFile, 'utf8'));
  for (const line of lines.slice(-logLinesShown)) output.out(cut(line, 400));
}
