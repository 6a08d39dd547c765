// Owns the life of a peer's process: arguments, configuration, start, wait, stop.

import { errorDocument, toErrorRecord } from '../protocols/errors.ts';
import { type PeerArguments, parsePeerArguments, usage } from './arguments.ts';
import { loadConfig } from './config.ts';
import { carryOutPeerCommand } from './peer-command.ts';

async function main(words: readonly string[]): Promise<void> {
  const given = parsePeerArguments(words);
  if (given.command === 'help') console.log(usage);
  else if (given.command === 'run') await run(given);
  else for (const line of await carryOutPeerCommand(given, process.stdin)) console.log(line);
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

const exitStatuses: Readonly<Record<string, number>> = { usage: 2, removed: 4 };

const words = process.argv.slice(2);
try {
  await main(words);
  process.exit(0);
} catch (error) {
  const record = toErrorRecord(error);
  const { code, message, hint } = record;
  // Also where the words could not be read any further.
  if (words.includes('--json')) console.log(errorDocument(record));
  console.error(`parley: ${message}${hint ? `\n${hint}` : ''}`);
  if (code === 'internal') console.error(error);
  process.exit(exitStatuses[code] ?? 1);
}
