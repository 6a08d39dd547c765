// Owns the container in which programs of a device's closure run: fresh namespaces, the peer's store as the only programs,
// the device's own run, var, etc and tmp as the only writable files, no capability, no network. There is no way around it:
// where the kernel refuses namespaces, nothing is run. What such a program can still do: fill the device's folders (and so
// the disk), use processor time and memory until its deadline, and lie about its own device.

import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import path from 'node:path';
import { ParleyError } from '../../protocols/errors.ts';
import type { ProcessRequest, ProcessRunner } from '../interfaces.ts';

/** Writable folders of a device, made and owned by the peer. */
export const deviceFolders = ['run', 'var', 'etc', 'tmp'] as const;
/** Mount point of the container's root, empty outside of it. */
export const containerFolder = '.container';
/**
 * Whom programs run as where the peer is root: a uid outside every range that systemd's table of uids (UIDS-GIDS) gives away,
 * so that it owns nothing but the devices' folders.
 */
export const containerUid = 1_879_048_999;

const script = path.join(import.meta.dirname, 'contained-switch.sh');
/** Where the script's first step puts things. */
const staged = { busybox: '/tmp/busybox', script: '/tmp/script', store: '/tmp/store', root: '/tmp/root' };
const enteredMark = 'parley-container-entered';
const programFolders = ['/usr/bin', '/bin', '/usr/sbin', '/sbin', '/run/current-system/sw/bin', '/usr/local/bin'];
const stdoutBytesMax = 8 * 1024 * 1024;
/** Lines kept of both outputs. */
const outputLinesMax = 60;
const outputCharactersMax = 8_000;

export interface ContainerInit {
  /** Folder to show as /nix/store. */
  readonly storeFolder: string;
  /** Holds deviceFolders and containerFolder. */
  readonly rootFolder: string;
}

export interface ContainedRun {
  /** Program and arguments as seen in the container. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onLine?: ((line: string, stream: 'stdout' | 'stderr') => void) | undefined;
}

export interface ContainedResult {
  readonly exitCode: number;
  readonly stdout: string;
  /** The last lines of both outputs in the order in which they came. */
  readonly output: string;
}

export interface Container {
  /** @throws ParleyError `containment-unavailable`, or what ProcessRunner throws. */
  run(request: ContainedRun): Promise<ContainedResult>;
}

interface Programs {
  readonly busybox: string;
  readonly setpriv: string;
  readonly unshare: string;
}

/** Creates the container of one device. Nothing is done before the first run; runs must not overlap. */
export function createContainer(init: ContainerInit): (components: { readonly runner: ProcessRunner }) => Container {
  let programs: Promise<Programs> | undefined;
  return ({ runner }) => ({
    async run(request) {
      programs ??= findPrograms().catch((error: unknown) => {
        programs = undefined;
        throw error;
      });
      const arguments_ = containerArguments(init, await programs, commandLine(request));
      return await runInside(runner, { ...arguments_, environment: {}, timeoutMs: request.timeoutMs }, request);
    },
  });
}

async function runInside(
  runner: ProcessRunner,
  base: ProcessRequest,
  { signal, onLine }: ContainedRun,
): Promise<ContainedResult> {
  let entered = false;
  const lines: string[] = [];
  const take = (stream: 'stdout' | 'stderr') => (line: string) => {
    if (stream === 'stderr' && !entered && line === enteredMark) {
      entered = true;
      return;
    }
    lines.push(line);
    if (lines.length > outputLinesMax) lines.shift();
    if (entered) onLine?.(line, stream);
  };
  const result = await runner.run({
    ...base,
    stdoutBytesMax,
    dropsLongOutput: true,
    onStdoutLine: take('stdout'),
    onStderrLine: take('stderr'),
    ...(signal === undefined ? {} : { signal }),
  });
  const output = lines.join('\n').slice(-outputCharactersMax);
  if (!entered) throw unavailable(output === '' ? `exit status ${result.exitCode}` : output);
  return { exitCode: result.exitCode, stdout: Buffer.from(result.stdout).toString('utf8'), output };
}

function commandLine({ command, environment }: ContainedRun): string[] {
  return ['/busybox', 'env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`), ...command];
}

function containerArguments(
  init: ContainerInit,
  { busybox, setpriv, unshare }: Programs,
  command: readonly string[],
): { readonly program: string; readonly arguments: readonly string[] } {
  const isRoot = process.getuid?.() === 0;
  const place = isRoot ? staged : { busybox, script, store: init.storeFolder, root: init.rootFolder };
  const enter = [
    ...[unshare, '--user', '--map-root-user', '--mount', '--pid', '--ipc', '--uts', '--net', '--cgroup'],
    ...['--fork', '--kill-child=KILL', '--propagation', 'private', '--'],
    // The script keeps the two capabilities that it needs as inheritable ones; the bounding set is empty for good.
    ...[setpriv, '--inh-caps=-all,+sys_admin,+sys_resource', '--', setpriv, '--bounding-set=-all', '--'],
    ...[place.busybox, 'sh', place.script, 'enter', place.busybox, place.store, place.root, ...command],
  ];
  // The container dies with the peer, however that dies.
  if (!isRoot) return { program: setpriv, arguments: ['--pdeathsig', 'KILL', '--no-new-privs', '--', ...enter] };
  const stage = [
    busybox,
    'sh',
    script,
    'stage',
    busybox,
    init.storeFolder,
    init.rootFolder,
    String(containerUid),
    setpriv,
  ];
  return {
    program: setpriv,
    arguments: [
      ...['--pdeathsig', 'KILL', '--', unshare, '--mount', '--propagation', 'private', '--'],
      ...stage,
      ...enter,
    ],
  };
}

async function findPrograms(): Promise<Programs> {
  const [busybox, setpriv, unshare] = await Promise.all([
    findProgram('busybox', isStatic),
    findProgram('setpriv', async () => true),
    findProgram('unshare', async () => true),
  ]);
  return { busybox, setpriv, unshare };
}

async function findProgram(name: string, suits: (file: string) => Promise<boolean>): Promise<string> {
  for (const folder of programFolders) {
    const file = path.join(folder, name);
    const isThere = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere && (await suits(file))) return file;
  }
  const needed = name === 'busybox' ? 'a static busybox' : `'${name}' of util-linux`;
  throw unavailable(`${needed} is not in ${programFolders.join(', ')}`);
}

/** True for an ELF file that asks for no interpreter: the only kind that runs without the operator's libraries. */
async function isStatic(file: string): Promise<boolean> {
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4096), 0, 4096, 0);
    if (bytesRead < 64 || buffer.readUInt32BE(0) !== 0x7f454c46 || buffer[4] !== 2) return false;
    const headersAt = Number(buffer.readBigUInt64LE(32));
    const size = buffer.readUInt16LE(54);
    const count = buffer.readUInt16LE(56);
    const interpreter = 3;
    for (let index = 0; index < count; index += 1) {
      const at = headersAt + index * size;
      if (at + 4 > bytesRead || buffer.readUInt32LE(at) === interpreter) return false;
    }
    return true;
  } finally {
    await handle.close();
  }
}

function unavailable(state: string): ParleyError {
  return new ParleyError('containment-unavailable', `cannot make a container for the device's own programs: ${state}`, {
    hint:
      'Install util-linux and a static busybox (`apt-get install busybox-static`), and allow user namespaces ' +
      '(`sysctl user.max_user_namespaces`, on Ubuntu also `kernel.apparmor_restrict_unprivileged_userns=0`). ' +
      'Nothing of the closure was run.',
  });
}
