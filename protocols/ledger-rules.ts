// Owns the rules about people, peers and tasks that follow from a ledger state alone and that more than one room asks: who
// may join, who has which role, who may approve, how child tasks are called. Pure; used by the ledger's core and by control.

import { hashOf } from './codec.ts';
import { type Configuration, plainConfiguration } from './consensus-record.ts';
import { ParleyError } from './errors.ts';
import { type InviteProof, inviteKeyHash, isJoinProven, type JoinFacts } from './invite-proof.ts';
import type { EntryBody, EntryKind } from './ledger-entries.ts';
import type { CommandResult, Invite, LedgerState, Member, PlanRecord, Task } from './ledger-state.ts';
import { type OperatorRole, operatorRoleSchema } from './policy.ts';

const rootPrefix = 'root@';
const allRoles: readonly OperatorRole[] = operatorRoleSchema.options;

/** The id of a task's child: `t12/web1` for a host, `t12/build-1` for a build. */
export function childTaskId(task: string, child: string): string {
  return `${task}/${child}`;
}

/** The member with this name, if any. */
export function memberNamed(state: LedgerState, name: string): Member | undefined {
  for (const peer of Object.keys(state.members)) if (state.members[peer]?.name === name) return state.members[peer];
  return undefined;
}

/**
 * What becomes of who asks to join: the invite that it uses, or the member that it is by that invite already. The proof, not
 * whoever carries it, says that the peer has the token.
 * @throws ParleyError `invite-unknown`, `join-unproven`, `already-member`, `invite-used`, `invite-expired`, `name-taken`.
 */
export function judgeJoin(
  state: LedgerState,
  { proof, ...facts }: JoinFacts & { readonly proof: InviteProof },
): { readonly keyHash: string; readonly invite: Invite } | { readonly member: Member } {
  const keyHash = inviteKeyHash(proof.key);
  const invite = Object.hasOwn(state.invites, keyHash) ? state.invites[keyHash] : undefined;
  if (invite === undefined) throw joinRefusal('invite-unknown', 'the fleet knows no such invite');
  const { name, usedBy, expiresAtMs } = invite;
  if (!isJoinProven(state.fleet, facts, proof)) {
    throw joinRefusal('join-unproven', `the signature with the invite for '${name}' does not fit what it came with`);
  }
  const member = state.members[facts.peer];
  if (member !== undefined && usedBy === facts.peer) return { member };
  if (member !== undefined) {
    throw joinRefusal('already-member', `peer '${facts.peer}' is a member already: '${member.name}'`);
  }
  if (usedBy !== null) throw joinRefusal('invite-used', `the invite for '${name}' was used already`);
  if (expiresAtMs <= state.timeMs) {
    const expired = new Date(Math.min(expiresAtMs, 8.64e15)).toISOString();
    throw joinRefusal('invite-expired', `the invite for '${name}' expired at ${expired}`);
  }
  if (memberNamed(state, name) !== undefined) {
    throw joinRefusal('name-taken', `another peer is named '${name}' already`);
  }
  return { keyHash, invite };
}

function joinRefusal(code: string, message: string): ParleyError {
  return new ParleyError(code, message, { hint: 'Ask for a new invite and join with its token.' });
}

/** The configuration of consensus in force. */
export function configurationIn({ voters, learners, joint }: LedgerState): Configuration {
  return { ...plainConfiguration(voters), learners, ...joint };
}

/** Members that are to vote, by name. */
export function votingMembers({ members }: Pick<LedgerState, 'members'>): Member[] {
  return Object.values(members)
    .filter(({ roles }) => roles.includes('voter'))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** What people should know about the number of voters; undefined where it is well chosen. */
export function votersWarning(count: number): string | undefined {
  return count === 2 ? 'with two voters the loss of either stops the fleet: add a third' : undefined;
}

/** All roles of an actor under the policy in force: root on a voter has every role, `admin` implies the others, any role implies `viewer`. */
export function rolesOf(state: LedgerState, actor: string): readonly OperatorRole[] {
  if (actor.startsWith(rootPrefix)) {
    return memberNamed(state, actor.slice(rootPrefix.length))?.roles.includes('voter') ? allRoles : [];
  }
  const operators = state.policy?.operators ?? {};
  const roles = Object.hasOwn(operators, actor) ? (operators[actor]?.roles ?? []) : [];
  if (roles.includes('admin')) return allRoles;
  return allRoles.filter((role) => roles.includes(role) || (role === 'viewer' && roles.length > 0));
}

/** True when the actor has the role under the policy in force. */
export function hasRole(state: LedgerState, actor: string, role: OperatorRole): boolean {
  return rolesOf(state, actor).includes(role);
}

/** True when both names stand for one person: all `root@…` are one. */
export function isSamePerson(actor: string, other: string): boolean {
  return actor === other || (actor.startsWith(rootPrefix) && other.startsWith(rootPrefix));
}

/**
 * What a command's entry says alike whenever the command is given again. Its other fields hold what was looked up or made for
 * it, such as the head, the hosts that a selector came to, a token: they differ from one time to the next.
 */
const statedFields = {
  'invite-opened': ['name', 'site', 'roles'],
  'voter-added': ['peer', 'replaces'],
  'voter-removed': ['peer'],
  'member-removed': ['peer'],
  'update-requested': ['inputs'],
  'build-requested': ['selector'],
  'deploy-requested': ['selector', 'keepGoing'],
  'rollback-requested': ['host'],
  'approval-given': ['task', 'verdict', 'reason'],
  'task-aborted': ['task'],
  'task-retried': ['task'],
} as const satisfies { readonly [K in EntryKind]?: readonly (keyof EntryBody<K>)[] };

const fieldsByKind = new Map<string, readonly string[]>(Object.entries(statedFields));

type Stated = typeof statedFields;
/** A command by what it says itself; its entry is one, too. */
export type StatedCommand = {
  [K in keyof Stated]: { readonly kind: K; readonly body: Pick<EntryBody<K>, Stated[K][number] & keyof EntryBody<K>> };
}[keyof Stated];

/** What a command is about, as 16 hex digits; undefined for kinds that say nothing which stays the same. */
export function aboutOf({ kind, body }: { readonly kind: string; readonly body: object }): string | undefined {
  const fields = fieldsByKind.get(kind);
  const said = new Map<string, unknown>(Object.entries(body));
  return fields && hashOf(fields.map((field) => said.get(field) ?? null)).slice(0, 16);
}

/** Whether a result can be that of a command, as far as is known what either is about. */
export function isAbout(
  { about }: Pick<CommandResult, 'about'>,
  { kind, body }: Pick<GivenCommand, 'kind' | 'body'>,
): boolean {
  return about === undefined || body === undefined || about === aboutOf({ kind, body });
}

/** A command as ids are judged by: who gives it, the kind of the entry that it becomes, and what it says, where that is known. */
export interface GivenCommand {
  readonly commandId?: string | undefined;
  readonly actor: string;
  readonly kind: string;
  readonly body?: object | undefined;
}

/**
 * What a command came to when it was given before, by its id; undefined for one that is new. What a voter's root gave any
 * root may ask for again: on another voter, or on that one once it votes no more.
 * @throws ParleyError `id-taken` where the id is another command's: what that came to says nothing about this one.
 */
export function earlierResult(state: LedgerState, given: GivenCommand): CommandResult | undefined {
  const { commandId, actor, kind } = given;
  if (commandId === undefined || !Object.hasOwn(state.commands, commandId)) return undefined;
  const known = state.commands[commandId];
  const { actor: first = actor, kind: firstKind = kind } = known ?? {};
  const isSameActor = first === actor || (first === rootPrefix && actor.startsWith(rootPrefix));
  if (isSameActor && firstKind === kind && isAbout(known ?? {}, given)) return known;
  const text = `the id '${commandId}' stands for another command: '${firstKind}' of '${first === rootPrefix ? 'root' : first}' at entry ${known?.index}`;
  throw new ParleyError('id-taken', text, { hint: 'Nothing was done. Give the command under a fresh id.' });
}

/** Whose a command's id is: all roots of voters are one person, whatever becomes of their votes. */
export function ownerOfId(state: LedgerState, actor: string): string {
  return actor.startsWith(rootPrefix) && rolesOf(state, actor).length > 0 ? rootPrefix : actor;
}

/** Operators with the role approver under the policy in force, sorted. */
export function approvingOperators(state: LedgerState): string[] {
  return Object.keys(state.policy?.operators ?? {})
    .filter((operator) => hasRole(state, operator, 'approver'))
    .sort();
}

/**
 * True when this actor may approve the plan: with the role approver, and not as its author unless no other operator is
 * an approver. Root does not count as that other approver.
 */
export function mayApprove(state: LedgerState, plan: Pick<PlanRecord, 'author'>, actor: string): boolean {
  if (!hasRole(state, actor, 'approver')) return false;
  return (
    !isSamePerson(actor, plan.author) || !approvingOperators(state).some((name) => !isSamePerson(name, plan.author))
  );
}

/** Who may approve the plan: operators, or `root@…` of each voter where no operator may. Sorted. */
export function approversOf(state: LedgerState, plan: Pick<PlanRecord, 'author'>): string[] {
  const operators = approvingOperators(state).filter((operator) => mayApprove(state, plan, operator));
  if (operators.length > 0) return operators;
  return Object.values(state.members)
    .filter((member) => member.roles.includes('voter'))
    .map((member) => `${rootPrefix}${member.name}`)
    .filter((root) => mayApprove(state, plan, root))
    .sort();
}

/** True until the task has ended. */
export function isOpen(task: Pick<Task, 'status'>): boolean {
  return task.status === 'pending' || task.status === 'running';
}
