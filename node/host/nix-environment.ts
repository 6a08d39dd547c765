// Owns the settings with which Nix runs. A diverted store is a world of its own: the machine's configuration, caches and
// home must not leak in. The machine's own store keeps the machine's configuration.

import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';

export interface NixSettings {
  /** Absolute folder of a diverted store (its paths lie in FOLDER/nix/store); absent: the machine's own store. */
  readonly store?: string;
  /** This peer's own folder for Nix's caches and home: a narinfo that another peer cached would mislead it. */
  readonly cacheHome: string;
  /** Where a diverted store may substitute from; default none, since unreachable substituters cost seconds per command. */
  readonly substituters?: readonly string[];
  readonly trustedPublicKeys?: readonly string[];
}

/** A static busybox: a diverted store always sandboxes, and distributions' Nix brings no shell for the sandbox. */
const sandboxShells = ['/bin/busybox', '/usr/bin/busybox'];

/** Arguments that every nix program takes first. */
export function storeArguments(settings: NixSettings): string[] {
  return settings.store === undefined ? [] : ['--store', settings.store];
}

/** The whole environment of a nix program, besides PATH. */
export function nixEnvironment(settings: NixSettings): Record<string, string> {
  const shared = {
    HOME: homeOf(settings),
    // A build that is ended at once leaves its folder: not in a place that others use.
    TMPDIR: temporaryFolderOf(settings),
    XDG_CACHE_HOME: settings.cacheHome,
    USER: 'parley',
    GIT_TERMINAL_PROMPT: '0',
    NIX_CONFIG: configLines(settings).join('\n'),
  };
  if (settings.store === undefined) return shared;
  return {
    ...shared,
    NIX_CONF_DIR: path.join(settings.cacheHome, 'no-machine-configuration'),
    NIX_USER_CONF_FILES: '',
    NIX_STATE_DIR: path.join(settings.store, 'nix/var/nix'),
    NIX_LOG_DIR: path.join(settings.store, 'nix/var/log/nix'),
  };
}

/** Creates the folders that the environment names. */
export async function prepareFolders(settings: NixSettings): Promise<void> {
  await mkdir(homeOf(settings), { recursive: true, mode: 0o700 });
  await mkdir(temporaryFolderOf(settings), { recursive: true, mode: 0o700 });
  if (settings.store !== undefined) await mkdir(settings.store, { recursive: true });
}

function temporaryFolderOf(settings: NixSettings): string {
  return path.join(settings.cacheHome, 'tmp');
}

function homeOf(settings: NixSettings): string {
  return path.join(settings.cacheHome, 'home');
}

function configLines(settings: NixSettings): string[] {
  const shared = [
    'extra-experimental-features = nix-command flakes',
    'narinfo-cache-negative-ttl = 0',
    'narinfo-cache-positive-ttl = 0',
    'fallback = true',
    'warn-dirty = false',
  ];
  if (settings.store === undefined) return shared;
  const shell = sandboxShells.find((file) => existsSync(file));
  return [
    ...shared,
    'build-users-group =',
    'flake-registry =',
    'max-jobs = auto',
    `substituters = ${(settings.substituters ?? []).join(' ')}`,
    `trusted-public-keys = ${(settings.trustedPublicKeys ?? []).join(' ')}`,
    ...(shell === undefined ? [] : [`sandbox-paths = /bin/sh=${shell}`]),
  ];
}
