// Owns the descriptions of the commands about who belongs to the fleet and who votes.

import { ParleyError } from '../protocols/errors.ts';
import { type CommandSpec, host, noWait, plain } from './command-spec.ts';

export const membershipSpecs: readonly CommandSpec[] = [
  {
    ...plain,
    name: 'voters',
    group: 'look',
    summary: 'who votes, what a change of voters waits for, what loss the fleet survives',
    examples: ['voters', 'voters --json'],
    build: () => ({ name: 'voters' }),
  },
  {
    ...plain,
    name: 'invite',
    group: 'fleet',
    summary: 'print a token with which one machine joins',
    arguments: [{ name: 'NAME', kind: 'text', required: true }],
    options: [
      { name: 'site', value: 'SITE', required: true, summary: 'the uplink that the machine is behind' },
      { name: 'roles', value: 'ROLES', summary: 'besides member: voter, builder; or monitor' },
      { name: 'expires', value: 'TIME', summary: 'such as 30m, 1h, 2d (default: 1h)' },
    ],
    examples: ['invite web3 --site home', 'invite web3 --site home --roles voter,builder --expires 30m'],
    build: (words) => ({
      name: 'invite',
      peer: words.argument('NAME'),
      site: words.option('site'),
      roles: readRoles(words.option('roles') ?? 'member'),
      expiresInMs: readDuration(words.option('expires') ?? '1h'),
    }),
  },
  {
    ...plain,
    name: 'voters add',
    group: 'fleet',
    summary: 'let a member vote as well, once it has caught up',
    arguments: [host],
    options: [noWait],
    examples: ['voters add web1'],
    follows: true,
    build: (words) => ({ name: 'voters-add', host: words.argument('HOST') }),
  },
  {
    ...plain,
    name: 'voters remove',
    group: 'fleet',
    summary: 'take a vote away; the peer stays a member',
    arguments: [host],
    options: [noWait],
    examples: ['voters remove web1'],
    follows: true,
    build: (words) => ({ name: 'voters-remove', host: words.argument('HOST') }),
  },
  {
    ...plain,
    name: 'voters replace',
    group: 'fleet',
    summary: 'let one member vote in place of another, in one change',
    arguments: [
      { ...host, name: 'OLD' },
      { ...host, name: 'NEW' },
    ],
    options: [noWait],
    examples: ['voters replace gate hall'],
    follows: true,
    build: (words) => ({ name: 'voters-replace', host: words.argument('OLD'), by: words.argument('NEW') }),
  },
  {
    ...plain,
    name: 'peers remove',
    group: 'fleet',
    summary: 'remove a machine from the fleet; it stops and is never let in again',
    arguments: [host],
    options: [noWait],
    examples: ['peers remove web1'],
    follows: true,
    build: (words) => ({ name: 'peers-remove', host: words.argument('HOST') }),
  },
];

/** Everybody but a monitor is a member; that these are roles is checked with the whole command. */
function readRoles(text: string): string[] {
  const roles = new Set(text.split(',').map((role) => role.trim()));
  return roles.has('monitor') ? [...roles] : [...new Set(['member', ...roles])];
}

const durationUnitsMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function readDuration(text: string): number {
  const match = /^([0-9]{1,6})([smhd])$/.exec(text);
  const unitMs = durationUnitsMs[match?.[2] ?? ''];
  if (unitMs === undefined) throw new ParleyError('usage', `expected a time such as 30m, 1h or 2d: got '${text}'`);
  return Number(match?.[1]) * unitMs;
}
