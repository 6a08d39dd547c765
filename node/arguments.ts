// Owns the command lines of the peer itself: `run`, `init`, `join`, `recover` and `trust`. Parsing only; main.ts acts.

import { parseArgs } from 'node:util';
import { ParleyError } from '../protocols/errors.ts';

export const usage = `Usage:
  parley init --name NAME --site SITE [options]   found a fleet of one on this machine
  parley join TOKEN|- [options]                   join the fleet that the token names; - reads it from standard input
  parley run [options]                            run the peer of the state folder; exit status 4: the fleet has removed it
  parley recover --show                           say how far the stopped peer's ledger is, after most voters were lost
  parley recover --key FILE --yes                 begin a new generation of the fleet there, with the key that init wrote
  parley recover --without-key --yes              … where that key is lost: each device must then be told to trust it
  parley trust HASH                               accept, on this device, the generation with this record

Options:
  --state DIR            state folder (default: $PARLEY_STATE, /var/lib/parley for root, else ~/.local/state/parley)
  --config FILE          configuration (default: config.json in the state folder)
  --listen MULTIADDR     where to listen, repeatable (default: /ip4/0.0.0.0/tcp/4400 and /ip4/0.0.0.0/tcp/4401/ws)
  --announce MULTIADDR   where others reach this peer, repeatable
  --discovery mdns|none  how peers of the site are found without an address (default: mdns)
  --nix-store DIR        a Nix store of this peer's own instead of the machine's
  --substituter URL      binary cache that a diverted store builds from, repeatable (default: none)
  --trusted-public-key K key of such a cache, NAME:BASE64, repeatable
  --speak-as             let the local socket speak as any operator: for demonstrations only
  --until-stdin-closes   (run) end when standard input ends
  --json                 (all but run) print the result as JSON
  --help

Examples:
  parley init --name gate --site home --listen /ip4/192.168.1.2/tcp/4400
  parley join parley1:oWRm… --state /var/lib/parley
  parley join - < token                           where others could see the arguments of programs
  parley run`;

const options = {
  state: { type: 'string' },
  config: { type: 'string' },
  name: { type: 'string' },
  site: { type: 'string' },
  listen: { type: 'string', multiple: true },
  announce: { type: 'string', multiple: true },
  discovery: { type: 'string' },
  'nix-store': { type: 'string' },
  substituter: { type: 'string', multiple: true },
  'trusted-public-key': { type: 'string', multiple: true },
  'speak-as': { type: 'boolean' },
  'health-settle-ms': { type: 'string' },
  'log-level': { type: 'string' },
  'until-stdin-closes': { type: 'boolean' },
  key: { type: 'string' },
  'without-key': { type: 'boolean' },
  show: { type: 'boolean' },
  yes: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

const defaultListen = ['/ip4/0.0.0.0/tcp/4400', '/ip4/0.0.0.0/tcp/4401/ws'];

export interface PeerArguments {
  readonly command: 'run' | 'init' | 'join' | 'recover' | 'trust' | 'help';
  readonly state: string | undefined;
  readonly config: string | undefined;
  readonly name: string;
  readonly site: string;
  /** Of `join`; of `trust` the hash of a record. */
  readonly token: string;
  /** What `recover` is to begin: signed with the key in a file, or null for --without-key. Null itself: it only shows. */
  readonly beginning: { readonly keyFile: string | null; readonly isConfirmed: boolean } | null;
  /** The content of a new configuration file; checked when it is written. */
  readonly newConfig: Record<string, unknown>;
  readonly untilStdinCloses: boolean;
  readonly json: boolean;
}

/** @throws ParleyError `usage`, whose hint is how to call the command. */
export function parsePeerArguments(words: readonly string[]): PeerArguments {
  try {
    const { values, positionals } = parseArgs({ args: [...words], options, allowPositionals: true });
    const [command = 'help', token = '', ...rest] = positionals;
    if (values.help || command === 'help') return parsed('help', '', values);
    if (!isPeerCommand(command)) throw new Error(`no such command: '${command}'`);
    const unexpected = command === 'join' || command === 'trust' ? rest[0] : token;
    if (unexpected) throw new Error(`unexpected argument: '${unexpected}'`);
    checkNeeds(command, token, values);
    return parsed(command, token, values);
  } catch (cause) {
    throw new ParleyError('usage', (cause as Error).message, { hint: usage, cause });
  }
}

type Values = ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];

function isPeerCommand(word: string): word is PeerArguments['command'] {
  return ['run', 'init', 'join', 'recover', 'trust'].includes(word);
}

function checkNeeds(command: PeerArguments['command'], token: string, values: Values): void {
  if (command === 'join' && !token) throw new Error('join needs a token');
  if (command === 'init' && !(values.name && values.site)) throw new Error('init needs --name and --site');
  if (command === 'trust' && !/^[0-9a-f]{64}$/.test(token)) {
    throw new Error('trust needs the whole hash of a record, as `parley recover` printed it');
  }
  if (command === 'recover') checkWay(values);
}

function checkWay({ key, show, yes, 'without-key': withoutKey }: Values): void {
  const ways = [key, withoutKey].filter((way) => way !== undefined);
  if (show && (yes || ways.length > 0)) {
    throw new Error('--show goes alone, without --yes, --key and --without-key: it only says how far the peer is');
  }
  if (!show && ways.length !== 1) throw new Error('recover needs one of --show, --key FILE and --without-key');
}

function parsed(command: PeerArguments['command'], token: string, values: Values): PeerArguments {
  const settle = values['health-settle-ms'];
  return {
    command,
    token,
    beginning: values.show ? null : { keyFile: values.key ?? null, isConfirmed: values.yes ?? false },
    state: values.state,
    config: values.config,
    name: values.name ?? '',
    site: values.site ?? '',
    newConfig: withoutUndefined({
      version: 1,
      listen: values.listen ?? defaultListen,
      announce: values.announce,
      discovery: values.discovery,
      nixStore: values['nix-store'],
      substituters: values.substituter,
      trustedPublicKeys: values['trusted-public-key'],
      speakAs: values['speak-as'],
      healthSettleMs: settle === undefined ? undefined : Number(settle),
      logLevel: values['log-level'],
    }),
    untilStdinCloses: values['until-stdin-closes'] ?? false,
    json: values.json ?? false,
  };
}

function withoutUndefined(record: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));
}
