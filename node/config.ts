// Owns the peer's configuration: the only reader of its file and of the environment. Everything else gets values.

import { readFile, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { check } from '../protocols/codec.ts';
import { type Config, configSchema } from '../protocols/config.ts';
import { ParleyError } from '../protocols/errors.ts';

export type { Config } from '../protocols/config.ts';

/** A checked configuration with where everything of this peer lies (absolute paths). */
export interface LoadedConfig extends Config {
  readonly file: string;
  readonly stateFolder: string;
}

/** Where the peer keeps its state when nobody says otherwise: the system's folder for root, the user's own for others. */
export function defaultStateFolder(): string {
  const fromEnvironment = process.env.PARLEY_STATE;
  if (fromEnvironment) return resolve(fromEnvironment);
  if (process.getuid?.() === 0) return '/var/lib/parley';
  return join(process.env.XDG_STATE_HOME ?? join(homedir(), '.local', 'state'), 'parley');
}

/**
 * Checks that a folder's path can be written in the URLs by which Nix names repositories: older ones decode nothing.
 * @throws ParleyError `folder-unusable`.
 */
export function checkFolderPath(folder: string): string {
  const strange = /[^A-Za-z0-9/._+@=,~-]/.exec(folder)?.[0];
  if (strange === undefined) return folder;
  throw new ParleyError('folder-unusable', `the folder '${folder}' cannot be used: its path has '${strange}' in it`, {
    hint: 'Nix cannot name repositories below it; choose a folder whose path has only letters, digits and / . _ - + @ = , ~.',
  });
}

/**
 * Reads and checks a configuration file.
 * @param place where to look: `--config FILE`, or `config.json` in the state folder.
 * @throws ParleyError `config-missing` or `config-invalid`, naming the field.
 */
export async function loadConfig(place: {
  readonly file?: string | undefined;
  readonly state?: string | undefined;
}): Promise<LoadedConfig> {
  const stateFolder = checkFolderPath(
    resolve(place.state ?? (place.file ? dirname(place.file) : defaultStateFolder())),
  );
  const file = resolve(place.file ?? join(stateFolder, 'config.json'));
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new ParleyError('config-missing', `cannot read the configuration '${file}': ${(cause as Error).message}`, {
      hint: 'Run `parley init` to found a fleet on this machine, or `parley join TOKEN` to join one.',
      cause,
    });
  }
  try {
    return { ...check(configSchema, JSON.parse(text), 'configuration'), file, stateFolder };
  } catch (cause) {
    throw new ParleyError('config-invalid', `the configuration '${file}' is not usable: ${(cause as Error).message}`, {
      hint: 'Mend that field; `parley init --help` lists all of them.',
      cause,
    });
  }
}

/** Writes a new configuration; never over a different one. @throws ParleyError `config-exists`. */
export async function writeConfig(file: string, config: Config): Promise<void> {
  const text = `${JSON.stringify(config, undefined, 2)}\n`;
  const existing = await readFile(file, 'utf8').catch(() => undefined);
  if (existing === text) return;
  if (existing !== undefined) {
    throw new ParleyError('config-exists', `'${file}' exists already and says something else`, {
      hint: 'Remove that file to have it written anew, or choose another folder with --state.',
    });
  }
  await writeFile(file, text, { flag: 'wx', mode: 0o600, flush: true });
}
