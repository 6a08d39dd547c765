// Owns `parley doctor`: looks at what a peer needs of this machine and says, for each thing that is missing, what to do. It
// changes nothing.

import { constants as fileConstants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { choosePaint, type Tone } from '../chatops/paint.ts';
import { bytesText, columnsMax, wrap } from '../chatops/words.ts';
import { defaultStateFolder, type LoadedConfig, loadConfig } from '../node/config.ts';
import { controlSocketPath } from '../node/control/client.ts';
import { createLogger, createNix, createProcessRunner } from '../node/host/index.ts';
import { errorDocument, ParleyError, toErrorRecord } from '../protocols/errors.ts';

type Verdict = 'good' | 'warning' | 'trouble';

interface Finding {
  readonly what: string;
  readonly verdict: Verdict;
  readonly text: string;
  /** What to do about it. */
  readonly hint?: string;
}

const nodeOldest = [24, 12] as const;
const storeBytesWanted = 2 * 1024 ** 3;
const stateBytesWanted = 256 * 1024 ** 2;
const socketPathBytesMax = 107;
/** A clock from before this release was written is wrong. */
const clockEarliestMs = Date.UTC(2026, 0, 1);
const programMsMax = 20_000;

const runner = createProcessRunner({ logger: createLogger({ level: 'silent' }) });

async function succeeds(program: string, words: readonly string[]): Promise<boolean> {
  try {
    return (await runner.run({ program, arguments: words, timeoutMs: programMsMax })).exitCode === 0;
  } catch {
    return false;
  }
}

function lookAtNode(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isGood = major > nodeOldest[0] || (major === nodeOldest[0] && minor >= nodeOldest[1]);
  const hint = `Run scripts/test --set-up, or install Node ${nodeOldest.join('.')} or later.`;
  return { what: 'Node', verdict: isGood ? 'good' : 'trouble', text: process.versions.node, ...(!isGood && { hint }) };
}

async function lookAtNix(stateFolder: string): Promise<Finding> {
  try {
    const nix = createNix({ cacheHome: path.join(stateFolder, 'cache') })({ runner });
    return { what: 'Nix', verdict: 'good', text: await nix.requireVersion() };
  } catch (error) {
    const { message, hint } = toErrorRecord(error);
    return { what: 'Nix', verdict: 'trouble', text: message, ...(hint !== undefined && { hint }) };
  }
}

async function lookAtPrograms(): Promise<Finding> {
  const wanted = ['git', 'unshare', 'mount', 'busybox'];
  const missing: string[] = [];
  for (const program of wanted) {
    if (!(await succeeds('/bin/sh', ['-c', `command -v ${program}`]))) missing.push(program);
  }
  if (missing.length === 0) return { what: 'programs', verdict: 'good', text: wanted.join(', ') };
  const hint = 'On Debian, as root: apt-get install git util-linux mount busybox-static';
  return { what: 'programs', verdict: 'trouble', text: `missing: ${missing.join(', ')}`, hint };
}

async function lookAtNamespaces(): Promise<Finding> {
  const words = ['--user', '--map-root-user', '--mount', '--pid', '--fork', '--net', 'true'];
  if (await succeeds('unshare', words)) {
    return { what: 'namespaces', verdict: 'good', text: 'user, mount, process and network namespaces can be made' };
  }
  const hint =
    'Switches in a container, as in the demo, are then simulated. As root: sysctl -w kernel.unprivileged_userns_clone=1';
  return { what: 'namespaces', verdict: 'warning', text: 'this user cannot make them', hint };
}

/** The folder itself, or the nearest one above it that exists. */
async function nearestFolder(folder: string): Promise<string> {
  let existing = folder;
  while (!(await exists(existing)) && existing !== path.dirname(existing)) existing = path.dirname(existing);
  return existing;
}

async function lookAtSpace(what: string, folder: string, wanted: number): Promise<Finding> {
  const { bavail, bsize } = await statfs(await nearestFolder(folder));
  const free = bavail * bsize;
  const isEnough = free >= wanted;
  const text = `${bytesText(free)} free for ${folder}`;
  const hint = `Make room: ${bytesText(wanted)} are needed at least.`;
  return { what, verdict: isEnough ? 'good' : 'warning', text, ...(!isEnough && { hint }) };
}

async function exists(file: string): Promise<boolean> {
  return await stat(file).then(
    () => true,
    () => false,
  );
}

function lookAtClock(): Finding {
  const now = new Date();
  const text = now.toISOString();
  if (now.getTime() >= clockEarliestMs) return { what: 'clock', verdict: 'good', text };
  const hint = 'Set it, or let an NTP service do so: people read its times, nothing else depends on it.';
  return { what: 'clock', verdict: 'warning', text, hint };
}

async function lookAtState(stateFolder: string): Promise<Finding> {
  const socketBytes = Buffer.byteLength(controlSocketPath(stateFolder));
  if (socketBytes > socketPathBytesMax) {
    const text = `'${stateFolder}' is too long for a local socket`;
    return { what: 'state', verdict: 'trouble', text, hint: 'Choose a shorter folder with --state DIR.' };
  }
  try {
    await access(await nearestFolder(stateFolder), fileConstants.W_OK);
    return { what: 'state', verdict: 'good', text: stateFolder };
  } catch (cause) {
    const hint = 'Run as root, or choose a folder of yours with --state DIR.';
    return { what: 'state', verdict: 'trouble', text: (cause as Error).message, hint };
  }
}

async function lookAtConfig(
  file: string | undefined,
  stateFolder: string,
): Promise<[Finding, LoadedConfig | undefined]> {
  try {
    const config = await loadConfig({ state: stateFolder, ...(file !== undefined && { file }) });
    return [{ what: 'config', verdict: 'good', text: config.file }, config];
  } catch (error) {
    const { code, message, hint } = toErrorRecord(error);
    const verdict = code === 'config-missing' ? 'warning' : 'trouble';
    return [{ what: 'config', verdict, text: message, ...(hint !== undefined && { hint }) }, undefined];
  }
}

/** A port that is taken is fine while this state folder's own peer runs. */
async function lookAtPorts(config: LoadedConfig): Promise<Finding[]> {
  const isRunning = await exists(controlSocketPath(config.stateFolder));
  const findings: Finding[] = [];
  for (const address of config.listen) {
    const [, , host = '', , port = '0'] = address.split('/');
    const error = isRunning ? undefined : await listenError(host, Number(port));
    const text = error === undefined ? address : `${address}: ${error}`;
    const hint = 'End what listens there, or change `listen` in the configuration.';
    findings.push({ what: 'port', verdict: error === undefined ? 'good' : 'trouble', text, ...(error && { hint }) });
  }
  return findings;
}

function listenError(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error) => resolve(error.message));
    server.listen(port, host, () => server.close(() => resolve(undefined)));
  });
}

async function examine(stateFolder: string, configFile: string | undefined): Promise<Finding[]> {
  const state = await lookAtState(stateFolder);
  const [configFinding, config] = await lookAtConfig(configFile, stateFolder);
  return [
    lookAtNode(),
    await lookAtNix(stateFolder),
    await lookAtPrograms(),
    await lookAtNamespaces(),
    await lookAtSpace('store', config?.nixStore ?? '/nix/store', storeBytesWanted),
    state,
    await lookAtSpace('disk', stateFolder, stateBytesWanted),
    lookAtClock(),
    configFinding,
    ...(config === undefined ? [] : await lookAtPorts(config)),
  ];
}

function print(findings: readonly Finding[]): void {
  const { NO_COLOR: noColor, TERM: term } = process.env;
  const paint = choosePaint({ isTTY: process.stdout.isTTY === true, noColor, term });
  const tones: Record<Verdict, Tone> = { good: 'good', warning: 'warn', trouble: 'bad' };
  for (const { what, verdict, text, hint } of findings) {
    console.log(`${paint(tones[verdict], verdict.padEnd(8))} ${what.padEnd(11)} ${text}`);
    for (const line of hint === undefined ? [] : wrap(hint, columnsMax - 21)) console.log(`${' '.repeat(21)}${line}`);
  }
}

function readOptions() {
  const text = { type: 'string' } as const;
  try {
    const options = { state: text, config: text, json: { type: 'boolean' } } as const;
    return parseArgs({ options, allowPositionals: true }).values;
  } catch (cause) {
    throw new ParleyError('usage', (cause as Error).message, { cause });
  }
}

async function main(): Promise<number> {
  const values = readOptions();
  const fromConfig = values.config === undefined ? defaultStateFolder() : path.dirname(path.resolve(values.config));
  const findings = await examine(values.state === undefined ? fromConfig : path.resolve(values.state), values.config);
  if (values.json === true) console.log(JSON.stringify({ version: 1, findings }, undefined, 2));
  else print(findings);
  return findings.some(({ verdict }) => verdict === 'trouble') ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  const record = toErrorRecord(error);
  if (process.argv.includes('--json')) console.log(errorDocument(record));
  console.error(`parley doctor: ${record.message}`);
  process.exitCode = 2;
}
