// Owns the demo: a mesh of peers on this machine, the project committed as its first commit, and a console on top. Leaving it,
// or its death, ends every peer.

import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createAttachment } from '../chatops/attachment.ts';
import { runConsole, runConsoleScript } from '../chatops/console.ts';
import { createConsoleLine, runShell } from '../chatops/console-line.ts';
import { printError, type RunContext } from '../chatops/run-command.ts';
import { createTerminalOutput } from '../chatops/terminal.ts';
import { checkFolderPath } from '../node/config.ts';
import { connectControl } from '../node/control/client.ts';
import { createLogger, createProcessRunner, systemClock } from '../node/host/index.ts';
import { lockStateFolder, type StateLock } from '../node/store/index.ts';
import { ParleyError, toErrorRecord } from '../protocols/errors.ts';
import { createDemoCommand } from './lib/demo-commands.ts';
import { type DemoFleet, foundFleet, isComplete, rememberFleet, resumeFleet } from './lib/demo-fleet.ts';
import { type DemoOptions, demoUsage, planPeers, readDemoOptions } from './lib/demo-options.ts';
import { copyProject, hostsOf, importProject, makeSample, workFolderOf } from './lib/demo-project.ts';
import { type MachineSubstituters, machineSubstituters, substitutersText } from './lib/machine-substituters.ts';

/** A failover takes a second or two on a busy machine; a restart of the whole mesh some ten. */
const patienceMs = 30_000;

const leaving = new AbortController();
const output = createTerminalOutput(process.env, () => leaving.abort());
const runner = createProcessRunner({ logger: createLogger({ level: 'silent' }) });

async function main(options: DemoOptions, signal: AbortSignal): Promise<number> {
  const { script } = options;
  if (script !== undefined && script !== '-' && !existsSync(script)) throw noSuchPlace(script);
  const folder = await openFolder(options.keep);
  const lock = await lockFolder(folder);
  let fleet: DemoFleet | undefined;
  try {
    fleet = await bringUp(folder, options, signal);
    return await openConsole(fleet, folder, options, signal);
  } finally {
    output.live.clear();
    await fleet?.stop();
    await lock.release();
    if (options.keep === undefined) await removeFolder(folder);
    else if (isComplete(folder))
      output.err(`Kept in '${folder}': 'scripts/demo --keep ${options.keep}' goes on from there.`);
    else output.err(`What there is was left in '${folder}' to look at; it cannot go on.`);
  }
}

async function openFolder(keep: string | undefined): Promise<string> {
  if (keep === undefined) return await mkdtemp(checkFolderPath(path.join(tmpdir(), 'parley-demo-')));
  const folder = checkFolderPath(path.resolve(keep));
  if (!existsSync(path.dirname(folder))) throw noSuchPlace(path.dirname(folder));
  // Not made with its parents: below /proc that never ends.
  if (!existsSync(folder)) await mkdir(folder);
  const names = await readdir(folder);
  if (names.length === 0 || isComplete(folder)) return folder;
  throw new ParleyError('folder-in-use', `'${folder}' is neither empty nor of a finished demo`, {
    hint: 'Choose another folder, or remove it: a demo whose start was cut off cannot go on.',
  });
}

function noSuchPlace(place: string): ParleyError {
  return new ParleyError('usage', `there is no '${place}'`, { hint: 'scripts/demo --help shows the options.' });
}

/** Two demos on one folder would take each other's peers for their own. */
async function lockFolder(folder: string): Promise<StateLock> {
  try {
    return await lockStateFolder(folder);
  } catch (cause) {
    if ((cause as ParleyError).code !== 'state-in-use') throw cause;
    throw new ParleyError('folder-in-use', `another demo runs in '${folder}'`, {
      hint: 'Leave that one first, or choose another folder with --keep.',
      cause,
    });
  }
}

/** Nix makes folders read-only: a plain removal fails for a user who is not root. */
async function removeFolder(folder: string): Promise<void> {
  await runner.run({ program: 'chmod', arguments: ['-R', 'u+w', folder] });
  await rm(folder, { recursive: true, force: true });
}

async function bringUp(folder: string, options: DemoOptions, signal: AbortSignal): Promise<DemoFleet> {
  const startedMs = performance.now();
  const init = { folder, runner, signal, onProgress: (text: string) => output.live.update(text) };
  const resumed = await resumeFleet(init);
  if (resumed !== undefined) {
    const given = [options.project, options.peers, options.sites, options.voters].some((value) => value !== undefined);
    output.live.clear();
    if (given)
      output.err('The fleet of this folder goes on as it is: --project, --peers, --sites, --voters are ignored.');
    return resumed;
  }
  output.live.update('making the project');
  const copy = options.project === undefined ? undefined : await copyProject(folder, options.project, runner);
  const plans = planPeers(options, copy === undefined ? undefined : await hostsOf(folder, copy, runner));
  const workFolder = copy ?? (await makeSample(folder, plans, runner));
  const substituters = copy === undefined ? undefined : await lookForSubstituters(signal);
  const fleet = await foundFleet({ ...init, ...(substituters && { substituters }) }, plans);
  try {
    output.live.update('committing the project as its first commit');
    await importProject(fleet, workFolder, signal);
    await rememberFleet(folder, fleet.record);
  } catch (error) {
    await fleet.stop();
    throw error;
  }
  output.live.clear();
  output.err(`The mesh is up after ${Math.round((performance.now() - startedMs) / 1000)} s.`);
  return fleet;
}

/** The sample needs nothing from elsewhere; a project with real packages would be built from source for hours. */
async function lookForSubstituters(signal: AbortSignal): Promise<MachineSubstituters> {
  const found = await machineSubstituters(runner, process.env, signal);
  output.live.clear();
  output.err(substitutersText(found));
  return found;
}

async function openConsole(
  fleet: DemoFleet,
  folder: string,
  options: DemoOptions,
  signal: AbortSignal,
): Promise<number> {
  const workFolder = workFolderOf(folder);
  const attachment = createAttachment({ sockets: () => fleet.sockets(), patienceMs })({
    connect: connectControl,
    clock: systemClock,
  });
  const context: RunContext = { attachment, output, nowMs: Date.now, signal, speakAs: undefined, workFolder };
  const localCommands = [createDemoCommand(fleet)];
  const isInteractive = options.script === undefined && process.stdin.isTTY === true;
  const line = createConsoleLine({
    localCommands,
    shell: (command, inFolder) => runShell(command, inFolder, isInteractive ? 'inherit' : 'ignore'),
  });
  if (!isInteractive) return await runConsoleScript(options.script ?? '-', line, context);
  await runConsole({
    context,
    line,
    localCommands,
    historyFile: options.keep === undefined ? undefined : path.join(folder, 'console-history'),
    greeting: greeting(fleet, workFolder),
  });
  return 0;
}

function greeting(fleet: DemoFleet, workFolder: string): string[] {
  const sites = new Set(fleet.record.peers.map(({ site }) => site));
  return [
    `${fleet.peers.length} peers on ${sites.size} sites. The project is in ${workFolder}`,
    "You speak as root of a voter; 'as alice COMMAND' speaks as alice. Try: status, deploy @all, help.",
  ];
}

/** The first signal leaves in order; the peers end with it, or by their closed pipes if that fails. */
function signalOfProcess(): AbortSignal {
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => leaving.abort());
  return leaving.signal;
}

async function run(): Promise<number> {
  try {
    const options = readDemoOptions(process.argv.slice(2));
    if (!options.help) return await main(options, signalOfProcess());
    for (const line of demoUsage) output.out(line);
    return 0;
  } catch (error) {
    output.live.clear();
    return printError(toErrorRecord(error), output);
  }
}

process.exit(await run());
