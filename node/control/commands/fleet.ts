// Owns the commands about a single host or the fleet itself: roll a host back, invite a peer.

import { encode } from '../../../protocols/codec.ts';
import type { Command } from '../../../protocols/control.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import { votersWarning, votingMembers } from '../../../protocols/ledger-rules.ts';
import type { LedgerState } from '../../../protocols/ledger-state.ts';
import { narBytesOf } from '../../../protocols/manifest.ts';
import type { InviteView } from '../../../protocols/views.ts';
import { describePath } from '../closure-changes.ts';
import { readManifest } from '../jobs/job-context.ts';
import { makeRollbackPlan } from '../rollout-plan.ts';
import {
  type CommandContext,
  type CommandEvents,
  earlierTask,
  endEvent,
  followOrLeave,
  peerNamed,
  stateOf,
  submit,
  submitInTurn,
} from './command-context.ts';

type Of<N extends Command['name']> = Extract<Command, { name: N }>;

/** Addresses that a token can hold. */
const tokenAddressesMax = 16;
/** Stands for the commit of a closure that the ledger knows none of. */
const noRevision = '0'.repeat(40);

export async function* rollback(context: CommandContext, command: Of<'rollback'>): CommandEvents {
  const earlier = earlierTask(context, { kind: 'rollback-requested', body: { host: command.host } });
  if (earlier !== undefined) {
    yield* followOrLeave(context, earlier.task);
    return;
  }
  yield { kind: 'progress', text: `looking up what ${command.host} ran before` };
  // The plan names its task before that exists: nobody else may take the number meanwhile.
  const task = await context.inTurn(() => submitRollback(context, command.host));
  yield* followOrLeave(context, task);
}

async function submitRollback(context: CommandContext, host: string): Promise<string | null> {
  const state = stateOf(context);
  const { blobs, ledger } = context.components;
  const { closure, manifest, revision } = closureBefore(host, state);
  const { paths, key, root } = await readManifest(context.components, manifest, context.signal);
  const changes = await describePath(host, paths, state, { ...context.components, signal: context.signal });
  const narBytes = narBytesOf({ version: 1, root, key, paths });
  const builder = Object.values(state.members).find((member) => member.builderKey?.startsWith(`${key}:`))?.name;
  const back = {
    drvPath: null,
    closure,
    manifest,
    builder: builder ?? 'unknown',
    pathCount: paths.length,
    narBytes,
    ...changes,
  };
  const task = `t${stateOf(context).nextTaskNumber}`;
  const plan = makeRollbackPlan({ task, host, revision: revision ?? noRevision, back, state });
  const hash = await blobs.put(encode(plan));
  await ledger.replicateBlob(hash, { signal: context.signal });
  return submitInTurn(context, { kind: 'rollback-requested', body: { host, closure, manifest, plan: hash } });
}

/** @throws ParleyError `unknown-host`, `nothing-to-roll-back`. */
function closureBefore(host: string, state: LedgerState): LedgerState['devices'][string]['ran'][number] {
  peerNamed(host, state);
  const device = Object.hasOwn(state.devices, host) ? state.devices[host] : undefined;
  const before = device?.ran.find(({ closure }) => closure !== device.running);
  if (before !== undefined) return before;
  const ran = device?.ran.length ?? 0;
  const known = ran === 0 ? 'it has run nothing with success yet' : 'it has run no other closure with success';
  throw new ParleyError('nothing-to-roll-back', `'${host}' cannot be rolled back: ${known}`, {
    hint: 'Deploy an earlier state of the project instead.',
  });
}

export async function* invite(context: CommandContext, command: Of<'invite'>): CommandEvents {
  const { peer: name, site, roles, expiresInMs } = command;
  if (earlierTask(context, { kind: 'invite-opened', body: { name, site, roles } }) !== undefined) {
    throw new ParleyError('invite-shown', `the invite for '${name}' was opened, but its token cannot be shown again`, {
      hint: 'Give the command once more: only one of the two tokens can be used.',
    });
  }
  const state = stateOf(context);
  const expiresAtMs = Math.max(state.timeMs, context.components.clock.nowMs()) + expiresInMs;
  const addresses = contactAddresses(state, context);
  if (addresses.length === 0) throw new ParleyError('no-addresses', 'no invite can be made: no voter has an address');
  const { text, keyHash } = context.components.createToken({ fleet: state.fleet, addresses, expiresAtMs });
  await submit(context, { kind: 'invite-opened', body: { keyHash, name, site, roles, expiresAtMs } });
  const warning = roles.includes('voter') ? votersWarning(expectedVoters(stateOf(context))) : undefined;
  const warnings = warning === undefined ? [] : [warning];
  const view: InviteView = { version: 1, token: text, name, site, roles, expiresAtMs, warnings };
  yield { kind: 'view', view: 'invite', data: view };
  yield endEvent({ text: `${name} may join site ${site} until ${new Date(expiresAtMs).toISOString()}` });
}

/** Voters once the open invites are used. */
function expectedVoters(state: LedgerState): number {
  const isComing = ({ usedBy, expiresAtMs, roles }: LedgerState['invites'][string]): boolean =>
    usedBy === null && expiresAtMs > state.timeMs && roles.includes('voter');
  return votingMembers(state).length + Object.values(state.invites).filter(isComing).length;
}

/** This peer's own addresses first, then the other voters': any member can let the new peer in. */
function contactAddresses(state: LedgerState, context: CommandContext): string[] {
  const { mesh } = context.components;
  const others = Object.values(state.members)
    .filter((member) => member.peer !== mesh.self && member.roles.includes('voter'))
    .flatMap((member) => member.addresses.map((address) => withPeer(address, member.peer)));
  return [...new Set([...mesh.addresses(), ...others])].slice(0, tokenAddressesMax);
}

function withPeer(address: string, peer: string): string {
  return address.includes('/p2p/') ? address : `${address}/p2p/${peer}`;
}
