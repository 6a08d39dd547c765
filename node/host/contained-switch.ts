// Owns the machine that a device switches where it lives beside others on somebody's computer (the demo): its own store, its
// own root folder, its own profile. What a closure brings is run in the container only; a closure that needs a booted
// systemd is not run at all.

import { chown, lstat, mkdir, open, readdir, readFile, readlink, rename, rm, statfs, symlink } from 'node:fs/promises';
import path from 'node:path';
import { check } from '../../protocols/codec.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { storePathSchema } from '../../protocols/primitives.ts';
import type { Machine, SwitchKind } from '../device/index.ts';
import type { ProcessRunner } from '../interfaces.ts';
import { type Container, containerFolder, containerUid, createContainer, deviceFolders } from './container.ts';
import type { Nix } from './nix.ts';

export interface ContainedMachineInit {
  /** Folder that contains nix/store. */
  readonly storeRoot: string;
  /** Where the device's run, var, etc and tmp are, and its system profile; created when missing. */
  readonly rootFolder: string;
  /** Time for one run of a closure's program; deploy-rs gives an activation 240 s. */
  readonly switchTimeoutMs: number;
}

export interface ContainedMachineComponents {
  readonly runner: ProcessRunner;
  readonly nix: Pick<Nix, 'setProfile' | 'readProfile'>;
}

const bootIdFile = '/proc/sys/kernel/random/boot_id';
/** The device's own system profile, which its programs cannot see. */
const profileFolder = 'profiles';
/** Questions to the device, unlike switches, are short. */
const questionTimeoutMs = 30_000;
const failedUnitsMax = 64;
const unitNameCharactersMax = 256;
/** Exit status 0 with no output where the system has no systemctl: then it has no units either. */
const failedUnitsScript =
  'systemctl="$1/sw/bin/systemctl"; [ ! -x "$systemctl" ] || exec "$systemctl" --failed --plain --no-legend';

/** Creates the access to a device whose programs run in a container. Throws as Machine says, and file system errors as they are. */
export function createContainedMachine(
  init: ContainedMachineInit,
): (components: ContainedMachineComponents) => Machine {
  // Never the machine's own profile: with the machine's own store that would be the operator's system.
  const profile = path.join(init.rootFolder, profileFolder, 'system');
  const storeFolder = path.join(init.storeRoot, 'nix/store');
  const run = (name: string) => path.join(init.rootFolder, 'run', name);

  return ({ runner, nix }) => {
    const container = oneAtATime(createContainer({ storeFolder, rootFolder: init.rootFolder })({ runner }));
    let isProven = false;

    async function prove(): Promise<void> {
      if (isProven) return;
      await container.run({ command: ['/busybox', 'true'], environment: {}, timeoutMs: questionTimeoutMs });
      isProven = true;
    }

    async function canRun(toplevel: string): Promise<SwitchKind> {
      const kind = await kindOf(init.storeRoot, toplevel);
      if (kind.kind === 'contained') await prove();
      return kind;
    }

    const running = () => readSystemLink(run('current-system'));

    return {
      canRun,
      running,
      booted: () => readSystemLink(run('booted-system')),
      setRunningSimulated: (toplevel) => writeLink(run('current-system'), toplevel),
      profile: async () => (await nix.readProfile(profile)) ?? null,
      bootId: readBootId,
      async prepare() {
        await prepareFolders(init.rootFolder);
        const marker = path.join(init.rootFolder, '.boot-id');
        const bootId = await readBootId();
        if ((await readFile(marker, 'utf8').catch(() => undefined)) === bootId) return;
        for (const name of await readdir(run(''))) await rm(run(name), { recursive: true, force: true });
        const toplevel = (await nix.readProfile(profile)) ?? null;
        await writeLink(run('booted-system'), toplevel);
        await writeLink(run('current-system'), toplevel);
        await writeSynced(marker, bootId);
      },
      async switchToConfiguration(toplevel, action, options = {}) {
        const { kind, why } = await canRun(toplevel);
        if (kind === 'simulated') {
          throw new ParleyError('containment-unavailable', `refusing to run a program of '${toplevel}': ${why}`);
        }
        return await container.run({
          command: [`${toplevel}/bin/switch-to-configuration`, action],
          environment: options.skipChecks ? { NIXOS_NO_CHECK: '1' } : {},
          timeoutMs: init.switchTimeoutMs,
          signal: options.signal,
          onLine: options.onLine,
        });
      },
      async failedUnits(options = {}) {
        const toplevel = await running();
        if (toplevel === null || (await canRun(toplevel)).kind === 'simulated') return [];
        const { exitCode, stdout, output } = await container.run({
          command: ['/busybox', 'sh', '-c', failedUnitsScript, 'failed-units', toplevel],
          environment: {},
          timeoutMs: questionTimeoutMs,
          signal: options.signal,
        });
        if (exitCode === 0) return parseFailedUnits(stdout);
        throw new ParleyError(
          'units-unreadable',
          `systemctl of '${toplevel}' ended with status ${exitCode}: ${output}`,
        );
      },
      async setProfile(toplevel) {
        // What the profile names must survive a power cut before the profile names it.
        await syncStore(runner, storeFolder);
        if (toplevel === null) await rm(profile, { force: true });
        else await nix.setProfile(profile, toplevel);
        await syncFolder(path.dirname(profile));
      },
      async freeBytes() {
        // Nix makes a diverted store's folder with the first path that goes into it.
        await mkdir(storeFolder, { recursive: true });
        const space = await statfs(storeFolder);
        return space.bavail * space.bsize;
      },
    };
  };
}

/** Two runs at once would share /run; the second waits. */
function oneAtATime(container: Container): Container {
  let last: Promise<unknown> = Promise.resolve();
  return {
    run(request) {
      const result = last.then(() => container.run(request));
      last = result.catch(() => undefined);
      return result;
    },
  };
}

async function kindOf(storeRoot: string, toplevel: string): Promise<SwitchKind> {
  const folder = path.join(storeRoot, check(storePathSchema, toplevel, 'toplevel'));
  if (!(await isThere(path.join(folder, 'nixos-version')))) throw notASystem(toplevel, 'nixos-version');
  if (await isThere(path.join(folder, 'systemd'))) {
    return { kind: 'simulated', why: 'it needs a booted systemd, which a contained device does not have' };
  }
  if (!(await isThere(path.join(folder, 'bin/switch-to-configuration')))) {
    throw notASystem(toplevel, 'bin/switch-to-configuration');
  }
  return { kind: 'contained', why: 'it brings programs that need no booted systemd' };
}

async function isThere(file: string): Promise<boolean> {
  return await lstat(file).then(
    () => true,
    () => false,
  );
}

function notASystem(toplevel: string, missing: string): ParleyError {
  return new ParleyError('not-a-system', `'${toplevel}' is no NixOS system: there is no '${missing}' in it`, {
    hint: 'Orders name the toplevel of a host in nixosConfigurations.',
  });
}

async function prepareFolders(rootFolder: string): Promise<void> {
  await mkdir(path.join(rootFolder, containerFolder), { recursive: true, mode: 0o755 });
  for (const name of deviceFolders) {
    const folder = path.join(rootFolder, name);
    await mkdir(folder, { recursive: true, mode: 0o755 });
    if (process.getuid?.() === 0) await chown(folder, containerUid, containerUid);
  }
}

/** Machines without Linux's boot id (they are only monitored) count as never rebooted. */
async function readBootId(): Promise<string> {
  return await readFile(bootIdFile, 'utf8').then(
    (text) => text.trim(),
    () => 'unknown',
  );
}

async function syncStore(runner: ProcessRunner, storeFolder: string): Promise<void> {
  const { exitCode, stderr } = await runner.run({ program: 'sync', arguments: ['--file-system', storeFolder] });
  if (exitCode !== 0) throw new ParleyError('store-not-synced', `cannot sync '${storeFolder}': ${stderr.trim()}`);
}

/** The device's own programs write these links: anything but a store path counts as none. */
async function readSystemLink(link: string): Promise<string | null> {
  const target = await readlink(link).catch(() => undefined);
  if (target === undefined) return null;
  try {
    return check(storePathSchema, target);
  } catch {
    return null;
  }
}

async function writeLink(link: string, target: string | null): Promise<void> {
  if (target === null) {
    await rm(link, { force: true, recursive: true });
    return;
  }
  const fresh = `${link}.parley`;
  await rm(fresh, { force: true, recursive: true });
  await symlink(target, fresh);
  await rename(fresh, link);
}

async function writeSynced(file: string, text: string): Promise<void> {
  const handle = await open(file, 'w', 0o600);
  await handle
    .writeFile(text)
    .then(() => handle.sync())
    .finally(() => handle.close());
  await syncFolder(path.dirname(file));
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().finally(() => handle.close());
}

function parseFailedUnits(stdout: string): string[] {
  const names = stdout.split('\n').map((line) => /^[^A-Za-z0-9]*(\S+)/.exec(line)?.[1] ?? '');
  return names
    .filter(Boolean)
    .slice(0, failedUnitsMax)
    .map((name) => name.slice(0, unitNameCharactersMax));
}
