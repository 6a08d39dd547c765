// Owns the life of a peer's process: arguments, configuration, start, wait, stop.

import { resolve } from 'node:path';
import { check } from '../protocols/codec.ts';
import { configSchema } from '../protocols/config.ts';
import { toErrorRecord } from '../protocols/errors.ts';
import { type PeerArguments, parsePeerArguments, usage } from './arguments.ts';
import { checkFolderPath, defaultStateFolder, loadConfig } from './config.ts';
import { enrol, foundFleet, readToken } from './enrolment.ts';

async function main(words: readonly string[]): Promise<void> {
  const given = parsePeerArguments(words);
  if (given.command === 'help') console.log(usage);
  else if (given.command === 'run') await run(given);
  else await beginMembership(given);
}

async function run(given: PeerArguments): Promise<void> {
  const config = await loadConfig({ file: given.config, state: given.state });
  const { createNode } = await import('./create-node.ts');
  const { runPeer } = await import('./wiring/peer-loop.ts');
  const ended = new Promise<void>((end) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => end());
    if (given.untilStdinCloses) process.stdin.resume().once('end', () => end());
  });
  await runPeer({ stateFolder: config.stateFolder, create: () => createNode(config), ended });
}

async function beginMembership(given: PeerArguments): Promise<void> {
  const stateFolder = checkFolderPath(resolve(given.state ?? defaultStateFolder()));
  const config = check(configSchema, given.newConfig, 'options');
  const token = given.token === '-' ? await readToken(process.stdin) : given.token;
  const { peer, membership, recoveryKeyFile } =
    given.command === 'init'
      ? await foundFleet({ stateFolder, config, name: given.name, site: given.site, nowMs: Date.now() })
      : await enrol({ stateFolder, config, token, signal: AbortSignal.timeout(120_000) });
  const { fleet, name, site, roles } = membership;
  if (given.json)
    console.log(JSON.stringify({ version: 1, fleet, peer, name, site, roles, stateFolder, recoveryKeyFile }));
  else {
    console.log(
      `This is now the peer '${name}' at site '${site}' (${roles.join(', ')}) of fleet ${fleet.slice(0, 12)}.`,
    );
    if (recoveryKeyFile)
      console.log(`Move ${recoveryKeyFile} to a place that is offline: it is the way back when most voters are lost.`);
    console.log(`Start it: parley run --state ${stateFolder}`);
  }
}

const exitStatuses: Readonly<Record<string, number>> = { usage: 2, removed: 4 };

try {
  await main(process.argv.slice(2));
  process.exit(0);
} catch (error) {
  const { code, message, hint } = toErrorRecord(error);
  console.error(`parley: ${message}${hint ? `\n${hint}` : ''}`);
  if (code === 'internal') console.error(error);
  process.exit(exitStatuses[code] ?? 1);
}
