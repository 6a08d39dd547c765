// Owns what a person may ask of the demo, and which peers on which sites that makes. Pure.

import { parseArgs } from 'node:util';
import { ParleyError } from '../../protocols/errors.ts';
import type { Role } from '../../protocols/primitives.ts';

export interface DemoOptions {
  readonly help: boolean;
  /** File of console lines, or `-`; undefined opens the console. */
  readonly script: string | undefined;
  readonly project: string | undefined;
  readonly keep: string | undefined;
  readonly peers: number | undefined;
  readonly sites: number | undefined;
  readonly voters: number | undefined;
}

export interface PeerPlan {
  readonly name: string;
  readonly site: string;
  readonly roles: readonly Role[];
}

/** Two cores carry about this many peers with their stores. */
const peersMax = 32;
const peersDefault = 6;
const sitesDefault = 2;
const votersDefault = 3;

const siteNames = ['home', 'shop', 'depot', 'farm', 'office', 'lab', 'dock', 'yard'];
/** The sample's own hosts by site, in the order in which they get peers. */
const sampleNames: Readonly<Record<string, readonly string[]>> = {
  home: ['home-gate', 'home-desk', 'home-media'],
  shop: ['shop-till', 'shop-sign', 'shop-cam'],
};

export const demoUsage: readonly string[] = [
  'Usage: scripts/demo [options]',
  '',
  'Brings up a mesh of peers on this machine, each a process of its own with its own state, keys and Nix store,',
  'and leaves you in a console. Nothing outside a temporary folder is touched; leaving ends all peers.',
  '',
  '  --run FILE|-    run console lines from a file or standard input; stop at the first that fails',
  '  --project DIR   use a flake of yours with nixosConfigurations instead of the sample; DIR is only read',
  `  --peers N       how many peers (default: ${peersDefault}, or one for each host of DIR up to ${peersDefault})`,
  `  --sites M       on how many sites (default: ${sitesDefault})`,
  `  --voters V      how many of them vote: 1, or 3 to 7 (default: ${votersDefault})`,
  '  --keep DIR      keep everything in DIR; the next demo with it goes on from there',
  '  --help',
  '',
  'Examples:',
  '  scripts/demo',
  '  scripts/demo --run tour.txt',
  '  printf "status\\ntasks\\n" | scripts/demo --run - --peers 3 --voters 1',
];

/** Reads the command line. @throws ParleyError `usage` */
export function readDemoOptions(arguments_: readonly string[]): DemoOptions {
  const text = { type: 'string' } as const;
  const options = { run: text, project: text, keep: text, peers: text, sites: text, voters: text } as const;
  let values: Partial<Record<keyof typeof options, string>> & { help?: boolean };
  try {
    values = parseArgs({
      args: [...arguments_],
      options: { ...options, help: { type: 'boolean', short: 'h' } },
    }).values;
  } catch (cause) {
    throw new ParleyError('usage', (cause as Error).message, { hint: 'scripts/demo --help shows the options.', cause });
  }
  return {
    help: values.help === true,
    script: values.run,
    project: values.project,
    keep: values.keep,
    peers: readCount('--peers', values.peers, peersMax),
    sites: readCount('--sites', values.sites, peersMax),
    voters: readCount('--voters', values.voters, 7),
  };
}

/**
 * Chooses names, sites and roles. Peers go to the sites in turn, and so do the voters, who also build.
 * @param hosts names to use, of a project that is not the sample
 * @throws ParleyError `usage` where the numbers do not fit together
 */
export function planPeers(
  options: Pick<DemoOptions, 'peers' | 'sites' | 'voters'>,
  hosts: readonly string[] | undefined,
): PeerPlan[] {
  const peerCount = options.peers ?? Math.min(peersDefault, Math.max(1, hosts?.length ?? peersDefault));
  const siteCount = options.sites ?? Math.min(sitesDefault, peerCount);
  const voterCount = options.voters ?? (peerCount >= votersDefault ? votersDefault : 1);
  if (siteCount > peerCount) throw misfit(`${siteCount} sites need as many peers: there are ${peerCount}`);
  if (voterCount > peerCount) throw misfit(`${voterCount} voters need as many peers: there are ${peerCount}`);
  if (voterCount === 2) throw misfit('two voters stop when either dies: use 1, or 3 to 7');
  const counts = new Map<string, number>();
  return Array.from({ length: peerCount }, (_, index) => {
    const site = siteNames[index % siteCount] ?? `site${(index % siteCount) + 1}`;
    const number = (counts.get(site) ?? 0) + 1;
    counts.set(site, number);
    const own = hosts === undefined ? sampleNames[site]?.[number - 1] : hosts[index];
    return {
      name: own ?? `${site}-${number}`,
      site,
      roles: index < voterCount ? ['member', 'voter', 'builder'] : ['member'],
    };
  });
}

function readCount(name: string, text: string | undefined, countMax: number): number | undefined {
  if (text === undefined) return undefined;
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= countMax) return count;
  throw misfit(`'${name}' takes a number from 1 to ${countMax}: got '${text}'`);
}

function misfit(message: string): ParleyError {
  return new ParleyError('usage', message, { hint: 'scripts/demo --help shows the options.' });
}
