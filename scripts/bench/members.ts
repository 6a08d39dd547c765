//   node scripts/bench/members.ts [--json] [--quick]
// Measures what a thousand members cost their controller: a storm in which all connect at once and catch up, and a minute in
// which each follows the ledger and beats every fifteen seconds. The controller is a real peer alone in its process; the
// members are real connections with a key each, simulated by a few processes. Aims: 2 % of a core, 400 bytes, no failure; ends
// with 1 where one is missed (aims.ts).

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { foundFleet } from '../../node/enrolment.ts';
import { check } from '../../protocols/codec.ts';
import { configSchema } from '../../protocols/config.ts';
import { freePorts } from '../lib/demo-fleet.ts';
import { readArguments, round, tell } from '../lib/tool.ts';
import { benchOptions, missedMembersAims, printJudged } from './aims.ts';
import type { Stall } from './loop-probe.ts';
import { memberIdentity, type SessionsOrder, type SessionsReport } from './member-sessions.ts';
import { processorSeconds, usageOf } from './process-usage.ts';
import { seedMembers } from './seed-members.ts';

const { quick: isQuick } = readArguments(import.meta.filename, benchOptions).values;
const membersCount = isQuick ? 40 : 1_000;
const clientProcesses = 4;
/** Entries that each member lacks when it connects. */
const behind = 10;
const settleMs = isQuick ? 1_000 : 20_000;
const measureMs = isQuick ? 5_000 : 60_000;
/** As the launcher gives them to a peer. */
const peerFlags = ['--max-semi-space-size=1', '--optimize-for-size', '--v8-pool-size=1'];
/** One more of the signatures of a certificate: a pair of a raft id and 64 bytes. */
const signatureBytes = 68;

async function answerOf<T>(child: ChildProcess): Promise<T> {
  const exited = once(child, 'exit').then(([code]) => {
    throw new Error(`a process of the bench ended with ${code}`);
  });
  const [answer] = await Promise.race([once(child, 'message'), exited]);
  exited.catch(() => undefined);
  return answer as T;
}

/** A process of the bench ends when the channel to it closes. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = once(child, 'exit');
  if (child.connected) child.disconnect();
  const late = setTimeout(() => child.kill('SIGKILL'), 20_000);
  await ended;
  clearTimeout(late);
}

async function measure(folder: string, children: ChildProcess[]) {
  const address = `/ip4/127.0.0.1/tcp/${(await freePorts(1))[0]}`;
  const config = check(configSchema, { version: 1, listen: [address], discovery: 'none', logLevel: 'error' });
  const { peer } = await foundFleet({ stateFolder: folder, config, name: 'gate', site: 'home', nowMs: Date.now() });
  tell(`writing ${membersCount} members into the ledger`);
  const peers = Array.from({ length: membersCount }, (_, number) => memberIdentity(number).peer);
  const place = await seedMembers(folder, peers, behind);

  const environment = { ...process.env, MALLOC_ARENA_MAX: '1' };
  const options = { execArgv: peerFlags, env: environment, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] } as const;
  const controller = fork(join(import.meta.dirname, 'members-controller.ts'), [folder], {
    ...options,
    stdio: [...options.stdio],
  });
  children.push(controller);
  await answerOf(controller);
  const pid = controller.pid ?? 0;
  await wait(settleMs);
  const alone = await usageOf(pid, measureMs);

  tell(`${membersCount} members connect at once`);
  const clients = Array.from({ length: clientProcesses }, () =>
    fork(join(import.meta.dirname, 'member-sessions.ts'), ['serve']),
  );
  children.push(...clients);
  await Promise.all(clients.map((client) => answerOf(client)));
  controller.send('watch');
  const startedMs = performance.now();
  const before = await processorSeconds(pid);
  const share = membersCount / clientProcesses;
  const reports = await Promise.all(
    clients.map((client, at) => {
      const order: SessionsOrder = {
        controller: peer,
        address: `${address}/p2p/${peer}`,
        first: at * share,
        count: share,
        ...place,
      };
      client.send(order);
      return answerOf<SessionsReport>(client);
    }),
  );
  const seconds = (performance.now() - startedMs) / 1000;
  const busySeconds = (await processorSeconds(pid)) - before;
  const stalled = answerOf<Stall>(controller);
  controller.send('tell');
  const { stallMs, heldMs } = await stalled;
  const failures = reports.flatMap((report) => report.failures);
  for (const failure of failures) tell(failure);
  const served = reports.reduce((sum, report) => sum + report.served, 0);
  const beyondEntries = Math.max(...reports.map((report) => report.beyondEntriesMax));

  tell(`all are served after ${round(seconds, 1)} s; measuring for ${measureMs / 1000} s`);
  await wait(settleMs);
  const steady = await usageOf(pid, measureMs);
  return {
    members: membersCount,
    alone,
    ...steady,
    catchUp: { entries: behind, bytesBeyondEntries: beyondEntries, with3Of5: beyondEntries + 2 * signatureBytes },
    storm: {
      served,
      failures: membersCount - served,
      retries: reports.reduce((sum, report) => sum + report.retries, 0),
      seconds: round(seconds, 1),
      controllerSeconds: round(busySeconds, 1),
      stallMs: round(stallMs, 1),
      heldMs: round(heldMs, 1),
    },
  };
}

// The rooms' own timers keep no process alive.
setInterval(() => undefined, 60_000);
const folder = await mkdtemp(join(tmpdir(), 'parley-members-'));
const children: ChildProcess[] = [];
try {
  const figures = await measure(folder, children);
  printJudged({ ...figures }, missedMembersAims(figures));
} finally {
  await Promise.all(children.map(end));
  await rm(folder, { recursive: true, force: true });
}
process.exit();
