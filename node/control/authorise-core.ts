// Owns who may do what. Pure: the ledger's policy and members in, a yes or a refusal that names who could. The ledger's own
// rules (an author's plan, a stale plan) are judged where the entry is applied, by every peer alike.

import type { Command, CommandName, ForwardedEntry } from '../../protocols/control.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { EntryKind } from '../../protocols/ledger-entries.ts';
import { earlierResult, hasRole, rolesOf } from '../../protocols/ledger-rules.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { OperatorRole } from '../../protocols/policy.ts';

/** Commands that change nothing: whoever gets in may ask them, and the local replica answers when there is no controller. */
const readCommands = [
  'status',
  'peers',
  'whoami',
  'diff',
  'tasks',
  'task',
  'watch',
  'logs',
  'history',
  'notices',
  'voters',
] as const;
type ReadCommandName = (typeof readCommands)[number];
type ChangeCommandName = Exclude<CommandName, ReadCommandName>;

/** Any one of these roles is enough. */
const neededRoles: Readonly<Record<ChangeCommandName, readonly OperatorRole[]>> = {
  discard: ['deployer'],
  commit: ['deployer'],
  update: ['deployer'],
  build: ['deployer'],
  deploy: ['deployer'],
  retry: ['deployer'],
  abort: ['deployer'],
  approve: ['approver'],
  reject: ['approver'],
  rollback: ['deployer', 'approver'],
  invite: ['admin'],
  'voters-add': ['admin'],
  'voters-remove': ['admin'],
  'voters-replace': ['admin'],
  'peers-remove': ['admin'],
};

/** Names shown in a hint; a fleet with more operators than that knows whom to ask. */
const namesShownMax = 8;

export function isReadCommand(name: CommandName): name is ReadCommandName {
  return (readCommands as readonly CommandName[]).includes(name);
}

/** The name in `root@name`; undefined for operators. All `root@…` are one principal. */
export function rootPeerOf(actor: string): string | undefined {
  return actor.startsWith('root@') ? actor.slice('root@'.length) : undefined;
}

/**
 * Who a request of the local socket speaks as.
 * @throws ParleyError `speaking-as-refused` where the peer's config does not allow it, `unknown-operator`.
 */
export function localActor(
  request: { readonly speakAs?: string | undefined },
  peer: { readonly name: string; readonly speakAs: boolean },
  state: LedgerState,
): string {
  if (request.speakAs === undefined) return `root@${peer.name}`;
  if (!peer.speakAs) {
    throw new ParleyError(
      'speaking-as-refused',
      `speaking as '${request.speakAs}' is refused: '${peer.name}' does not allow it`,
      {
        hint: 'Leave `as NAME` out: you then act as root of this peer.',
      },
    );
  }
  const operators = state.policy?.operators ?? {};
  if (Object.hasOwn(operators, request.speakAs)) return request.speakAs;
  throw new ParleyError('unknown-operator', `'${request.speakAs}' is no operator of the policy in force`, {
    hint: operatorsHint(Object.keys(operators)),
  });
}

/**
 * Whether the peer that sent a request can have proven its actor: voters speak for operators and for their own root,
 * every other peer for its own root alone.
 * @throws ParleyError `not-a-voter`.
 */
export function checkSpeaker(sender: string, actor: string, state: LedgerState): void {
  const member = state.members[sender];
  if (member !== undefined) {
    const root = rootPeerOf(actor);
    if (root === undefined ? member.roles.includes('voter') : root === member.name) return;
  }
  throw new ParleyError('not-a-voter', `peer '${member?.name ?? sender}' may not speak for '${actor}'`, {
    hint: 'Use the local socket of a voter.',
  });
}

/**
 * Lets a command pass or says who could give it.
 *
 * Root on a voter has every role. Root elsewhere reads, and commands that device alone: it may roll its own host back, and
 * retry or abort a rollback of it. Operators have the roles of the policy in force.
 * @throws ParleyError `not-allowed`, or `not-a-voter` where root on a voter may.
 */
export function authorise(actor: string, command: Command, state: LedgerState): void {
  if (isReadCommand(command.name)) return;
  const needed = neededRoles[command.name];
  if (needed.some((role) => hasRole(state, actor, role))) return;
  const root = rootPeerOf(actor);
  if (root === undefined) throw refusal(actor, command.name, needed, state);
  if (concernsAlone(command, root, state)) return;
  throw new ParleyError(
    'not-a-voter',
    `'${actor}' may not ${commandWords(command.name)}: '${root}' is no voter, so its socket reads and commands '${root}' alone`,
    { hint: `Use the local socket of a voter (${votersOf(state).join(', ')}).` },
  );
}

/** The entries that commands about voters become. */
export const votersKinds = {
  'voters-add': 'voter-added',
  'voters-replace': 'voter-added',
  'voters-remove': 'voter-removed',
  'peers-remove': 'member-removed',
} as const satisfies Partial<Record<CommandName, EntryKind>>;

/**
 * True for a change of voters that the ledger has taken: asked again it is only followed, and may have cost who gave it its vote.
 * @throws ParleyError `id-taken`.
 */
export function isOnlyFollowed(
  { id, actor, command }: { readonly id: string; readonly actor: string; readonly command: Command },
  state: LedgerState,
): boolean {
  const { [command.name]: kind } = votersKinds as Partial<Record<CommandName, EntryKind>>;
  return kind !== undefined && earlierResult(state, { commandId: id, actor, kind }) !== undefined;
}

/**
 * Lets an entry pass that a peer has prepared: drafts are a deployer's, members speak of themselves, and whoever proves
 * that it has a token (judgeJoin) may be carried by any member.
 * @throws ParleyError `not-allowed`.
 */
export function authoriseEntry(actor: string, entry: ForwardedEntry, sender: string, state: LedgerState): void {
  switch (entry.kind) {
    case 'draft-staged':
    case 'draft-discarded':
      authorise(actor, { name: 'discard' }, state);
      return;
    case 'member-updated':
      if (entry.body.peer === sender) return;
      throw new ParleyError('not-allowed', `peer '${sender}' may not speak for peer '${entry.body.peer}'`);
    case 'member-joined':
      return;
  }
}

/** Operators with any of these roles, sorted. */
function operatorsWith(roles: readonly OperatorRole[], state: LedgerState): string[] {
  return Object.keys(state.policy?.operators ?? {})
    .filter((name) => roles.some((role) => hasRole(state, name, role)))
    .sort();
}

/** Names of the voters, sorted. */
export function votersOf(state: LedgerState): string[] {
  return Object.values(state.members)
    .filter((member) => member.roles.includes('voter'))
    .map((member) => member.name)
    .sort();
}

function concernsAlone(command: Command, host: string, state: LedgerState): boolean {
  if (command.name === 'rollback') return command.host === host;
  if (command.name !== 'abort' && command.name !== 'retry') return false;
  const task = state.tasks[command.task];
  return task?.type === 'rollback' && task.hosts.length === 1 && task.hosts[0] === host;
}

function refusal(
  actor: string,
  name: ChangeCommandName,
  needed: readonly OperatorRole[],
  state: LedgerState,
): ParleyError {
  const roles = rolesOf(state, actor);
  const has = roles.length === 0 ? 'has none' : `is ${roles.join(' and ')} only`;
  const text = `'${actor}' may not ${commandWords(name)}: that needs the role ${needed.join(' or ')}, and '${actor}' ${has}`;
  return new ParleyError('not-allowed', text, { hint: operatorsHint(operatorsWith(needed, state)) });
}

/** A command as people write it. */
function commandWords(name: CommandName): string {
  return name.replace('-', ' ');
}

function operatorsHint(names: readonly string[]): string {
  if (names.length === 0) return 'Root on a voter can (its local socket).';
  const shown = [...names].sort().slice(0, namesShownMax);
  const more = names.length > shown.length ? ` and ${names.length - shown.length} more` : '';
  return `Ask ${shown.join(', ')}${more}, or root on a voter.`;
}
