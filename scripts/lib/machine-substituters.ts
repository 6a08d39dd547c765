// Owns what a project with real packages takes from this machine's own Nix configuration: the binary caches that it names and
// whose keys it trusts. Only those that answer at once count: one that cannot be reached costs seconds in every command.

import type { ProcessRunner } from '../../node/interfaces.ts';

const answerMsMax = 2_000;
const configurationMsMax = 5_000;
/** Where a person's own Nix configuration comes from, beside HOME and the machine's files. */
const configurationVariables = ['NIX_CONFIG', 'NIX_CONF_DIR', 'NIX_USER_CONF_FILES', 'XDG_CONFIG_HOME'];

export interface MachineSubstituters {
  readonly substituters: readonly string[];
  readonly trustedPublicKeys: readonly string[];
}

/** The caches of the machine's configuration that answer within 2 s, and the keys that it trusts; empty without any. */
export async function machineSubstituters(
  runner: ProcessRunner,
  environment: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<MachineSubstituters> {
  const settings = await readSettings(runner, environment, signal);
  const named = listOf(settings, 'substituters').map((url) => url.replace(/\/+$/, ''));
  const answers = await Promise.all(named.map((url) => doesAnswer(url, signal)));
  const substituters = named.filter((_, index) => answers[index]);
  return { substituters, trustedPublicKeys: substituters.length === 0 ? [] : listOf(settings, 'trusted-public-keys') };
}

/** What people are told about it, in one line. */
export function substitutersText({ substituters }: MachineSubstituters): string {
  if (substituters.length === 0) return 'No binary cache of this machine answers: everything is built from source.';
  return `Nix may fetch from what this machine's configuration names: ${substituters.join(', ')}.`;
}

/** Newer versions call it `config show`. */
async function readSettings(
  runner: ProcessRunner,
  variables: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<object> {
  const given = configurationVariables.flatMap((name) =>
    variables[name] === undefined ? [] : [[name, variables[name]]],
  );
  const environment = Object.fromEntries(given) as Record<string, string>;
  for (const words of [['config', 'show'], ['show-config']]) {
    const { exitCode, stdout } = await runner.run({
      program: 'nix',
      arguments: ['--extra-experimental-features', 'nix-command', ...words, '--json'],
      environment,
      signal,
      timeoutMs: configurationMsMax,
    });
    if (exitCode !== 0) continue;
    const settings: unknown = JSON.parse(Buffer.from(stdout).toString('utf8'));
    if (typeof settings === 'object' && settings !== null) return settings;
  }
  return {};
}

function listOf(settings: object, name: string): string[] {
  const setting: unknown = Reflect.get(settings, name);
  const value: unknown = typeof setting === 'object' && setting !== null ? Reflect.get(setting, 'value') : undefined;
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

async function doesAnswer(url: string, signal: AbortSignal): Promise<boolean> {
  if (!/^https?:\/\//.test(url)) return false;
  try {
    const within = AbortSignal.any([signal, AbortSignal.timeout(answerMsMax)]);
    const { ok, body } = await fetch(`${url}/nix-cache-info`, { signal: within });
    await body?.cancel();
    return ok;
  } catch {
    return false;
  }
}
