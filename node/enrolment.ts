// Owns how a state folder becomes a peer's: founding a fleet (`init`) or joining one (`join`). Each writes the key first and
// the membership last, so that a run that was cut off can simply be run again.

import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { arch, platform } from 'node:os';
import { join } from 'node:path';
import { check, decode, encode } from '../protocols/codec.ts';
import { ParleyError } from '../protocols/errors.ts';
import { tokenCharactersMax } from '../protocols/join.ts';
import { type Membership, membershipBytesMax, membershipSchema } from '../protocols/membership.ts';
import { nameSchema } from '../protocols/primitives.ts';
import { loadBuilderKey } from './build/index.ts';
import { type Config, writeConfig } from './config.ts';
import { createGenesis } from './ledger/index.ts';
import { createIdentity, type Identity, joinFleet, loadIdentity, parseToken } from './mesh/index.ts';
import { lockStateFolder, replaceDurably } from './store/index.ts';
import { openRecoveryKey } from './wiring/recovery-key.ts';

export const identityFileOf = (stateFolder: string): string => join(stateFolder, 'identity.key');
/** The key that a voter signs certificates with: made anew for each raft id, gone with the vote. */
export const voterKeyFileOf = (stateFolder: string): string => join(stateFolder, 'voter.key');
export const builderKeyFileOf = (stateFolder: string): string => join(stateFolder, 'builder.key');
const membershipFileOf = (stateFolder: string): string => join(stateFolder, 'membership.cbor');

export interface Enrolled {
  readonly peer: string;
  readonly membership: Membership;
  /** Where the fleet's recovery key was written; only after founding. */
  readonly recoveryKeyFile?: string;
}

/** This machine as Nix names it. @throws ParleyError `system-unknown`. */
export function nixSystem(): string {
  const machine = { x64: 'x86_64', arm64: 'aarch64' }[arch() as string];
  const kernel = { linux: 'linux', darwin: 'darwin' }[platform() as string];
  if (machine && kernel) return `${machine}-${kernel}`;
  throw new ParleyError('system-unknown', `Parley does not run on ${arch()} ${platform()}`);
}

/** Founds a fleet of one: voter, builder and member at once. @throws ParleyError `config-exists`, `malformed` for a bad name. */
export async function foundFleet(init: {
  readonly stateFolder: string;
  readonly config: Config;
  readonly name: string;
  readonly site: string;
  readonly nowMs: number;
}): Promise<Enrolled> {
  const name = check(nameSchema, init.name, `the name '${init.name}'`);
  const site = check(nameSchema, init.site, `the site '${init.site}'`);
  return prepare(init.stateFolder, init.config, name, async ({ identity, builderKey, voterKey }) => {
    const recoveryKeyFile = join(init.stateFolder, 'recovery.key');
    const recoveryKey = await openRecoveryKey(recoveryKeyFile);
    const roles: Membership['roles'] = ['member', 'voter', 'builder'];
    const addresses = dialable(init.config);
    const founder = { peer: identity.peer, addresses, system: nixSystem(), builderKey, voterKey, name, site, roles };
    const genesis = createGenesis({ founder, recoveryKey, nonce: randomBytes(16), timeMs: init.nowMs });
    const membership: Membership = {
      version: 1,
      fleet: genesis.fleet,
      genesis: genesis.bytes,
      name,
      site,
      roles,
      raftId: 1,
      contacts: [],
    };
    await writeMembership(init.stateFolder, membership);
    return { peer: identity.peer, membership, recoveryKeyFile };
  });
}

/** The token that standard input holds: its first line that is not empty. @throws ParleyError `not-a-token` for none, or too much. */
export async function readToken(input: AsyncIterable<Buffer | string>): Promise<string> {
  let text = '';
  for await (const chunk of input) {
    text += chunk;
    const line = text.trimStart();
    if (line.includes('\n')) return line.slice(0, line.indexOf('\n'));
    if (text.length > 2 * tokenCharactersMax) break;
  }
  return text.trim();
}

/** Joins the fleet that a token names. @throws ParleyError of the token or the fleet's refusal. */
export async function enrol(init: {
  readonly stateFolder: string;
  readonly config: Config;
  readonly token: string;
  readonly signal: AbortSignal;
}): Promise<Enrolled> {
  const token = parseToken(init.token);
  return prepare(init.stateFolder, init.config, 'builder', async ({ identity, builderKey, voterKey }) => {
    const addresses = dialable(init.config);
    const { signal } = init;
    const grant = await joinFleet({ token, identity, addresses, system: nixSystem(), builderKey, voterKey, signal });
    if (grant.raftId === 0) await rm(voterKeyFileOf(init.stateFolder), { force: true });
    const membership = { version: 1, ...grant } as const;
    await writeMembership(init.stateFolder, membership);
    return { peer: identity.peer, membership };
  });
}

/** @throws ParleyError `not-enrolled` where there is no membership, `membership-unreadable` where there is one of no use. */
export async function loadMembership(stateFolder: string): Promise<Membership> {
  const file = membershipFileOf(stateFolder);
  try {
    return decode(membershipSchema, await readFile(file), membershipBytesMax, 'it');
  } catch (cause) {
    const { message } = cause as Error;
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') {
      throw new ParleyError('not-enrolled', `'${stateFolder}' belongs to no peer of a fleet: ${message}`, {
        hint: 'Run `parley init` to found a fleet on this machine, or `parley join TOKEN` to join one.',
        cause,
      });
    }
    throw new ParleyError('membership-unreadable', `cannot read the membership '${file}': ${message}`, {
      hint: 'Restore the file from a backup, or remove this peer from its fleet and enrol it anew in an empty folder.',
      cause,
    });
  }
}

/** The key that a peer votes with; undefined for one that does not, or whose vote is over. @throws ParleyError of an unusable file. */
export async function loadVoterKey(stateFolder: string, { raftId }: Membership): Promise<Identity | undefined> {
  if (raftId === 0) return undefined;
  return loadIdentity(voterKeyFileOf(stateFolder)).catch((error: ParleyError) => {
    if (error.code !== 'identity-missing') throw error;
    return undefined;
  });
}

/** Runs one enrolment alone on the state folder, with the keys at hand; a second enrolment of a folder is refused. */
async function prepare(
  stateFolder: string,
  config: Config,
  keyName: string,
  work: (keys: {
    readonly identity: Identity;
    readonly builderKey: string;
    readonly voterKey: string;
  }) => Promise<Enrolled>,
): Promise<Enrolled> {
  await mkdir(stateFolder, { recursive: true, mode: 0o700 });
  const lock = await lockStateFolder(stateFolder);
  try {
    const membership = await loadMembership(stateFolder).catch((error: ParleyError) => {
      // A folder whose membership cannot be read belongs to a peer too.
      if (error.code !== 'not-enrolled') throw error;
      return undefined;
    });
    if (membership) {
      throw new ParleyError(
        'already-enrolled',
        `'${stateFolder}' is the peer '${membership.name}' of a fleet already`,
        {
          hint: 'Run `parley run` to start it, or choose another folder with --state.',
        },
      );
    }
    const identity = await openKey(identityFileOf(stateFolder));
    const { peer: voterKey } = await openKey(voterKeyFileOf(stateFolder));
    const { publicKey: builderKey } = await loadBuilderKey(builderKeyFileOf(stateFolder), keyName);
    await writeConfig(join(stateFolder, 'config.json'), config);
    return await work({ identity, builderKey, voterKey });
  } finally {
    await lock.release();
  }
}

/** The key in a file, made there first where there is none. */
export function openKey(file: string): Promise<Identity> {
  return loadIdentity(file).catch((error: ParleyError) => {
    if (error.code !== 'identity-missing') throw error;
    return createIdentity(file);
  });
}

/** Addresses with a fixed port, for others to dial; the mesh tells them the rest when it connects. */
function dialable(config: Config): string[] {
  return [...config.announce, ...config.listen].filter(
    (address) => !/\/tcp\/0(\/|$)|\/ip4\/0\.0\.0\.0\/|\/ip6\/::\//.test(address),
  );
}

/** Replaces the record, whole or not at all. */
export function writeMembership(stateFolder: string, membership: Membership): Promise<void> {
  return replaceDurably(membershipFileOf(stateFolder), encode(membership));
}
